"""What a causal model has read: its keys and values, shared by rows, branched, and rid of rows that ended.

Shapes: N rows (texts), T tokens read so far, V vocabulary. Rows of unequal length are padded on the left, so that
every row's last token lies in the last column, and a sliding window over columns is one over tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

#: Reading shared prefixes first takes one more forward, which costs about as much as this many tokens.
LEAST_SAVING = 16


class _Layer(DynamicLayer):
    """Keys and values of a layer, in memory with room for more: a step copies its own tokens, not all of them.

    Also for layers with a sliding window: the mask hides what lies before the window.
    """

    store: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add (N, heads, new tokens, head size); return all that was read."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used, added = self.get_seq_length(), key_states.shape[2]
        if self.store is None or used + added > self.store[0].shape[2]:
            self.place(None, key_states, value_states, used, used + added + max(32, used // 4))
        assert self.store is not None
        for room, new in zip(self.store, (key_states, value_states), strict=True):
            room[:, :, used : used + added] = new
        self.show(used + added)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def place(self, rows: Tensor | None, keys: Tensor, values: Tensor, used: int, capacity: int) -> None:
        """Make room for `capacity` tokens and move what is there, of `rows` alone (None: all), into it.

        keys and values tell the shape of a token's.
        """
        before = (self.keys, self.values)
        count = keys.shape[0] if rows is None else len(rows)
        fresh = [x.new_empty(count, x.shape[1], capacity, x.shape[3]) for x in (keys, values)]
        for room, old in zip(fresh, before, strict=True):
            if used:
                assert old is not None
                room[:, :, :used] = old if rows is None else old.index_select(0, rows)
        self.store = (fresh[0], fresh[1])

    def show(self, used: int) -> None:
        """Let `keys` and `values` be the first `used` tokens of the store."""
        assert self.store is not None
        self.keys, self.values = self.store[0][:, :, :used], self.store[1][:, :, :used]


@dataclass
class Context:
    """N rows that were read, and what the model expects next."""

    cache: Cache
    mask: Tensor
    """(N, T) bool, true = a token, false = padding on its left."""
    logits: Tensor
    """(N, V) float32: of the token after the last."""

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, rows: Sequence[int] | Tensor, room: int = 32) -> Context:
        """A copy of these rows (any of them several times), with room for so many more tokens."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.mask.device)
        cache, used = Cache(layer_class_to_replicate=_Layer), self.mask.shape[1]
        for layer in self.cache.layers:
            assert isinstance(layer, _Layer) and layer.keys is not None and layer.values is not None
            copied = _Layer()
            copied.lazy_initialization(layer.keys, layer.values)
            copied.keys, copied.values = layer.keys, layer.values
            copied.place(index, layer.keys, layer.values, used, used + room)
            copied.show(used)
            cache.layers.append(copied)
        return Context(cache, self.mask[index], self.logits[index])

    def drop(self, ended: Tensor) -> Tensor:
        """Remove the rows that `ended` (N,) bool, in place: the last rows move where they were.

        Returns int64 (rows that stay,), the old number of each row.
        """
        stay = int((~ended).sum())
        order = torch.arange(stay, device=ended.device)
        holes = ended[:stay].nonzero()[:, 0]
        fillers = (~ended[stay:]).nonzero()[:, 0] + stay
        order[holes] = fillers
        for layer in self.cache.layers:
            assert isinstance(layer, _Layer) and layer.store is not None
            used = layer.get_seq_length()
            for room in layer.store:
                room[holes, :, :used] = room[fillers, :, :used]
            layer.store = (layer.store[0][:stay], layer.store[1][:stay])
            layer.show(used)
        self.mask, self.logits = self.mask[order], self.logits[order]
        return order

    def _close_gaps(self) -> None:
        """Move padding between tokens to the left of each row, and cut what is padding in every row."""
        order = self.mask.long().argsort(dim=1, stable=True)
        order = order[:, int((~self.mask).sum(dim=1).min()) :]
        for layer in self.cache.layers:
            assert isinstance(layer, _Layer)
            moved = []
            for x in (layer.keys, layer.values):
                assert x is not None
                index = order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
                moved.append(x.gather(2, index))
            layer.keys, layer.values = moved
            layer.place(None, moved[0], moved[1], order.shape[1], order.shape[1] + 32)
            layer.show(order.shape[1])
        self.mask = self.mask.gather(1, order)


def extend(
    model: PreTrainedModel, tokens: Sequence[Sequence[int]], context: Context | None = None
) -> Context:
    """Read the next `tokens` of each row, one or more a row of any number; `context` is used up by it."""
    width = max(len(row) for row in tokens)
    device, count = model.device, len(tokens)
    ids = torch.zeros(count, width, dtype=torch.long)
    new = torch.zeros(count, width, dtype=torch.bool)
    last = []
    for number, row in enumerate(tokens):
        # Behind other tokens padding goes to the right: between them it would widen the distance in columns, which
        # sliding windows go by.
        start = width - len(row) if context is None else 0
        last.append(start + len(row) - 1)
        ids[number, start : last[-1] + 1] = torch.tensor(row)
        new[number, start : last[-1] + 1] = True
    ids, new = ids.to(device), new.to(device)
    cache = Cache(layer_class_to_replicate=_Layer) if context is None else context.cache
    before = new[:, :0] if context is None else context.mask
    mask = torch.cat([before, new], dim=1)
    # Padding counts as some position of its row; nothing sees it.
    places = (before.sum(dim=1, keepdim=True) + new.cumsum(dim=1) - 1).clamp(min=0)
    takes_places = "position_ids" in inspect.signature(model.forward).parameters

    def last_alone(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0][torch.arange(count, device=device), last][:, None], *inputs[1:])

    # The model's own head and what it does to logits, of the last tokens alone.
    head: Any = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(last_alone)
    try:
        output = model(
            input_ids=ids,
            attention_mask=None if mask.all() else mask.long(),
            past_key_values=cache,
            use_cache=True,
            **({"position_ids": places} if takes_places else {}),
        )
    finally:
        hook.remove()
    extended = Context(cache, mask, output.logits[:, 0].float())
    if context is not None and not new.all():
        extended._close_gaps()
    return extended


def read(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Context:
    """Read rows of token ids from their beginning: equal rows once, and what neighbours begin with once."""
    distinct = sorted({tuple(row) for row in rows})
    groups, saved = shared_prefixes(distinct)
    if saved < LEAST_SAVING:
        context = extend(model, distinct)
    else:
        prefixes = [distinct[start][:shared] for start, _, shared in groups]
        parents = [group for group, (start, stop, _) in enumerate(groups) for _ in range(start, stop)]
        rests = [distinct[row][shared:] for start, stop, shared in groups for row in range(start, stop)]
        context = extend(model, prefixes).take(parents, max(map(len, rests)) + 32)
        context = extend(model, rests, context)
    if list(rows) == distinct:
        return context
    number = {row: index for index, row in enumerate(distinct)}
    return context.take([number[tuple(row)] for row in rows])


def shared_prefixes(rows: Sequence[tuple[int, ...]]) -> tuple[list[tuple[int, int, int]], int]:
    """Cut sorted, distinct rows into groups (first row, end, tokens in common) so that most tokens are shared.

    Every row keeps a token of its own. Also returns how many tokens need not be read.
    """
    count = len(rows)
    common = [_in_common(rows[i], rows[i + 1]) for i in range(count - 1)]
    best, cut = [0] * (count + 1), [0] * (count + 1)
    for stop in range(1, count + 1):
        best[stop], cut[stop] = best[stop - 1], stop - 1
        shared = len(rows[stop - 1]) - 1
        for start in range(stop - 2, -1, -1):
            shared = min(shared, common[start], len(rows[start]) - 1)
            if shared <= 0:
                break
            saving = best[start] + (stop - start - 1) * shared
            if saving > best[stop]:
                best[stop], cut[stop] = saving, start
    groups, stop = [], count
    while stop:
        start = cut[stop]
        inside = [len(row) - 1 for row in rows[start:stop]] + common[start : stop - 1]
        groups.append((start, stop, min(inside)))
        stop = start
    return groups[::-1], best[count]


def _in_common(left: Sequence[int], right: Sequence[int]) -> int:
    for number, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return number
    return min(len(left), len(right))
