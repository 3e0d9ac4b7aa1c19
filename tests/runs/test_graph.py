"""The run graph: inputs first, everything once, and nothing that was done before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from minilm_lab.runs.folder import RunFolder
from minilm_lab.runs.graph import Run, stages, walk


@dataclass(frozen=True)
class How:
    runs: Path

    def plain(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Job:
    """Notes that it worked."""

    how: How
    log: list[str]
    fails: bool = False

    def train(self, folder: RunFolder) -> dict[str, Any]:
        self.log.append(folder.name)
        if self.fails:
            raise ValueError("no")
        return {"made": folder.name}


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def run(tmp_path: Path, log: list[str]) -> Any:
    def new(name: str, *inputs: Run, **more: Any) -> Run:
        job = Job(How(tmp_path), log, more.pop("fails", False))
        return Run("distill", name, {"name": name}, job, lambda: 1.0, inputs, **more)

    return new


def test_inputs_are_made_first_and_once(run: Any, log: list[str]) -> None:
    teacher, head = run("assistant"), run("head")
    student = run("student", teacher, head)
    # Another plan of the same assistant is the same run.
    score, other = run("score", student), run("other", run("assistant"))
    assert score.make()["made"] == "score"
    other.make()
    assert log == ["assistant", "head", "student", "score", "other"]
    assert score.make()["made"] == "score" and all(r.done for r in walk([score, other])) and len(log) == 5
    assert score.input("distill") is student and score.input("pretrain") is None


def test_a_run_that_is_done_needs_no_inputs(run: Any, log: list[str]) -> None:
    score = run("score", run("student"))
    replace(score, inputs=()).make()
    score.make()
    assert log == ["score"]


def test_what_fails_stops_what_needs_it(run: Any, log: list[str]) -> None:
    with pytest.raises(ValueError, match="no"):
        run("score", run("student", fails=True)).make()
    assert log == ["student"]


def test_afterwards_is_told_of_the_record_each_time(run: Any) -> None:
    seen: list[Any] = []
    score = run("score", afterwards=seen.append)
    score.make()
    score.make()
    assert [record["made"] for record in seen] == ["score", "score"]


def test_a_walk_has_every_run_once_inputs_first(run: Any) -> None:
    shared = run("shared")
    a, b = run("a", shared), run("b", run("shared"), run("long", shared))
    names = [each.name for each in walk([a, b, a])]
    assert names == ["shared", "a", "long", "b"]
    groups = [[each.name for each in group] for group in stages([a, b])]
    assert groups == [["shared"], ["a", "long"], ["b"]]
    assert walk([]) == [] and stages([]) == []
