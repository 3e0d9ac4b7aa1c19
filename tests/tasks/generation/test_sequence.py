"""Nobody sees what decoding could not: by the definition, and in what models compute, exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data.helpers import wordpiece
from transformers import BertConfig, DistilBertConfig, DistilBertModel, GPT2Config

from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.generation import check, sequence
from minilm_lab.tasks.generation.model import check_family, hidden_of, load
from minilm_lab.tasks.generation.sequence import join

from .helpers import FAMILIES, WORDS, batch, symbols, tiny

LENGTHS = [(5, 4), (3, 2), (6, 1)]


def test_who_sees_whom_token_by_token() -> None:
    ids, real, target = batch(LENGTHS)
    joined = join(ids, real, target, mask_id=4)
    width, slots = ids.shape[1], 4
    assert joined.visible.shape == (3, 1, width + slots, width + slots)
    for row, (source, count) in enumerate(LENGTHS):
        # (kind, number) of every column: source 0, 1, …; target 1, 2, …; slot of target token 1, 2, …
        columns = [("source", n) for n in range(source)] + [("target", n + 1) for n in range(count)]
        columns += [("padding", 0)] * (width - len(columns))
        columns += [("slot", n + 1) if n < count else ("unused", 0) for n in range(slots)]
        for q, (query, at) in enumerate(columns):
            for k, (key, of) in enumerate(columns):
                expected = {
                    "source": key == "source",
                    "target": key == "source" or (key == "target" and of <= at),
                    "slot": key == "source" or (key == "target" and of < at) or (key == "slot" and of == at),
                }
                if query in expected:
                    assert bool(joined.visible[row, 0, q, k]) == expected[query], (row, q, k, query, key)
        assert joined.position_ids[row, : source + count].tolist() == list(range(source + count))
        assert joined.position_ids[row, width : width + count].tolist() == list(range(source, source + count))
        assert joined.segments[row, : source + count].tolist() == [0] * source + [1] * count
        assert joined.filled[row].tolist() == [n < count for n in range(slots)]
    assert (joined.input_ids[:, width:] == 4).all() and (joined.segments[:, width:] == 1).all()
    assert joined.visible.any(dim=-1).all(), "a query that sees nothing makes the softmax NaN"


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_target_token_reaches_the_source_or_an_earlier_slot(family: str, kernel: str) -> None:
    model = tiny(family)
    model.set_attn_implementation(kernel)
    ids, real, target = batch(LENGTHS)
    with torch.no_grad():
        hidden, logits = check.forward(model, symbols(model), ids, real, target)
        for row, (source, count) in enumerate(LENGTHS):
            for number in range(count):
                changed = ids.clone()
                changed[row, source + number] = 5 + (int(ids[row, source + number]) - 4) % (WORDS - 5)
                assert changed[row, source + number] != ids[row, source + number]
                other_hidden, other = check.forward(model, symbols(model), changed, real, target)
                before = source + number
                assert torch.equal(hidden[row, :before], other_hidden[row, :before])
                assert torch.equal(logits[row, : number + 1], other[row, : number + 1])
                # Not by seeing nothing at all: every later slot is another.
                for later in range(number + 1, count):
                    assert (logits[row, later] - other[row, later]).abs().max() > 1e-9
                for neighbour in set(range(len(LENGTHS))) - {row}:
                    assert torch.equal(logits[neighbour], other[neighbour])


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family: str) -> None:
    model = tiny(family)
    ids, real, target = batch(LENGTHS)
    with torch.no_grad():
        _, together = check.forward(model, symbols(model), ids, real, target)
        for row, (source, count) in enumerate(LENGTHS):
            own = slice(0, source + count)
            alone = (ids[row : row + 1, own], real[row : row + 1, own], target[row : row + 1, own])
            _, logits = check.forward(model, symbols(model), *alone)
            torch.testing.assert_close(together[row, :count], logits[0], rtol=0, atol=1e-12)


def test_every_source_token_reaches_every_slot() -> None:
    model = tiny()
    ids, real, target = batch(LENGTHS)
    with torch.no_grad():
        _, logits = check.forward(model, symbols(model), ids, real, target)
        for place in range(5):
            changed = ids.clone()
            changed[0, place] = 5 + (int(ids[0, place]) - 4) % (WORDS - 5)
            _, other = check.forward(model, symbols(model), changed, real, target)
            assert ((logits[0] - other[0]).abs().amax(dim=-1) > 1e-9).all()


def test_the_model_is_the_library_s_own_masked_lm() -> None:
    # One slot behind a source, seen by nothing: as BERT fills a [MASK] at the end, except that nobody sees it.
    model = tiny(layers=1)
    source = torch.tensor([[2, 9, 17, 3]])
    ids = torch.cat([source, torch.tensor([[4]])], dim=1)
    segments = torch.tensor([[0, 0, 0, 0, 1]])
    with torch.no_grad():
        library = model(input_ids=ids, token_type_ids=segments).logits[0, -1]
        target = torch.tensor([[False] * 4 + [True]])
        real = torch.ones_like(target)
        _, logits = check.forward(model, symbols(model), torch.cat([source, source[:, :1]], 1), real, target)
    # With one layer the source's states do not matter to the slot, only its keys and values.
    torch.testing.assert_close(logits[0, 0], library, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_before_training_passes_for_every_family(family: str) -> None:
    model = tiny(family).float()
    check.check(model, symbols(model))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda v: torch.ones_like(v), "the source sees the target"),
        (lambda v: _later_too(v), "which it has to predict or which comes later"),
        (lambda v: _no_target(v), "does not see target token 1"),
    ],
)
def test_the_check_finds_a_wrong_mask(change, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def broken(*arguments):  # type: ignore[no-untyped-def]
        joined = sequence.join(*arguments)
        return sequence.Joined(
            joined.input_ids,
            joined.position_ids,
            joined.segments,
            change(joined.visible),
            joined.tokens,
            joined.filled,
        )

    monkeypatch.setattr(check, "join", broken)
    model = tiny().float()
    with pytest.raises(LabError, match=problem):
        check.check(model, symbols(model))


def test_the_check_finds_a_model_that_ignores_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(model, input_ids, position_ids, segments, visible, cache=None):  # type: ignore[no-untyped-def]
        return hidden_of(model, input_ids, position_ids, segments, torch.ones_like(visible), cache)

    monkeypatch.setattr(check, "hidden_of", deaf)
    model = tiny().float()
    with pytest.raises(LabError, match="the source sees the target"):
        check.check(model, symbols(model))
    assert model.config._attn_implementation == "sdpa", "the check leaves the model as it was"


def _later_too(visible):  # type: ignore[no-untyped-def]
    """Slots see all target tokens of the first example; what the source and the target see stays."""
    tokens = sum((check.SOURCES[0], check.TARGETS[0]))
    wrong = visible.clone()
    wrong[0, :, tokens:, :tokens] = True
    return wrong


def _no_target(visible):  # type: ignore[no-untyped-def]
    tokens = sum((check.SOURCES[0], check.TARGETS[0]))
    wrong = visible.clone()
    wrong[0, :, tokens:, check.SOURCES[0] : tokens] = False
    return wrong


def test_other_families_are_refused_by_name(tmp_path: Path) -> None:
    for config in (DistilBertConfig(), GPT2Config()):
        with pytest.raises(LabError, match=f"'{config.model_type}' model cannot.*bert, roberta"):
            check_family(config, "source")
    with pytest.raises(LabError, match="is_decoder=true"):
        check_family(BertConfig(is_decoder=True), "source")
    DistilBertModel(
        DistilBertConfig(vocab_size=9, dim=8, n_heads=2, n_layers=1, hidden_dim=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(LabError, match="source: a 'distilbert' model"):
        load(Backbone(str(tmp_path), None, wordpiece()))
