"""The faults of the benchmark's released code, one by one: what it does stands in each docstring; ours does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import defects, labels, log, training
from minilm_lab.studies.merrec.clicks import Clicks
from minilm_lab.studies.merrec.log import Examples, Log
from minilm_lab.studies.merrec.next_item import NextItem
from minilm_lab.studies.merrec.sequences import Items, Sequence

DAY = 86_400


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def sessions(count: int, length: int) -> Log:
    """Item n is followed by n + 1, modulo 12; the last third is after day 15."""
    rows = [
        (s // 3, (s + n) % 12, s, (20 if s >= count * 2 // 3 else 1) * DAY + s * 60 + n, 0)
        for s in range(count)
        for n in range(length)
    ]
    user, item, session, time, kind = np.asarray(rows, dtype=np.int64).T
    return Log(user, item, session, time, kind, {"title": np.arange(12)}, [str(n) for n in range(12)])


def test_the_target_is_the_next_item() -> None:
    """EvalDataset cuts the input once more, so history 11 … 16 is judged by 13 → 15 in validation and 13 → 16 in test."""
    data = sessions(30, 6)
    judged = log.cut(data, 15 * DAY, 40 * DAY, length=4, most=10**6).judged
    assert ((judged.target - judged.history[:, -1]) % 12 == 1).all()
    for steps in (2, 3):
        shifted = defects.ahead(judged, steps)
        assert ((shifted.target - shifted.history[:, -1]) % 12 == steps).all()
    with pytest.raises(LabError, match="No judged session has 3 events"):
        defects.ahead(log.cut(sessions(30, 2), 15 * DAY, 40 * DAY, length=4, most=99).judged, 2)


def test_nothing_is_foretold_from_itself() -> None:
    """SASRec masks padding alone: changing the last input moves what is said before it, which is trained to be that input."""
    torch.manual_seed(0)
    history, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 3, 9]])
    moved = {}
    for causal in (True, False):
        of = Sequence(Items(12, 8, None, None, True), "sasrec", length=4, dropout=0.0, causal=causal).eval()
        moved[causal] = float((of(history) - of(other)).detach()[:, :-1].abs().max())
    assert moved[True] == 0 and moved[False] > 1e-3
    assert training.Training().causal and NextItem()._settings().causal
    assert not NextItem(defects=["no_causal_mask"])._settings().causal


def test_what_cannot_be_known_is_not_foretold_in_training() -> None:
    """Items drawn evenly from twelve cannot be foretold better than ln 12 = 2.48; with the fault the loss says they can."""
    draw = np.random.default_rng(0)
    data = sessions(240, 6)
    data = replace(data, item=draw.integers(0, 12, len(data.item)))
    parts = log.cut(data, 15 * DAY, 40 * DAY, length=6, most=10**6)
    unseen = torch.from_numpy(draw.integers(0, 12, (500, 7)))
    value = {}
    for causal in (True, False):
        settings = training.Training("sasrec", width=16, length=6, epochs=30, batch=32, lr=1e-2, negatives=12, causal=causal)  # fmt: skip
        of = training.train(data, parts, None, True, settings, 0)
        with torch.no_grad():
            value[causal] = float(training.step_loss(of, unseen, torch.arange(12), 12))
    assert value[True] > 2.4 and value[False] < 1.5


def test_the_last_place_gives_the_scores() -> None:
    """The released validator averages scores over all places, padding too."""
    torch.manual_seed(0)
    of = Sequence(Items(12, 8, None, None, True), "sasrec", length=4, dropout=0.0).eval()
    history = np.array([[-1, -1, 3, 4]])
    last = training.states(of, history)
    with torch.no_grad():
        assert torch.allclose(last, of(torch.from_numpy(history))[:, -1])
        assert torch.allclose(defects.mean_states(of, history), of(torch.from_numpy(history)).mean(dim=1))
    assert not torch.allclose(last, defects.mean_states(of, history))


def test_events_are_in_order_of_time_whatever_the_files_hold() -> None:
    """The released preprocessing for sessions sorts nothing (test_prepare writes files in a drawn order and reads them back)."""
    data = sessions(30, 6)
    parts = log.cut(data, 15 * DAY, 40 * DAY, length=4, most=10**6)
    mixed, changed = defects.unsorted(data, parts)
    steps = {name: (np.diff(values.item[parts.train].reshape(-1, 6), axis=1) % 12 == 1).mean() for name, values in (("ours", data), ("theirs", mixed))}  # fmt: skip
    assert steps["ours"] == 1 > 0.5 > steps["theirs"]
    assert np.array_equal(np.sort(changed.judged.history, axis=1), np.sort(parts.judged.history, axis=1))
    assert np.array_equal(changed.judged.history < 0, parts.judged.history < 0)
    assert np.array_equal(np.sort(mixed.item), np.sort(data.item))


def test_fields_tell_items_apart(cache: Path) -> None:
    """product_id_map is read by ``.get(x, len(map))`` and never written: product, colour and all history have one value."""
    of = Clicks(users=60, titles="words")
    of.prepare(None, cache)
    data = of._log
    columns = labels.fields(data, np.arange(len(data.user)), np.ones(len(data.items["title"]), dtype=bool))
    constant = defects.constant_fields(columns)
    for name in ("item", "product", "history", "history_product"):
        assert len(np.unique(columns[name])) > 5 and len(np.unique(constant[name])) == 1


def test_a_session_is_on_one_side(cache: Path) -> None:
    """A random split of rows puts events of a session into both sets; it also learns from what comes later."""
    of = Clicks(users=60, titles="words")
    of.prepare(None, cache)
    asked = labels.ask(of._log, "event_type", 1685318400, 1685577600)
    for questions, across in ((asked, False), (defects.random_rows(asked), True)):
        session = of._log.session[questions.rows]
        both = np.intersect1d(session[questions.late], session[~questions.late])
        assert bool(len(both)) is across
        time = of._log.time[questions.rows]
        assert bool(time[~questions.late].max() > time[questions.late].min()) is across


def test_the_same_seed_gives_the_same_examples() -> None:
    """main.py seeds nothing, and random.random() picks sequences: each model has another data set."""
    data = sessions(30, 6)
    first, again = (log.cut(data, 15 * DAY, 40 * DAY, length=4, most=20).judged for _ in range(2))
    assert all(
        np.array_equal(getattr(first, name), getattr(again, name)) for name in Examples.__dataclass_fields__
    )


def test_each_switch_is_known_and_off() -> None:
    assert NextItem().defects == [] and Clicks().defects == []
    with pytest.raises(LabError, match=r"'no_casual_mask' is none of .* Did you mean 'no_causal_mask'"):
        NextItem(defects=["no_casual_mask"])
    with pytest.raises(LabError, match="'unsorted' is none of constant_fields"):
        Clicks(defects=["unsorted"])


@pytest.mark.parametrize("name", defects.OF_NEXT)
def test_a_switch_reaches_the_numbers_of_next(cache: Path, name: str) -> None:
    settings = {"users": 60, "titles": "words", "width": 8, "epochs": 1, "most": 200, "negatives": 16}
    scores = []
    for names in ([], [name]):
        of = NextItem(**settings, defects=names)  # type: ignore[arg-type]
        of.prepare(None, cache)
        result = of(None)  # type: ignore[arg-type]
        assert result.facts["defects"] == names
        scores.append(result.scores["mrr"])
    assert scores[0] != scores[1]


@pytest.mark.parametrize("name", defects.OF_CLICKS)
def test_a_switch_reaches_the_numbers_of_clicks(cache: Path, name: str) -> None:
    pytest.importorskip("torch_rechub", reason="models of clicks need the extra: pip install -e '.[merrec]'")
    scores = []
    for names in ([], [name]):
        of = Clicks(users=60, titles="none", epochs=1, label="event_type", defects=names)
        of.prepare(None, cache)
        scores.append(of(None).scores["view_log_loss"])  # type: ignore[arg-type]
    assert scores[0] != scores[1]
