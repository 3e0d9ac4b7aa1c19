"""Every family as teacher and student: twenty steps lower the loss, and the student loads through the Auto classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from data.helpers import byte_bpe
from models.helpers import body_of, tokenizer_of
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError

from .helpers import record

PLAIN = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert")
OTHER_SCORES = ("mpnet", "deberta-v3", "modernbert", "gpt2", "llama", "qwen2", "qwen3")


def saved(folder: Path, family: str) -> Path:
    """A tiny teacher with its tokenizer."""
    kind = "roberta" if family in ("roberta", "xlm-roberta", "mpnet") else "bert"
    # The library reads Qwen2's tokenizer as one of bytes, whatever the file says.
    tokenizer = byte_bpe(specials=False) if family == "qwen2" else tokenizer_of(kind)
    body_of(family, num_hidden_layers=4, vocab_size=max(100, len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def words(tiny: list[str], teacher: Path, tmp_path: Path, *more: str) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text(
        "\n".join(" ".join(f"w{(i * j) % 80}" for j in range(1, 18)) for i in range(1, 90)) + "\n"
    )
    kept = [w for w in tiny if not w.startswith(("objective", "teacher", "corpus.path", "optim.lr"))]
    return [
        *kept,
        f"corpus.path={text}",
        "teacher=path",
        f"teacher.path={teacher}",
        "scale.steps=20",
        "student.dropout=0",
        "optim.lr=3e-3",
        *more,
    ]


@pytest.mark.parametrize("objective", ["minilm", "minilmv2"])
@pytest.mark.parametrize("family", [*PLAIN, *OTHER_SCORES])
def test_twenty_steps_lower_the_loss(family: str, objective: str, tiny: list[str], tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", family)
    more = [f"objective={objective}", *(["objective.heads=4"] if objective == "minilmv2" else [])]
    ready = plan(compose_command("distill", words(tiny, teacher, tmp_path, *more)))
    ready.make()
    found = record(ready.folder.path)["held_out_loss"]
    assert found["last"] < 0.99 * found["first"]
    student, loading = AutoModel.from_pretrained(ready.folder.path / "student", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert student.config.num_hidden_layers == 2
    assert len(AutoTokenizer.from_pretrained(ready.folder.path / "student")) > 90


def test_a_student_of_another_family(tiny: list[str], tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", "deberta-v3")
    more = ["objective=minilmv2", "objective.heads=4", "student.family=bert"]
    ready = plan(compose_command("distill", words(tiny, teacher, tmp_path, *more)))
    ready.make()
    found = record(ready.folder.path)["held_out_loss"]
    assert found["last"] < 0.97 * found["first"]
    assert AutoModel.from_pretrained(ready.folder.path / "student").config.model_type == "bert"


@pytest.mark.parametrize("more", [["teacher.rotary=after"], ["teacher.grouped=group"]])
def test_a_decoder_read_in_other_ways_is_another_run(
    more: list[str], tiny: list[str], tmp_path: Path
) -> None:
    teacher = saved(tmp_path / "teacher", "llama")
    base = words(tiny, teacher, tmp_path, "objective=minilmv2", "objective.heads=4")
    usual = plan(compose_command("distill", base))
    ready = plan(compose_command("distill", [*base, *more]))
    assert ready.folder.identity != usual.folder.identity
    ready.make()
    found = record(ready.folder.path)["held_out_loss"]
    assert found["last"] < 0.97 * found["first"]


def test_heads_that_do_not_divide_a_group_are_refused(tiny: list[str], tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", "llama")
    base = words(tiny, teacher, tmp_path, "objective=minilmv2", "teacher.grouped=group")
    with pytest.raises(LabError, match=r"objective\.heads=24 must divide 12"):
        plan(compose_command("distill", [*base, "objective.heads=24"]))
    with pytest.raises(LabError, match=r"use teacher\.grouped=repeat"):
        plan(compose_command("distill", [*base, "objective=minilm"]))
