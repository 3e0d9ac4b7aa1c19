"""Compare a tapped model with the library's own complete forward, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of, head_size
from minilm_lab.models.families.layout import join_heads, split_heads
from minilm_lab.models.modules import get
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs


@torch.no_grad()
def self_check(tapped: Tapped, vocabulary: int) -> float:
    """Compare everything that `tapped` reads with the library's own plain forward on a small padded batch.

    Projections are compared with what the model's maps put out, hidden states and logits with the library's, and
    the attention that scores and values make with the library's attention probabilities and attended values: so
    an entry of the layout table that names a wrong map (key for query) is seen too.

    Returns the largest absolute difference at real positions; LabError if one is more than rounding, which means
    that the layout table no longer fits the installed version of transformers.
    """
    if not tapped.needs:
        return 0.0
    model = tapped.model
    ids, mask = _batch(model, vocabulary)
    read = tapped.needs.projections | tapped.needs.scores
    # The attention of every layer that is read is compared, whoever reads its scores.
    plain = Tapped(model, Needs(projections=read, scores=read), grouped="group")
    with _evaluated(model, tapped):
        seen, whole = tapped(ids, mask, mask.flatten().nonzero()[:, 0]), plain(ids, mask)
        library = _library(model, tapped, read, ids, mask)
    kind = str(model.config.model_type)
    compare = _Comparison(kind, mask)
    size, groups = head_size(model.config), tapped.groups

    def repeated(tensor: Tensor) -> Tensor:
        return join_heads(split_heads(tensor, size).repeat_interleave(groups, dim=1))

    for layer in sorted(read):
        probabilities = compare.attention(layer, whole.scores[layer], library.attentions[layer - 1])
        value = split_heads(repeated(whole.projections[layer].value), size)
        compare(layer, "attended values", join_heads(probabilities @ value), library.attended[layer])
    for layer, scores in seen.scores.items():
        compare.attention(layer, scores, library.attentions[layer - 1])
    for layer, found in seen.projections.items():
        query, key, value = library.projections[layer]
        if tapped.repeats:
            key, value = repeated(key), repeated(value)
        compare(layer, "value", found.value, value)
        if tapped.turned:  # the library keeps these nowhere: by the attention they make
            turned = [split_heads(x, size) for x in found[:2]]
            turned[1] = turned[1].repeat_interleave(turned[0].shape[1] // turned[1].shape[1], dim=1)
            family = family_of(model.config)
            attention = get(family.blocks(model.base_model)[layer - 1], family.attention)
            scores = family.scores(attention, turned[0], turned[1], None)
            compare.attention(layer, scores, library.attentions[layer - 1])
        else:
            compare(layer, "query", found.query, query)
            compare(layer, "key", found.key, key)
    for layer, states in seen.hidden.items():
        compare(layer, "hidden states", states, library.hidden[layer])
    if seen.logits is not None:
        compare.close(tapped.depth, "logits", seen.logits, library.logits[mask])
    if seen.next_tokens is not None:
        states, head = seen.next_tokens
        compare.close(tapped.depth, "next-token logits", head.logits(states[mask]), library.logits[mask])
    return compare.largest


def _batch(model: PreTrainedModel, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids (3, 9) and their mask: a row without padding, one padded right, one left."""
    device = next(model.parameters()).device
    ids = torch.arange(3 * 9, device=device).reshape(3, 9) * 7919 % max(vocabulary - 8, 1) + 5
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 6:], mask[2, :2] = False, False
    pad = model.config.pad_token_id
    return (ids % vocabulary).masked_fill(~mask, 0 if pad is None or pad >= vocabulary else int(pad)), mask


class _Comparison:
    """Compares ours with the library's, and refuses more than rounding."""

    def __init__(self, kind: str, mask: Tensor) -> None:
        self.kind, self.mask, self.largest = kind, mask, 0.0

    def __call__(self, layer: int, what: str, ours: Tensor, library: Tensor) -> None:
        """Both (batch, length, …)."""
        self.close(layer, what, ours[self.mask], library[self.mask])

    def attention(self, layer: int, scores: Tensor, library: Tensor) -> Tensor:
        """Compare the distributions of scores, (batch, heads, query, key), and return ours."""
        ours = scores.masked_fill(~self.mask[:, None, None], float("-inf")).softmax(-1)
        self(layer, "attention", ours.transpose(1, 2), library.transpose(1, 2))
        return ours

    def close(self, layer: int, what: str, ours: Tensor, library: Tensor) -> None:
        """LabError if the two differ by more than rounding."""
        difference = float((ours.float() - library.float()).abs().max())
        # A comparison with NaN is false.
        if not difference <= 1e-4 * max(1.0, float(library.float().abs().max())):
            raise LabError(
                f"self-check: reading a '{self.kind}' model at layer {layer} gives other {what} than the library "
                f"(difference {difference:.2e}), or its weights are not finite; if they are, this version of "
                "transformers is not supported"
            )
        self.largest = max(self.largest, difference)


@dataclass
class _Answers:
    """What the library's own forward shows, by layer from 1 but where said."""

    hidden: tuple[Tensor, ...]
    """From 0 = the embeddings."""
    attentions: tuple[Tensor, ...]
    """From layer 1 at index 0; (batch, heads, query, key)."""
    logits: Tensor
    projections: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    attended: dict[int, Tensor] = field(default_factory=dict)


def _library(
    model: PreTrainedModel, tapped: Tapped, layers: Iterable[int], ids: Tensor, mask: Tensor
) -> _Answers:
    family = family_of(model.config)
    blocks = family.blocks(model.base_model)
    calls: dict[tuple[int, str], list[Tensor]] = {}

    def keep(block: nn.Module, name: str, value: bool) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any, *output: Tensor) -> None:
            calls.setdefault((id(block), name), []).append(output[0] if value else inputs[0])

        return hook

    handles = []
    for block in {id(blocks[layer - 1]): blocks[layer - 1] for layer in layers}.values():
        attention = get(block, family.attention)
        for name in family.maps:
            handles.append(getattr(attention, name).register_forward_hook(keep(block, name, True)))
        output = get(block, family.output)
        handles.append(output.register_forward_pre_hook(keep(block, "attended", False)))
    try:
        with _eager(model), _no_hooks_left(model):
            out = model(
                input_ids=ids, attention_mask=mask.long(), output_attentions=True, output_hidden_states=True,
                **({"use_cache": False} if family.causal else {}),
            )  # fmt: skip
    finally:
        for handle in handles:
            handle.remove()
    answers = _Answers(out.hidden_states, out.attentions, getattr(out, "logits", ids))
    for layer in layers:
        block = blocks[layer - 1]
        turn = sum(other is block for other in blocks[: layer - 1])  # one module may be several layers
        made = tuple(calls[id(block), name][turn] for name in family.maps)
        answers.projections[layer] = made if len(made) == 3 else made[0].split(tapped.widths, dim=-1)
        answers.attended[layer] = calls[id(block), "attended"][turn]
    return answers


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    """Only the library's plain attention shows its probabilities."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


@contextmanager
def _no_hooks_left(model: PreTrainedModel) -> Iterator[None]:
    """The library puts hooks on every layer to collect outputs, and leaves them there."""
    body: Any = model.base_model
    before = {module: set(module._forward_hooks) for module in model.modules()}
    installed = "_output_capturing_hooks_installed"
    had = installed in vars(body)
    try:
        yield
    finally:
        if not had and installed in vars(body):
            for module, hooks in before.items():
                for key in set(module._forward_hooks) - hooks:
                    del module._forward_hooks[key]
            delattr(body, installed)


@contextmanager
def _evaluated(*models: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own mode again after."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
