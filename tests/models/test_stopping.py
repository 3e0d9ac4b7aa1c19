"""A stopped model gives the library's own Q, K, V, shares its parameters, and computes nothing beyond."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import AutoModel

from minilm_lab.errors import LabError
from minilm_lab.models import families, stopping
from minilm_lab.models.stopping import StoppedModel, self_check, unreached

from .helpers import FAMILIES, SHAPE, batch, body_of, config_of, library_projections

LAYERS = SHAPE["num_hidden_layers"]


@pytest.mark.parametrize("padding", ["none", "right", "left", "mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_library_at_every_layer(family: str, padding: str) -> None:
    body = body_of(family).double()
    ids, mask = batch(body, padding)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    for layer in range(1, LAYERS + 1):
        with torch.no_grad():
            ours = StoppedModel(body, layer)(ids, mask)
            theirs = library_projections(body, layer, ids, mask)
        for name, mine, expected in zip(ours._fields, ours, theirs, strict=True):
            assert mine.shape == (3, 11, SHAPE["hidden_size"])
            torch.testing.assert_close(
                mine[real], expected[real], rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_layers_differ() -> None:
    """So that the test above could tell a wrong layer."""
    body = body_of("bert")
    ids, _ = batch(body, "none")
    first, second = (StoppedModel(body, layer)(ids).query for layer in (1, 2))
    assert (first - second).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_the_body_stays_whole(family: str) -> None:
    body = body_of(family)
    ids, mask = batch(body, "mixed")
    names = [name for name, _ in body.named_modules()]
    before = body(input_ids=ids, attention_mask=mask).last_hidden_state
    StoppedModel(body, 2)(ids, mask)
    assert [name for name, _ in body.named_modules()] == names
    assert torch.equal(body(input_ids=ids, attention_mask=mask).last_hidden_state, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_the_stopped_view_trains_the_body(family: str) -> None:
    body = body_of(family)
    ids, _ = batch(body, "none")
    stopped = StoppedModel(body, LAYERS)
    before = {name: p.detach().clone() for name, p in body.named_parameters()}
    optimizer = torch.optim.SGD(stopped.parameters(), lr=0.1)
    sum(x.square().mean() for x in stopped(ids)).backward()
    optimizer.step()
    changed = {name for name, p in body.named_parameters() if not torch.equal(p, before[name])}
    # A key bias adds the same to all scores of a query, which softmax does not see: its gradient is rounding.
    keys = {n for n in before if n.endswith(("key.bias", "k.bias"))}
    assert changed | keys == (set(before) - set(unreached(body, stopped))) | keys
    assert len(changed) > 20


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_unreached_are_the_parameters_without_gradient(family: str, layers: int) -> None:
    body = body_of(family)
    ids, mask = batch(body, "mixed")
    stopped = StoppedModel(body, layers)
    sum(x.square().sum() for x in stopped(ids, mask)).backward()
    without = [name for name, p in body.named_parameters() if p.grad is None]
    assert unreached(body, stopped) == without
    assert any("pooler" in name for name in without) == hasattr(body, "pooler")


def test_nothing_beyond_the_projections_is_computed() -> None:
    body = body_of("bert")
    ids, mask = batch(body, "right")
    called: list[str] = []
    for name, module in body.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.append(name))
    StoppedModel(body, 2)(ids, mask)
    assert "encoder.layer.0.output" in called
    assert not [n for n in called if n.startswith(("encoder.layer.1", "encoder.layer.2", "pooler"))]


def test_no_mask_is_passed_on_when_there_is_none() -> None:
    body = body_of("bert")
    ids, mask = batch(body, "right")
    masks = []
    body.encoder.layer[0].attention.self.register_forward_hook(
        lambda _module, inputs, kwargs, _output: masks.append(kwargs.get("attention_mask", *inputs[1:2])),
        with_kwargs=True,
    )
    stopped = StoppedModel(body, 2)
    stopped(ids)
    stopped(ids, mask)
    assert masks[0] is None and masks[1] is not None


@pytest.mark.parametrize("layer", [0, LAYERS + 1, -1])
def test_impossible_layer(layer: int) -> None:
    with pytest.raises(LabError, match=rf"layer {layer} is outside 1\.\.{LAYERS}"):
        StoppedModel(body_of("bert"), layer)


@pytest.mark.parametrize("family", FAMILIES)
def test_self_check_passes(family: str) -> None:
    for body in (body_of(family), AutoModel.from_config(config_of(family))):
        for layer in range(1, LAYERS + 1):
            assert self_check(body, StoppedModel(body, layer), SHAPE["vocab_size"]) < 1e-4


def _wrong(family: str, **changes: str) -> families.Family:
    return dataclasses.replace(families.FAMILIES[family], **changes)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_self_check_catches_a_stopped_model_with_swapped_maps(family: str, monkeypatch) -> None:
    right = families.FAMILIES[family]
    swapped = _wrong(family, query=right.key, key=right.query)
    body = body_of(family)
    with monkeypatch.context() as patched:
        patched.setattr(stopping, "family_of", lambda _config: swapped)
        stopped = StoppedModel(body, 2)
    with pytest.raises(LabError, match=f"self-check: .*'{family}' model at layer 2"):
        self_check(body, stopped, SHAPE["vocab_size"])


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "key", "key": "query"},
        {"value": "key"},
        {"key": "value", "value": "key"},
        {"query": "value"},
    ],
    ids=str,
)
@pytest.mark.parametrize("fresh", [False, True], ids=["wide weights", "as initialised"])
def test_self_check_catches_a_wrong_table(changes: dict[str, str], fresh: bool, monkeypatch) -> None:
    """The table that the check itself reads is wrong: only the library's attention can tell."""
    torch.manual_seed(0)
    body = AutoModel.from_config(config_of("bert")) if fresh else body_of("bert")
    monkeypatch.setitem(families.FAMILIES, "bert", _wrong("bert", **changes))
    with pytest.raises(LabError, match="self-check"):
        self_check(body, StoppedModel(body, 2), SHAPE["vocab_size"])


def test_self_check_catches_weights_that_are_not_finite() -> None:
    body = body_of("bert")
    stopped = StoppedModel(body, 2)
    with torch.no_grad():
        body.encoder.layer[1].attention.self.value.bias[3] = float("nan")
    with pytest.raises(LabError, match="not finite"):
        self_check(body, stopped, SHAPE["vocab_size"])


@pytest.mark.parametrize("fails", [False, True])
def test_self_check_leaves_no_trace(fails: bool, monkeypatch) -> None:
    body = body_of("bert").train()
    body.encoder.layer[0].eval()
    stopped = StoppedModel(body, 2)
    stopped.body.encoder.training = False
    modules = [*body.modules(), *stopped.modules()]
    modes = [module.training for module in modules]
    if fails:
        monkeypatch.setitem(families.FAMILIES, "bert", _wrong("bert", query="key", key="query"))
        with pytest.raises(LabError):
            self_check(body, stopped, SHAPE["vocab_size"])
    else:
        self_check(body, stopped, SHAPE["vocab_size"])
    assert [module.training for module in modules] == modes
    assert not any(module._forward_hooks for module in modules)
    assert all(p.grad is None for p in body.parameters())
