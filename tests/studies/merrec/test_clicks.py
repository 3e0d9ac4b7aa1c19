"""Questions against loops, what may be known, and that models learn an answer that was put in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import clicks, labels
from minilm_lab.studies.merrec.clicks import SHARED, SINGLE, Clicks, Inputs
from minilm_lab.studies.merrec.log import Log

pytest.importorskip("torch_rechub", reason="models of clicks need the extra: pip install -e '.[merrec]'")
DAY = 86_400


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Clicks:
    of = Clicks(users=250, titles="words", epochs=1)
    of.prepare(None, tmp_path_factory.mktemp("cache"))
    return of


def test_what_comes_later_in_a_session_is_what_a_loop_says(evaluator: Clicks) -> None:
    data = evaluator._log
    asked = labels.ask(data, "session_action", 1685318400, 1685577600)
    assert (data.kind[asked.rows] == 0).all()
    for question in np.random.default_rng(0).choice(len(asked.rows), 400, replace=False):
        row = asked.rows[question]
        after, n = [], row + 1
        while n < len(data.user) and data.session[n] == data.session[row]:
            after += [int(data.kind[n])] if data.item[n] == data.item[row] else []
            n += 1
        assert asked.answers[question].tolist() == [float(1 in after), float(any(kind > 1 for kind in after))]


def log_of(rows: list[tuple[int, int, int, int, int]], items: int) -> Log:
    """(user, item, session, time, kind)."""
    user, item, session, time, kind = np.asarray(rows, dtype=np.int64).T
    stock = {name: np.arange(items) for name in ("title", "c0", "c1", "c2", "brand", "product", "condition")}
    return Log(
        user, item, session, time, kind, {**stock, "price": np.ones(items)}, [str(n) for n in range(items)]
    )


def test_sessions_across_the_cut_are_on_neither_side() -> None:
    data = log_of(
        [
            (0, 0, 0, DAY, 0), (0, 0, 0, DAY + 1, 1), (0, 1, 0, DAY + 2, 0), (0, 1, 0, DAY + 3, 2),
            (0, 2, 1, 9 * DAY, 0), (0, 2, 1, 11 * DAY, 1),  # viewed before, liked after
            (1, 0, 2, 12 * DAY, 0), (1, 0, 2, 12 * DAY + 1, 1), (1, 3, 2, 12 * DAY + 2, 0), (1, 3, 2, 12 * DAY + 3, 5),
        ],
        4,
    )  # fmt: skip
    asked = labels.ask(data, "session_action", 10 * DAY, 20 * DAY)
    assert asked.rows.tolist() == [0, 2, 6, 8] and asked.late.tolist() == [False, False, True, True]
    assert asked.answers.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert asked.facts["questions_across_the_cut"] == 1
    release = labels.ask(data, "event_type", 10 * DAY, 20 * DAY)
    assert (release.answers.sum(axis=1) <= 1).all(), "one event is never a view and a like"
    with pytest.raises(LabError, match="No event to ask about is in the judged period"):
        labels.ask(data, "event_type", 30 * DAY, 40 * DAY)
    with pytest.raises(LabError, match="task buy: all 2 answers"):
        labels.ask(
            log_of([(0, 0, 0, 1, 0), (0, 1, 0, 2, 0), (0, 1, 0, 3, 1), (1, 0, 1, 12 * DAY, 0), (1, 0, 1, 12 * DAY + 1, 1)], 2),
            "session_action", 10 * DAY, 20 * DAY,
        )  # fmt: skip


def test_nothing_of_the_event_or_after_it_is_known(evaluator: Clicks) -> None:
    """Other kinds everywhere, other items after a row: its fields stay."""
    data = evaluator._log
    known = np.ones(len(data.items["title"]), dtype=bool)
    rows = np.arange(50, 60)
    changed = Log(
        data.user, np.where(np.arange(len(data.user)) > 59, 0, data.item), data.session, data.time, 5 - data.kind,
        data.items, data.titles,
    )  # fmt: skip
    first, second = labels.fields(data, rows, known), labels.fields(changed, rows, known)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert "session" not in first and "kind" not in first


def test_numbers_tell_products_apart(evaluator: Clicks) -> None:
    """In the released preprocessing product, colour and history have one value each (its public issue 6)."""
    data = evaluator._log
    values = labels.fields(data, np.arange(len(data.user)), np.ones(len(data.items["title"]), dtype=bool))
    for name in ("item", "product", "c1", "brand", "history", "history_product"):
        assert len(np.unique(values[name])) > 5, name
    later = np.flatnonzero(np.diff(data.session) == 0) + 1
    assert np.array_equal(values["history"][later, -1], data.item[later - 1] + 1)
    cold = np.ones(len(data.items["title"]), dtype=bool)
    cold[data.item[7]] = False
    assert labels.fields(data, np.array([7]), cold)["item"][0] == 0


@pytest.mark.parametrize("model", [*SINGLE, *SHARED])
def test_every_model_learns_an_answer_that_is_in_a_field(model: str) -> None:
    draw = np.random.default_rng(0)
    rows = 3000
    columns = {name: draw.integers(0, 5, rows) for name in labels.FIELDS}
    columns |= {"history": draw.integers(0, 5, (rows, 7)), "history_product": draw.integers(0, 5, (rows, 7))}
    columns |= {"price": draw.random(rows).astype(np.float32), "title": draw.integers(0, 4, rows)}
    columns["history_title"] = np.full((rows, 7), -1)
    answers = np.stack([columns["brand"] > 2, columns["title"] == 1], axis=1).astype(np.float32)
    of = Clicks(model=model, epochs=6, batch=128, lr=1e-2, titles="words")
    inputs = Inputs(columns, torch.eye(4))
    learn, judge = np.arange(2500), np.arange(2500, 3000)
    chance = of._trained(inputs, torch.from_numpy(answers), learn, judge, 0)
    for task in range(2):
        scores = clicks._judged(
            "x", chance[:, task], answers[judge, task], judge // 5, answers[learn, task].mean()
        )
        assert scores["x_auc"] > 97 and scores["x_log_loss"] < scores["x_base_log_loss"] / 2


def test_gates_are_parameters_and_are_learned() -> None:
    """In the released MMoE they are a plain list: in no optimiser and in no checkpoint."""
    columns = {name: np.arange(6) for name in labels.FIELDS}
    columns |= {"history": np.ones((6, 7), dtype=int), "history_product": np.ones((6, 7), dtype=int)}
    columns |= {
        "price": np.ones(6, dtype=np.float32),
        "title": np.zeros(6, dtype=int),
        "history_title": np.full((6, 7), -1),
    }
    inputs = Inputs(columns, None)
    net = clicks.build("mmoe", inputs, 4, 2)
    gates = [name for name, _ in net.named_parameters() if name.startswith("gates.")]
    assert len(gates) >= 2 and all(name in net.state_dict() for name in gates)
    net(inputs.batch(torch.arange(6))).sum().backward()
    assert all(dict(net.named_parameters())[name].grad is not None for name in gates)


def test_scores_of_a_generated_month(evaluator: Clicks, tmp_path: Path) -> None:
    result = evaluator(None)  # type: ignore[arg-type]
    assert {"like_auc", "like_auc_low", "buy_auc", "like_log_loss", "like_base_log_loss"} <= set(
        result.scores
    )
    assert result.scores["like_auc_low"] <= result.scores["like_auc"] <= result.scores["like_auc_high"]
    again = evaluator(None)  # type: ignore[arg-type]
    assert again.scores == result.scores


def test_what_does_not_fit_is_named() -> None:
    for settings, message in (
        ({"label": "click"}, "evaluator.label=click: choose one of event_type, session_action"),
        ({"model": "esmm"}, "evaluator.model=esmm: choose one of deepfm"),
        ({"epochs": 0}, "evaluator.epochs=0 must be at least 1"),
    ):
        with pytest.raises(LabError, match=message):
            Clicks(**settings)  # type: ignore[arg-type]
