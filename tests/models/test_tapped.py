"""A tapped model shows what the library's own complete forward shows, and computes nothing beyond."""

from __future__ import annotations

import weakref
from collections import Counter

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of
from minilm_lab.models.modules import get
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs, Seen

from .helpers import FAMILIES, SHAPE, batch, body_of, library, masked_lm_of

LAYERS = SHAPE["num_hidden_layers"]


ALL = frozenset(range(1, LAYERS + 1))


EVERYTHING = Needs(ALL, ALL, ALL | {0})


#: The library rounds to float32 inside these, whatever the type of the weights.
ROUNDED = ("modernbert", "llama", "qwen2", "qwen3", "deberta")


WITH_HEAD = [name for name in FAMILIES if not name.startswith(("gpt2", "llama", "qwen"))]


def only(*, projections=(), scores=(), hidden=(), logits=False) -> Needs:
    return Needs(frozenset(projections), frozenset(scores), frozenset(hidden), logits)


def exact(family: str, model: PreTrainedModel) -> PreTrainedModel:
    """In float64 where the library works in it."""
    return model if family.startswith(ROUNDED) else model.double()


def close(family: str, ours: Tensor, theirs: Tensor, what: str) -> None:
    tolerance = 3e-5 if family.startswith(ROUNDED) else 1e-10
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}")


def probabilities(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1)


def repeated(tensor: Tensor, width: int, head: int) -> Tensor:
    """Each group of `head` columns as often as makes `width`."""
    return torch.cat([x for x in tensor.split(head, -1) for _ in range(width // tensor.shape[-1])], -1)


@pytest.mark.parametrize("padding", ["none", "right", "left", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_library_at_every_layer(family: str, padding: str) -> None:
    body = exact(family, body_of(family))
    ids, mask = batch(body, padding)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    queries = real[:, None, :, None].expand(-1, body.config.num_attention_heads, -1, ids.shape[1])
    single = [
        only(**{what: {layer}})
        for what in ("projections", "scores", "hidden")
        for layer in range(LAYERS + 1)
        if layer or what == "hidden"
    ]
    with torch.no_grad():
        theirs = library(body, ids, mask)
        for needs in (EVERYTHING, *single):
            seen = Tapped(body, needs)(ids, mask)
            for layer, found in seen.projections.items():
                query, key, value = theirs.projections[layer - 1]
                width, head = query.shape[-1], query.shape[-1] // body.config.num_attention_heads
                for name, mine, expected in zip(
                    found._fields,
                    found,
                    (query, repeated(key, width, head), repeated(value, width, head)),
                    strict=True,
                ):
                    close(family, mine[real], expected[real], f"{name} {layer}")
            for layer, scores in seen.scores.items():
                ours = probabilities(scores, real)
                close(family, ours[queries], theirs.attentions[layer - 1][queries], f"scores {layer}")
            for layer, states in seen.hidden.items():
                close(family, states[real], theirs.hidden[layer][real], f"hidden {layer}")
            found = Needs(frozenset(seen.projections), frozenset(seen.scores), frozenset(seen.hidden))
            assert found == needs


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@pytest.mark.parametrize("family", WITH_HEAD)
def test_logits_equal_the_library(family: str, padding: str) -> None:
    model = exact(family, masked_lm_of(family))
    ids, mask = batch(model, padding)
    places = torch.tensor([1, 13, 14, 30]) if padding != "left" else torch.tensor([5, 21, 30])
    with torch.no_grad():
        theirs = library(model, ids, mask)
        seen = Tapped(model, only(projections={2}, hidden={0, LAYERS}, logits=True))(ids, mask, places)
    assert theirs.logits is not None and seen.logits is not None
    assert seen.logits.shape == (len(places), 100)
    close(family, seen.logits, theirs.logits.flatten(0, 1)[places], "logits")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    close(family, seen.projections[2].query[real], theirs.projections[1][0][real], "query")
    close(family, seen.hidden[LAYERS][real], theirs.hidden[LAYERS][real], "hidden")


def test_a_head_without_masked_positions_answers_nothing() -> None:
    model = masked_lm_of("bert")
    ids, mask = batch(model, "right")
    seen = Tapped(model, only(logits=True))(ids, mask, torch.zeros(0, dtype=torch.int64))
    assert seen.logits is not None and seen.logits.shape == (0, 100)
    with pytest.raises(ValueError, match="masked"):
        Tapped(model, only(logits=True))(ids, mask)
    with pytest.raises(ValueError, match="AutoModelForMaskedLM"):
        Tapped(body_of("bert"), only(logits=True))


def test_layers_differ() -> None:
    """So that the tests above could tell a wrong layer."""
    body = body_of("bert")
    ids, _ = batch(body, "none")
    seen = Tapped(body, EVERYTHING)(ids)
    assert (seen.projections[1].query - seen.projections[2].query).abs().max() > 0.1
    assert (seen.hidden[1] - seen.hidden[2]).abs().max() > 0.1
    assert (seen.scores[1] - seen.scores[2]).abs().max() > 0.1


def _calls(body: PreTrainedModel, needs: Needs) -> Counter[str]:
    """How often each module runs in one pass."""
    ids, mask = batch(body, "right")
    tapped = Tapped(body, needs)
    called: Counter[str] = Counter()
    for name, module in body.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.update([name]))
    tapped(ids, mask)
    return called


@pytest.mark.parametrize("family", [f for f in FAMILIES if not f.startswith("albert")])
def test_nothing_beyond_what_is_read_is_computed(family: str) -> None:
    layers = family_of(body_of(family).config).layers
    for needs, whole in (
        (only(projections={2}), 1),
        (only(scores={2}, hidden={1}), 1),
        (only(hidden={1}), 1),
        (only(hidden={0}), 0),
        (only(projections={1, 2}, hidden={2}), 2),
    ):
        body = body_of(family)
        called = _calls(body, needs)
        ran = {int(name[len(layers) + 1 :].split(".")[0]) for name in called if name.startswith(f"{layers}.")}
        inside = {name for name in called if name.startswith(f"{layers}.{whole}.")}
        # The layer that the pass ends in: its norm and its projections at most, and DeBERTa's of positions.
        allowed = (
            "attn_norm",
            "ln_1",
            "input_layernorm",
            "q_norm",
            "k_norm",
            "proj",
            "pos_dropout",
            "c_attn",
            "Wqkv",
        )
        assert ran <= set(range(whole + 1)), needs
        assert all(name.endswith(allowed) for name in inside), (needs, inside)
        assert not {name for name in called if "pooler" in name or name in ("ln_f", "norm", "final_norm")}
        own = [get(body, f"{layers}.{i}") for i in range(whole)]
        maps = Counter(
            name
            for i in range(len(own))
            for name in called
            if name.startswith(f"{layers}.{i}.") and called[name] > 1
        )
        assert not maps or family.startswith("deberta"), maps


def test_albert_runs_its_layer_as_often_as_needed() -> None:
    """All layers are one module, whose first map runs once a whole layer."""
    for needs, whole in ((only(projections={3}), 2), (only(hidden={1}), 1), (EVERYTHING, 3)):
        called = _calls(body_of("albert"), needs)
        name = "encoder.albert_layer_groups.0.albert_layers.0"
        assert called[f"{name}.attention.query"] == called[f"{name}.ffn"] == whole
        assert not called["pooler"]


def test_needing_nothing_runs_nothing() -> None:
    body = body_of("bert")
    assert not _calls(body, Needs())
    assert Tapped(body, Needs())(torch.zeros(1, 2, dtype=torch.int64)) == Seen()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_body_stays_whole(family: str) -> None:
    body = body_of(family)
    ids, mask = batch(body, "mixed")
    names = [name for name, _ in body.named_modules()]
    before = body(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    tapped = Tapped(body, only(projections={1, 2}, scores={1, 2}, hidden={0, 1}))
    tapped(ids, mask)
    assert [name for name, _ in body.named_modules()] == names
    assert torch.equal(body(input_ids=ids, attention_mask=mask.long()).last_hidden_state, before)
    assert vars(tapped.record) == {"active": False, "layer": 0, "hidden": {}, "maps": {}, "given": {}}


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_kept_alive(family: str, gradient: bool) -> None:
    body = body_of(family)
    tapped = Tapped(body, EVERYTHING)
    ids, mask = batch(body, "mixed")
    passed: list[weakref.ref[Tensor]] = []
    for module in body.modules():
        module.register_forward_hook(
            lambda _module, _inputs, output: (
                passed.append(weakref.ref(output)) if type(output) is Tensor else None
            )
        )
    with torch.set_grad_enabled(gradient):
        seen = tapped(ids, mask)
    passed += [weakref.ref(x) for x in (*seen.hidden.values(), *seen.scores.values(), *seen.projections[2])]
    assert len(passed) > 20 and any(reference() is not None for reference in passed)
    del seen
    assert not any(reference() is not None for reference in passed)


def test_an_error_inside_leaves_no_trace() -> None:
    body = body_of("bert")
    tapped = Tapped(body, EVERYTHING)
    with pytest.raises(IndexError):
        tapped(torch.full((1, 4), 1000))
    assert not tapped.record.active and not tapped.record.hidden and not tapped.record.maps


def test_the_hooks_go_with_the_view() -> None:
    body = body_of("bert")
    first, second = Tapped(body, EVERYTHING), Tapped(body, EVERYTHING)
    assert sum(len(m._forward_hooks) for m in body.modules()) == 2 * 3 * LAYERS
    del first
    assert sum(len(m._forward_hooks) for m in body.modules()) == 3 * LAYERS
    del second
    assert not any(m._forward_hooks for m in body.modules())


def test_no_mask_is_passed_on_when_there_is_none() -> None:
    body = body_of("bert")
    ids, mask = batch(body, "right")
    masks = []
    body.encoder.layer[0].attention.self.register_forward_hook(
        lambda _module, inputs, kwargs, _output: masks.append(kwargs.get("attention_mask", *inputs[1:2])),
        with_kwargs=True,
    )
    tapped = Tapped(body, only(projections={2}))
    tapped(ids)
    tapped(ids, mask)
    assert masks[0] is None and masks[1] is not None


@pytest.mark.parametrize(
    "what, layer, first",
    [("projections", 0, 1), ("projections", 4, 1), ("scores", 4, 1), ("hidden", -1, 0), ("hidden", 4, 0)],
)
def test_impossible_layer(what: str, layer: int, first: int) -> None:
    with pytest.raises(LabError, match=rf"{what}: layer {layer} is outside {first}\.\.{LAYERS}"):
        Tapped(body_of("bert"), only(**{what: {layer}}))
