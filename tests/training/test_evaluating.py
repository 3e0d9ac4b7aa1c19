"""When evaluations run, which one counts, what is written, and how they are shared out over processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.training.evaluating import Best, Evaluating, Evaluation, by_one


class Lines:
    """A journal that keeps its lines, with their step."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, trainer: Any, values: dict[str, Any]) -> None:
        self.lines.append({"step": trainer.global_step, **values})


def trainer(steps: int, rank: int = 0, world: int = 1) -> Any:
    plugin = SimpleNamespace(forward_context=nullcontext)
    return SimpleNamespace(
        global_step=0,
        max_steps=steps,
        global_rank=rank,
        world_size=world,
        precision_plugin=plugin,
        strategy=None,
    )


def run(callback: Evaluating, steps: int, module: Any = None, accumulate: int = 2) -> None:
    """The hooks of a training, `accumulate` micro-batches a step."""
    loop = trainer(steps)
    module = module if module is not None else nn.Linear(2, 2)
    callback.on_train_start(loop, module)
    for step in range(steps):
        for micro in range(accumulate):
            loop.global_step = step + (micro == accumulate - 1)
            callback.on_train_batch_end(loop, module)


def series(values: list[float], name: str = "score") -> Callable[[Any], Result]:
    """An evaluation that gives these values, one after the other."""
    following = iter(values)
    return lambda module: Result({name: next(following)}, rows=[{"id": "a"}])


def test_at_the_start_when_due_and_at_the_end() -> None:
    journal = Lines()
    callback = Evaluating(journal, {"score": series([0.0, 1.0, 2.0, 3.0])}, 4)  # type: ignore[arg-type]
    run(callback, 10)
    # A score of the evaluation's own name is a number in the line.
    assert journal.lines == [
        {"step": n, "score": value} for n, value in zip((0, 4, 8, 10), range(4), strict=True)
    ]
    assert callback.first_and_last("score") == {"first": 0.0, "last": 3.0}
    assert callback.kept["step"] == 10 and callback.kept["results"]["score"]["rows"] == [{"id": "a"}]
    other = Evaluating(journal, {"score": series([])}, 4)  # type: ignore[arg-type]
    assert other.state_key == callback.state_key
    other.load_state_dict(json.loads(json.dumps(callback.state_dict())))
    assert (other.history, other.kept) == (callback.history, callback.kept)


@pytest.mark.parametrize("higher, counts", [(True, [1, 3]), (False, [1, 2])])
def test_the_best_counts_and_only_then_what_is_chosen_by_it_runs(higher: bool, counts: list[int]) -> None:
    journal = Lines()
    callback = Evaluating(
        journal,  # type: ignore[arg-type]
        {"dev": series([5.0, 4.0, 7.0, 7.0], "f1")},
        2,
        at_start=False,
        epoch=2,
        best=Best("dev", "f1", higher),
        chosen={"test": series([1.0, 2.0], "f1")},
        keep_weights=True,
    )
    module = nn.Linear(2, 2)
    run(callback, 8, module)
    tested = [line["epoch"] for line in journal.lines if "test" in line]
    assert [line["epoch"] for line in journal.lines] == [1, 2, 3, 4] and tested == counts
    assert journal.lines[0] == {"step": 2, "epoch": 1, "dev": {"f1": 5.0}, "test": {"f1": 1.0}}
    assert callback.kept["step"] == 2 * counts[-1]
    assert callback.kept["results"]["test"]["scores"] == {"f1": 2.0}
    assert torch.equal(callback.kept["weights"]["weight"], module.weight)
    assert [entry["dev"]["f1"] for entry in callback.history] == [5.0, 4.0, 7.0, 7.0]


def test_the_module_is_read_without_gradients_and_left_in_its_modes() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    seen = []

    def look(module: Any) -> Result:
        seen.append((torch.is_grad_enabled(), [part.training for part in module]))
        return Result({})

    journal = Lines()
    run(Evaluating(journal, {"look": look}, 9), 1, module)  # type: ignore[arg-type]
    assert seen == [(False, [False, False])] * 2
    assert [part.training for part in module] == [True, False]
    assert not journal.lines, "no scores, no line"


def gathering(monkeypatch: pytest.MonkeyPatch, others: list[Any]) -> None:
    """The other processes of a run give these."""

    def gather(gathered: list[Any], mine: Any) -> None:
        gathered[:] = [mine, *others]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)


def test_parts_of_several_processes_make_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    gathering(monkeypatch, [([1, 4], False), ([2, 5], False)])
    rows = Evaluation(
        lambda module, rank, world: list(range(6))[rank::world],
        lambda parts: Result({"rows": float(sum(map(len, parts)))}, rows=[{"parts": parts}]),
    )
    callback = Evaluating(Lines(), {"rows": rows}, 1)  # type: ignore[arg-type]
    callback.on_train_start(trainer(1, world=3), nn.Linear(1, 1))  # type: ignore[arg-type]
    assert callback.history == [{"step": 0, "rows": 6.0}]
    whole = by_one(series([8.0]), turn=4)
    parts = [whole.part(None, rank, 3) for rank in range(3)]
    assert parts[0] is None and parts[2] is None and whole.whole(parts).scores == {"score": 8.0}


def test_a_process_that_fails_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    gathering(monkeypatch, [(None, True)])
    callback = Evaluating(Lines(), {"score": series([1.0])}, 1)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="another process of this run stopped during an evaluation"):
        callback.on_train_start(trainer(1, world=2), nn.Linear(1, 1))  # type: ignore[arg-type]

    def fail(module: Any) -> Result:
        raise ValueError("its own")

    callback = Evaluating(Lines(), {"score": fail}, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="its own"):
        callback.on_train_start(trainer(1, world=2), nn.Linear(1, 1))  # type: ignore[arg-type]
