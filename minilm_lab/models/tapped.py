"""Read a Transformer at the places an objective needs, and compute nothing beyond them.

The library's own forward runs, over as many layers as the deepest thing read depends on. Where that is a
layer's projections or scores, the layer ends there: not its attention, feed-forward block or pooler, and no
later layer. The tapped model shares its parameters with the whole one: training the one trains the other.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.causal import head_of
from minilm_lab.models.families import check_tapped, head_size, key_heads, projection_widths
from minilm_lab.models.families.layout import join_heads, split_heads
from minilm_lab.models.modules import get, with_module
from minilm_lab.models.next_token import Top, top_of
from minilm_lab.models.taps import Needs, Projections, Seen
from minilm_lab.models.watching import Given, Note, Record, Stop, Watched


class Tapped(nn.Module):
    """A body, or a model with the head that `needs` names, that answers `needs` and nothing more."""

    def __init__(
        self, model: PreTrainedModel, needs: Needs, *, rotary: str = "before", grouped: str = "repeat"
    ) -> None:
        """
        rotary: read query and key "before" or "after" rotary positions turn them (no matter where there are none).
        grouped: where heads share keys and values, "repeat" these to the width of the query, or read each "group"
        once, at their own narrower width.
        """
        super().__init__()
        self._whole_model = (model,)  # a tuple hides a module from nn.Module's registry
        body: Any = model.base_model
        self.family, self.needs = check_tapped(body.config, "objective"), needs
        blocks = self.family.blocks(body)
        _check(needs, len(blocks))
        if needs.logits and model is body:
            raise ValueError("logits need a model with a masked-LM head (AutoModelForMaskedLM)")
        if needs.next_tokens and model is body:
            raise ValueError("next tokens need a model with its head (AutoModelForCausalLM)")
        self.depth, self.last = len(blocks), needs.layers(len(blocks))
        self.turned = rotary == "after" and self.family.rotary
        self.widths, self.head_size = projection_widths(body.config), head_size(body.config)
        self.groups = int(body.config.num_attention_heads) // key_heads(body.config)
        self.repeats = grouped == "repeat"
        self.segmented = getattr(body.config, "type_vocab_size", 0) > 1
        self.record = Record()
        handles = self._note_maps(blocks)
        self.body: Any = self._cut(body, blocks) if needs else None
        # The family's own head, on hidden states that are handed to it.
        self.head = with_module(model, model.base_model_prefix, Given(body)) if needs.logits else None
        # Registered, so that the head of a teacher follows it to another device or type.
        self.keys = model.get_output_embeddings() if needs.next_tokens else None
        # The hooks lie on modules that outlive this view of them.
        weakref.finalize(self, _remove, handles)

    @property
    def model(self) -> PreTrainedModel:
        """The whole model that this is a view of."""
        return self._whole_model[0]

    def _note_maps(self, blocks: list[nn.Module]) -> list[RemovableHandle]:
        """Put hooks on the maps of the layers whose projections are read on the way."""
        handles: dict[int, RemovableHandle] = {}
        layers = self.needs.projections | self.needs.scores
        for number in layers if self._whole() else layers - {self.last}:
            attention = get(blocks[number - 1], self.family.attention)
            for name in self.family.maps:
                module = getattr(attention, name)
                if id(module) not in handles:  # one module may be several layers
                    handles[id(module)] = module.register_forward_hook(Note(self.record, name, layers))
        return list(handles.values())

    def _whole(self) -> bool:
        """Whether the last layer read runs to its end."""
        return self.needs.logits or self.needs.next_tokens or self.last in self.needs.hidden

    def _cut(self, body: PreTrainedModel, blocks: list[nn.Module]) -> Any:
        """A twin of `body` with as many layers as are needed."""
        whole = self.last if self._whole() else self.last - 1
        run = [self._watched(number, block) for number, block in enumerate(blocks[:whole], 1)]
        if whole < self.depth:  # the last hidden state is what enters the next layer
            block = blocks[whole]
            attention = None if self._whole() else get(block, self.family.attention)
            run.append(Stop(block, attention, whole + 1, self.family, self.record, **self._keeps(whole + 1)))
        twin = self.family.with_blocks(body, run)
        if whole < self.depth and self.family.final_norm:
            twin = with_module(twin, self.family.final_norm, nn.Identity())
        if hasattr(body, "pooler"):
            twin = with_module(twin, "pooler", None)
        return twin

    def _watched(self, number: int, block: nn.Module) -> nn.Module:
        keeps = self._keeps(number)
        if any(keeps.values()) or number in self.needs.projections:
            return Watched(block, number, self.family, self.record, **keeps)
        return block

    def _keeps(self, number: int) -> dict[str, bool]:
        """What is kept of the input of a layer: its hidden states; what the library hands it beside them."""
        turned = self.turned and number in self.needs.projections
        return {"hidden": number - 1 in self.needs.hidden, "given": turned or number in self.needs.scores}

    def forward(
        self,
        input_ids: Tensor,
        mask: Tensor | None = None,
        masked: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> Seen:
        """input_ids: (batch, length) int64; mask: (batch, length) bool, true = real token, or None when all are;
        masked: (positions,) int64, the places in batch x length, row after row, whose logits are read; segments: (batch,
        length) int64, 1 = second text of a pair (for models that tell the two apart).

        Without a mask none is passed on, so that the fast attention kernels run.
        """
        if self.body is None:
            return Seen()
        settings: dict[str, Any] = (
            {"use_cache": False} if self.family.causal else {}
        )  # no keys for later tokens
        if segments is not None and self.segmented:
            settings["token_type_ids"] = segments
        record = self.record
        record.start()
        try:
            attended = None if mask is None else mask.long()
            last = self.body(input_ids=input_ids, attention_mask=attended, **settings).last_hidden_state
            seen = self._seen(last)
        finally:
            record.clear()
        if self.head is not None:
            if masked is None:
                raise ValueError("logits are read at masked positions: give `masked`")
            seen.logits = self._logits(last, masked)
        if self.keys is not None:
            head = head_of(self.model)
            seen.next_tokens = last, head
            if self.needs.top is not None:
                top = top_of(last.flatten(0, 1), head, self.needs.top)
                seen.top = Top(*(part.unflatten(0, input_ids.shape) for part in top))
        return seen

    def _seen(self, last: Tensor) -> Seen:
        hidden = dict(self.record.hidden)
        if self.depth in self.needs.hidden:
            hidden[self.depth] = last
        seen = Seen(hidden=hidden)
        for layer in sorted(self.needs.projections | self.needs.scores):
            query, key, value = self._separate(self.record.maps[layer])
            if layer in self.needs.scores or self.turned:
                given = self.record.given[layer]
                attention = self._attention(layer)
                turned_query, turned_key = self.family.turn(
                    attention, split_heads(query, self.head_size), split_heads(key, self.head_size), given
                )
                if self.turned:
                    query, key = join_heads(turned_query), join_heads(turned_key)
                if layer in self.needs.scores:
                    turned_key = turned_key.repeat_interleave(self.groups, dim=1)
                    seen.scores[layer] = self.family.scores(attention, turned_query, turned_key, given)
            if layer in self.needs.projections:
                if self.repeats and self.groups > 1:
                    key, value = self._repeat(key), self._repeat(value)
                seen.projections[layer] = Projections(query, key, value)
        return seen

    def _separate(self, outputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        if len(outputs) == 1:
            return next(iter(outputs.values())).split(self.widths, dim=-1)
        return tuple(outputs[name] for name in self.family.maps)

    def _attention(self, layer: int) -> nn.Module:
        block = self.family.blocks(self.body)[layer - 1]
        if isinstance(block, Watched):
            return get(block.layer, self.family.attention)
        assert isinstance(block, Stop) and block.attention is not None
        return block.attention

    def _repeat(self, tensor: Tensor) -> Tensor:
        return join_heads(split_heads(tensor, self.head_size).repeat_interleave(self.groups, dim=1))

    @torch.compiler.disable
    def _logits(self, hidden: Tensor, masked: Tensor) -> Tensor:
        # How many positions are masked changes from batch to batch: a compiled head would be compiled each time.
        assert self.head is not None
        logits: Tensor = self.head(inputs_embeds=hidden.flatten(0, 1)[masked][None]).logits[0]
        return logits


def _check(needs: Needs, depth: int) -> None:
    for what, layers, first in (
        ("projections", needs.projections, 1),
        ("scores", needs.scores, 1),
        ("hidden", needs.hidden, 0),
    ):
        for layer in sorted(layers):
            if not first <= layer <= depth:
                raise LabError(f"{what}: layer {layer} is outside {first}..{depth}, the layers of this model")


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
