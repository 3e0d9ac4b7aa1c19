"""A tapped model in training: gradients, modes, compiled, at lower precision, copied."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs, Seen

from .helpers import FAMILIES, SHAPE, batch, body_of, library, masked_lm_of

LAYERS = SHAPE["num_hidden_layers"]


ALL = frozenset(range(1, LAYERS + 1))


EVERYTHING = Needs(ALL, ALL, ALL | {0})


def only(*, projections=(), scores=(), hidden=(), logits=False) -> Needs:
    return Needs(frozenset(projections), frozenset(scores), frozenset(hidden), logits)


def repeated(tensor: Tensor, width: int, head: int) -> Tensor:
    """Each group of `head` columns as often as makes `width`."""
    return torch.cat([x for x in tensor.split(head, -1) for _ in range(width // tensor.shape[-1])], -1)


def _loss(seen: Seen, real: Tensor | None = None) -> Tensor:
    """Of all real positions; where nothing is seen, kernels of attention differ."""
    parts = [x for projections in seen.projections.values() for x in projections] + list(seen.hidden.values())
    return torch.stack([(x if real is None else x[real]).square().mean() for x in parts]).sum()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_librarys(family: str, checkpointing: bool) -> None:
    changes = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    if family.startswith(("distilbert", "gpt2")):
        changes = dict.fromkeys(
            ("dropout", "attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0
        )
    body = body_of(family, **changes).train()
    if checkpointing:
        if not body.supports_gradient_checkpointing:
            pytest.skip("the library cannot recompute its activations")
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    ids, mask = batch(body, "mixed")
    whole = copy.deepcopy(body)
    whole.gradient_checkpointing_disable() if checkpointing else None
    tapped = Tapped(body, only(projections={1, 2, 3}, hidden={0, 1, 2}))
    seen = tapped(ids, mask)
    _loss(seen, mask).backward()
    assert not tapped.record.maps  # recomputing in the backward pass noted nothing
    # The reference: hooks on the library's own forward, gradients of its own parameters.
    theirs = _library_with_gradients(whole, ids, mask)
    _loss(theirs, mask).backward()
    reached = 0
    for (name, mine), expected in zip(body.named_parameters(), whole.parameters(), strict=True):
        if mine.grad is None:
            assert expected.grad is None or not expected.grad.abs().max() > 0, name
        else:
            reached += 1
            torch.testing.assert_close(
                mine.grad, expected.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert reached > 10


def _library_with_gradients(body: PreTrainedModel, ids: Tensor, mask: Tensor | None) -> Seen:
    theirs = library(body, ids, mask, copied=False)
    seen = Seen(hidden={n: theirs.hidden[n] for n in (0, 1, 2)})
    for layer, (query, key, value) in enumerate(theirs.projections, 1):
        width, head = query.shape[-1], query.shape[-1] // body.config.num_attention_heads
        seen.projections[layer] = (query, repeated(key, width, head), repeated(value, width, head))  # type: ignore
    return seen


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "albert"])
def test_the_whole_models_mode_is_the_views(family: str) -> None:
    """Lightning tells the student, not the view of it, when dropout is on."""
    dropout = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "resid_pdrop"), 0.5
    )
    body = body_of(family, **dropout).train()
    tapped = Tapped(body, EVERYTHING)
    ids, _ = batch(body, "none")
    assert not torch.equal(tapped(ids).hidden[3], tapped(ids).hidden[3])
    body.eval()
    first, second = tapped(ids), tapped(ids)
    for layer in ALL:
        assert torch.equal(first.hidden[layer], second.hidden[layer])
    torch.testing.assert_close(first.hidden[3], body(input_ids=ids).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_training_the_view_trains_the_body() -> None:
    body = body_of("bert")
    ids, _ = batch(body, "none")
    tapped = Tapped(body, only(projections={LAYERS}))
    before = {name: p.detach().clone() for name, p in body.named_parameters()}
    optimizer = torch.optim.SGD(tapped.parameters(), lr=0.1)
    _loss(tapped(ids)).backward()
    optimizer.step()
    changed = {name for name, p in body.named_parameters() if not torch.equal(p, before[name])}
    still = {n for n in before if n.startswith(("pooler", "encoder.layer.2")) and "self" not in n}
    # A key bias adds the same to all scores of a query, which softmax does not see: its gradient is rounding.
    keys = {n for n in before if n.endswith("key.bias")}
    assert changed | keys == (set(before) - still) | keys and len(changed) > 20


@pytest.mark.parametrize("family, backend", [("bert", "aot_eager"), ("mpnet", "eager"), ("llama", "eager")])
def test_compiled_is_the_same(family: str, backend: str) -> None:
    torch.compiler.reset()
    needs = only(projections={1, 3}, scores={2}, hidden={0, 1})
    body = body_of(family)
    tapped = Tapped(body, needs)
    compiled = torch.compile(tapped, dynamic=False, backend=backend)
    ids, mask = batch(body, "mixed")
    for _ in range(2):
        ours, plain = compiled(ids, mask), tapped(ids, mask)
        for layer in (1, 3):
            for mine, expected in zip(ours.projections[layer], plain.projections[layer], strict=True):
                torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.scores[2], plain.scores[2], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.hidden[1], plain.hidden[1], rtol=1e-4, atol=1e-5)
        assert not tapped.record.active and not tapped.record.maps
    _loss(ours).backward()
    assert all(
        p.grad is not None for n, p in body.named_parameters() if "embed_tokens" in n or "word_emb" in n
    )


def test_compiled_with_a_head() -> None:
    torch.compiler.reset()
    model = masked_lm_of("bert", num_hidden_layers=1)
    tapped = Tapped(model, only(projections={1}, logits=True))
    compiled = torch.compile(tapped, dynamic=False, backend="eager")
    ids, mask = batch(model, "right")
    for places in (torch.tensor([1, 2]), torch.tensor([3, 12, 13])):
        expected = tapped(ids, mask, places)
        torch.testing.assert_close(compiled(ids, mask, places).logits, expected.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_precision(family: str) -> None:
    """bf16 weights (a teacher's), and float32 weights under autocast (a student's)."""
    body = body_of(family)
    ids, mask = batch(body, "right")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    needs = only(projections={1, 2}, scores={2}, hidden={0, 1})
    with torch.no_grad():
        exact = Tapped(body, needs)(ids, mask)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = Tapped(body, needs)(ids, mask)
        low = Tapped(copy.deepcopy(body).bfloat16(), needs)(ids, mask)
    for seen in (mixed, low):
        for layer in (1, 2):
            for mine, expected in zip(seen.projections[layer], exact.projections[layer], strict=True):
                assert mine.dtype == torch.bfloat16
                error = (mine.float() - expected)[real].abs().mean() / expected[real].abs().mean()
                assert error < 0.05
        assert torch.isfinite(seen.hidden[1].float()[real]).all()


def test_a_copy_is_another_model() -> None:
    body = body_of("bert")
    tapped = Tapped(body, EVERYTHING)
    twin = copy.deepcopy(tapped)
    ids, mask = batch(body, "mixed")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    ours, theirs = tapped(ids, mask), twin(ids, mask)
    changed = library(twin.model, ids, mask)
    assert torch.isfinite(theirs.hidden[3]).all()
    torch.testing.assert_close(theirs.hidden[3], changed.hidden[3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(theirs.projections[2].key, changed.projections[1][1], rtol=1e-4, atol=1e-4)
    assert (ours.projections[2].key - theirs.projections[2].key).abs().max() > 0.01
