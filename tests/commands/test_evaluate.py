"""`minilm-lab evaluate`: any model, without training; and as a column of a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.commands.tables.planning import cell_runs, words_of
from minilm_lab.commands.tables.planning import plan as plan_table
from minilm_lab.commands.tables.spec import ColumnSpec, RowSpec, TableSpec
from minilm_lab.errors import LabError
from minilm_lab.runs.graph import walk


@pytest.fixture
def knn(tiny_task: Path) -> list[str]:
    task = ["task@evaluator.task=classification", f"evaluator.task.path={tiny_task}"]
    return ["evaluator=knn", *task, "evaluator.k=3", "evaluator.length=24", "evaluator.dev_examples=21"]


def test_a_student_is_made_first_and_measured_once(
    tiny: list[str], tiny_tune: list[str], knn: list[str]
) -> None:
    run = plan(compose_command("evaluate", [*tiny, *knn]))
    assert [needed.command for needed in walk([run])] == ["distill", "evaluate"]
    record = run.make()
    assert record["score"]["value"] == record["scores"][record["score"]["name"]]
    assert record["source"]["run"] == run.inputs[0].identity
    assert record["layers"] == 2 and record["parameters"]["total"] > 0
    rows = (run.folder.path / "predictions.jsonl").read_text().splitlines()
    assert len(rows) == 21 and "prediction" in json.loads(rows[0])
    assert plan(compose_command("evaluate", [*tiny, *knn])).done
    # The student is that of a fine-tuning, and was not measured along the way.
    tuned = plan_finetune(compose_command("finetune", [*tiny, *tiny_tune]))
    assert tuned.inputs[0].identity == run.inputs[0].identity
    assert "evaluation" not in (run.inputs[0].folder.result() or {})


def test_the_teacher_is_measured_too(tiny: list[str], knn: list[str], tiny_teacher: Path) -> None:
    teacher = plan(compose_command("evaluate", [*tiny, *knn, "source=teacher"])).make()
    folder = plan(compose_command("evaluate", [*tiny, *knn, f"source={tiny_teacher}"])).make()
    assert teacher["scores"] == folder["scores"] and teacher["identity"] != folder["identity"]


def test_nothing_to_measure(tiny: list[str]) -> None:
    with pytest.raises(LabError, match="evaluator=none measures nothing"):
        plan(compose_command("evaluate", [*tiny, "evaluator=none"]))


def test_a_column_may_be_an_evaluation(tiny: list[str], tiny_tune: list[str], knn: list[str]) -> None:
    rows = [RowSpec("s", "{shape}", []), RowSpec("t", "T", ["source=teacher"], teacher=True)]
    columns = [ColumnSpec("a", "A", []), ColumnSpec("k", "K", knn, command="evaluate")]
    planned = plan_table(TableSpec("T", "i", rows, columns), [*tiny, *tiny_tune], 2)
    runs = cell_runs(planned)
    assert [run.command for run in runs] == [
        "finetune",
        "evaluate",
        "finetune",
        "evaluate",
        "finetune",
        "finetune",
    ]
    assert len(walk(runs)) == 7, "one student for both columns"
    words = words_of(planned)
    assert words[runs[1].identity][0] == "evaluate" and words[runs[0].inputs[0].identity][0] == "finetune"
    for run in runs:
        command, own = words[run.identity]
        assert not [word for word in own if word.startswith("tune.seed")] or command == "finetune"
