"""Teacher assistants: the paper's rule, chains, and that each is made once and shared."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModel, BertConfig

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.models.assistant import Assistant
from minilm_lab.models.student import Student
from minilm_lab.runs.graph import walk

BASE = BertConfig(num_hidden_layers=12, hidden_size=768, num_attention_heads=12, intermediate_size=3072)


def student(layers: int, width: int) -> Student:
    return Student(name="s", layers=layers, hidden_size=width, heads=12)


@pytest.mark.parametrize(
    ("layers", "width", "assistants"),
    [
        (6, 768, []),  # the paper's 6 x 768 has none: its width is the teacher's
        (12, 384, []),
        (7, 384, []),
        (6, 384, [(12, 384)]),
        (4, 384, [(12, 384)]),
        (3, 384, [(12, 384)]),
    ],
)
def test_auto_is_the_papers_rule(layers: int, width: int, assistants: list[tuple[int, int]]) -> None:
    made = Assistant(rule="auto").students(student(layers, width), BASE)
    assert [(s.layers, s.hidden_size) for s in made] == assistants
    assert all(s.heads == 12 for s in made)


def test_a_chain_takes_ratios_of_the_teacher() -> None:
    chain = Assistant(
        rule="chain", chain=[{"layers": 12, "hidden_size": 384}, {"depth_ratio": 0.5, "width_ratio": 0.5}]
    )
    made = chain.students(student(3, 384), BASE)
    assert [(s.layers, s.hidden_size) for s in made] == [(12, 384), (6, 384)]


@pytest.mark.parametrize(
    ("rule", "chain", "says"),
    [
        ("sometimes", [], "allowed are none, auto, chain"),
        ("chain", [], "at least one shape"),
        ("auto", [{"layers": 3}], "rule=chain"),
        ("chain", [{"layer": 3}], "layers"),
        ("chain", [{"layers": "many", "hidden_size": 2}], "assistant.chain\\[0\\].layers"),
    ],
)
def test_an_impossible_rule_is_refused(rule: str, chain: list[object], says: str) -> None:
    with pytest.raises(LabError, match=says):
        Assistant(rule=rule, chain=chain)


def test_an_assistant_larger_than_the_teacher_or_smaller_than_the_student_is_refused() -> None:
    for layers in (13, 4):
        with pytest.raises(LabError, match="must be smaller than the one before"):
            Assistant(rule="chain", chain=[{"layers": layers, "hidden_size": 384}]).students(
                student(6, 384), BASE
            )


def test_a_student_learns_from_its_assistant_which_is_made_once(tiny: list[str]) -> None:
    words = [*tiny, "assistant=auto", "student=half_depth_half_width"]
    ready = plan(compose_command("distill", words))
    assistant = ready.input("distill")
    assert [run.command for run in walk([ready])] == ["distill", "distill"]
    assert assistant is not None
    assert assistant.what["student"]["layers"] == 4 and assistant.what["student"]["hidden_size"] == 24
    assert ready.what["teacher"]["run"] == assistant.identity
    ready.make()
    stamps = (assistant.folder.path / "result.json").stat().st_mtime_ns
    # The student's teacher is the assistant's product: its own config says 24 wide, 4 layers.
    assert AutoModel.from_pretrained(assistant.folder.path / "student").config.num_hidden_layers == 4
    assert AutoModel.from_pretrained(ready.folder.path / "student").config.hidden_size == 24

    other = plan(compose_command("distill", [*words, "student.depth_ratio=0.25"]))
    assert other.inputs[0].identity == assistant.identity
    other.make()
    assert (assistant.folder.path / "result.json").stat().st_mtime_ns == stamps
    direct = plan(compose_command("distill", [*words, "assistant=none"]))
    assert direct.folder.identity != ready.folder.identity


def test_ratios_of_the_student_are_to_the_first_teacher(tiny: list[str]) -> None:
    ready = plan(compose_command("distill", [*tiny, "assistant=auto", "student=half_depth_half_width"]))
    assert (ready.what["student"]["layers"], ready.what["student"]["hidden_size"]) == (2, 24)


def test_a_killed_chain_goes_on_where_it_was(tiny: list[str], lab, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = [*tiny, "assistant=auto", "student=half_depth_half_width"]
    plain = plan(compose_command("distill", words))
    running = lab.start("distill", *words)
    running.wait_until(lambda: (plain.inputs[0].folder.path / "result.json").exists())
    running.signal(9)
    running.finish()
    stamp = (plain.inputs[0].folder.path / "result.json").stat().st_mtime_ns
    assert lab.run("distill", *words).code == 0
    assert (plain.inputs[0].folder.path / "result.json").stat().st_mtime_ns == stamp
    assert plain.folder.result() is not None
