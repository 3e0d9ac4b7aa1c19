"""Sequence models: what may see what, losses against whole softmaxes, and that each learns what was put in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import log, sequences, training
from minilm_lab.studies.merrec.log import Log
from minilm_lab.studies.merrec.sequences import MODELS, Items, Sequence

DAY = 86_400


def model(name: str, items: int = 12, **settings: object) -> Sequence:
    torch.manual_seed(0)
    return Sequence(Items(items, 8, None, None, True), name, length=6, dropout=0.0, **settings).eval()  # type: ignore[arg-type]


def history(*rows: list[int]) -> Tensor:
    return torch.tensor([[-1] * (6 - len(row)) + row for row in rows])


@pytest.mark.parametrize("name", ["gru4rec", "sasrec"])
def test_what_comes_later_changes_nothing_before(name: str) -> None:
    of = model(name)
    first, second = of(history([1, 2, 3, 4])), of(history([1, 2, 3, 9]))
    assert torch.allclose(first[:, :-1], second[:, :-1]) and not torch.allclose(first[:, -1], second[:, -1])


def test_bert_reads_both_sides_and_never_what_it_foretells() -> None:
    of = model("bert4rec")
    hidden = torch.tensor([[False] * 4 + [True, False]])
    first = of(history([1, 2, 3, 4]), hidden)[:, 4]
    assert torch.allclose(first, of(history([1, 2, 7, 4]), hidden)[:, 4])
    assert not torch.allclose(first, of(history([1, 2, 3, 9]), hidden)[:, 4])


@pytest.mark.parametrize("name", MODELS)
def test_empty_places_are_not_read(name: str) -> None:
    of = model(name)
    padded = of.next(history([1, 2, 3]))
    if name == "gru4rec":  # zeros go through its state: the same ones, whatever the items of other rows
        assert torch.allclose(padded, of.next(history([1, 2, 3], [1, 2, 3, 4, 5, 6]))[:1], atol=1e-6)
        return
    if name == "bert4rec":
        assert torch.allclose(padded, of.next(torch.tensor([[-1, 1, 2, 3]])), atol=1e-6)
        return
    assert torch.allclose(padded, of.next(torch.tensor([[1, 2, 3]])), atol=1e-6)


def test_all_items_as_negatives_are_a_whole_softmax() -> None:
    of = model("sasrec")
    batch = torch.tensor([[-1, -1, 1, 2, 3, 4, 1], [0, 5, 2, 2, 8, 9, 11]])
    value = training.step_loss(of, batch, torch.arange(12), 12)
    out, target = of(batch[:, :-1]), batch[:, 1:]
    wanted = (target >= 0) & (batch[:, :-1] >= 0)
    logits = out[wanted] @ of.items(torch.arange(12)).T
    assert value.item() == pytest.approx(
        torch.nn.functional.cross_entropy(logits, target[wanted]).item(), rel=1e-5
    )


def test_drawn_negatives_stand_for_all() -> None:
    of = model("sasrec", items=400)
    batch = torch.randint(0, 400, (4, 7), generator=torch.Generator().manual_seed(1))
    whole = training.step_loss(of, batch, torch.arange(400), 400).item()
    torch.manual_seed(5)
    drawn = [training.step_loss(of, batch, torch.arange(400), 100).item() for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(whole, abs=0.03)


def test_an_item_is_its_number_its_title_or_both() -> None:
    titles, of = torch.randn(3, 5), torch.tensor([0, 1, 1, 2])
    text = Items(4, 8, titles, of, False)
    same = text(torch.tensor([1, 2]))
    assert torch.allclose(same[0], same[1]), "equal titles are one thing to text"
    both = Items(4, 8, titles, of, True)
    assert both.table is not None and both.map is not None
    assert torch.allclose(both(torch.tensor([3])), both.table(torch.tensor([3])) + both.map(titles[2]))
    both.known = torch.tensor([True, True, True, False])
    assert torch.allclose(both.eval()(torch.tensor([3])), both.map(titles[2])), (
        "a row that was never trained is none"
    )


def chains(tmp: int = 0) -> Log:
    """Item n is followed by n + 1, modulo 10; items 10 to 19 are the same under other numbers, seen late only."""
    draw, lines = np.random.default_rng(tmp), []
    for session in range(300):
        begin, late = int(draw.integers(10)), session >= 240
        for n in range(5):
            item = (begin + n) % 10 + (10 if late and session % 2 else 0)
            lines.append((session // 4, item, session, (20 if late else 1) * DAY + session * 60 + n, 0))
    user, item, session, time, kind = np.asarray(lines, dtype=np.int64).T
    title = np.arange(20) % 10
    return Log(user, item, session, time, kind, {"title": title}, [str(n) for n in range(10)])


@pytest.mark.parametrize("name", MODELS)
def test_a_chain_is_learned(name: str) -> None:
    data = chains()
    parts = log.cut(data, 15 * DAY, 40 * DAY, length=6, most=10**6)
    settings = training.Training(
        name,
        width=16,
        heads=2,
        length=6,
        epochs=70 if name == "bert4rec" else 25,
        batch=32,
        lr=1e-2,
        negatives=20,
    )
    of = training.train(data, parts, torch.eye(10), False, settings, 0)
    with torch.no_grad():
        scores = training.states(of, parts.judged.history) @ of.items(torch.arange(20)).T
    best = scores.argmax(dim=1).numpy()
    # By text the late items are known though nobody has had them: numbers of equal titles tie.
    assert (best % 10 == parts.judged.target % 10).mean() > 0.95
    assert parts.judged.cold.any() and not parts.judged.cold.all()


def test_a_training_is_a_function_of_its_seed() -> None:
    data = chains()
    parts = log.cut(data, 15 * DAY, 40 * DAY, length=6, most=10**6)
    settings = training.Training("gru4rec", width=8, length=6, epochs=1, negatives=4)
    state = torch.random.get_rng_state()
    first, again, other = (training.train(data, parts, None, True, settings, seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random numbers are left alone"
    for (name, one), two in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert any(
        not torch.equal(one, two) for one, two in zip(first.parameters(), other.parameters(), strict=True)
    )


def test_windows_hold_every_transition_once() -> None:
    data = chains()
    parts = log.cut(data, 15 * DAY, 40 * DAY, length=3, most=10**6)
    rows = training.windows(data, parts, 3)
    pairs = [(a, b) for row in rows for a, b in pairwise(row) if a >= 0]
    expected = [
        (int(a), int(b))
        for begin, end in zip(parts.bounds[:-1], parts.bounds[1:], strict=True)
        for a, b in zip(
            data.item[parts.train][begin : end - 1], data.item[parts.train][begin + 1 : end], strict=True
        )
    ]
    assert sorted(pairs) == sorted(expected)


def test_what_cannot_be_is_refused() -> None:
    items = Items(4, 8, None, None, True)
    with pytest.raises(LabError, match=r"model=sasrek: .* Did you mean 'sasrec'"):
        Sequence(items, "sasrek", length=4)
    with pytest.raises(LabError, match="width=8 must be a multiple of heads=3"):
        Sequence(items, "sasrec", length=4, heads=3)
    with pytest.raises(LabError, match="negatives=0"):
        training.Training(negatives=0)
    assert sequences.MODELS == ("gru4rec", "sasrec", "bert4rec")


def test_an_early_exit_is_the_shallower_model() -> None:
    deep, shallow = model("sasrec", blocks=4), model("sasrec", blocks=2)
    shallow.load_state_dict({name: value for name, value in deep.state_dict().items() if not name.startswith(("blocks.2", "blocks.3"))})  # fmt: skip
    rows = history([1, 2, 3], [4, 5, 6, 7])
    assert torch.equal(deep.next(rows, [0, 1]), shallow.next(rows))
    assert not torch.allclose(deep.next(rows, [0, 2]), shallow.next(rows))
    assert torch.equal(deep.next(rows, [0, 1, 2, 3]), deep.next(rows))


def test_batches_hold_every_row_once_and_similar_lengths() -> None:
    sizes = torch.randint(2, 21, (1000,), generator=torch.Generator().manual_seed(0))
    batches = training.by_length(sizes, 32)
    assert sorted(torch.cat(batches).tolist()) == list(range(1000))
    assert max(len(batch) for batch in batches) == 32
    spread = [int(sizes[batch].max() - sizes[batch].min()) for batch in batches]
    assert np.mean(spread) < 4


@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_empty_places_in_front_may_be_left_out(name: str) -> None:
    of = model(name)
    rows = history([1, 2, 3], [4, 5, 6])
    hidden = torch.zeros_like(rows, dtype=torch.bool) if name == "bert4rec" else None
    short = None if hidden is None else hidden[:, -3:]
    assert torch.allclose(of(rows, hidden)[:, -3:], of(rows[:, -3:], short), atol=1e-6)
