"""Stop a Transformer at the query, key and value projections of one layer.

Only Q, K, V of the distilled layer enter a relation loss, so nothing after them is computed: not that
layer's attention, feed-forward block or pooler, and no later layer. The stopped model shares its parameters
with the whole one: training the one trains the other.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import Family, family_of


class Projections(NamedTuple):
    """Query, key and value of one layer, each (batch, length, hidden size)."""

    query: Tensor
    key: Tensor
    value: Tensor


class ProjectQKV(nn.Module):
    """Stands where the last layer stood; answers Q, K and V side by side: (batch, length, 3 x hidden)."""

    def __init__(self, attention: nn.Module, family: Family) -> None:
        super().__init__()
        self.maps = nn.ModuleList(getattr(attention, n) for n in (family.query, family.key, family.value))
        self.returns_tuple = family.layer_returns_tuple

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor]:
        # One product instead of three: small matrices leave a machine idle.
        maps: list[Any] = list(self.maps)
        weight, bias = torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps])
        out = F.linear(hidden_states, weight, bias)
        return (out,) if self.returns_tuple else out


class StoppedModel(nn.Module):
    """A body that ends at Q, K, V of layer `layer` (counted from 1) and shares the body's parameters."""

    def __init__(self, body: PreTrainedModel, layer: int) -> None:
        super().__init__()
        family = family_of(body.config)
        layers = get(body, family.layers)
        if not 1 <= layer <= len(layers):
            raise LabError(f"layer {layer} is outside 1..{len(layers)}, the layers of this model")
        last = ProjectQKV(get(layers[layer - 1], family.attention), family)
        self.body = with_module(body, family.layers, nn.ModuleList([*layers[: layer - 1], last]))
        if hasattr(self.body, "pooler"):
            self.body.pooler = None
        self.layer = layer

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Projections:
        """input_ids: (batch, length) int64; mask: (batch, length) bool, true = real token, or None when all are.

        Without a mask none is passed on, so that the fast attention kernels run.
        """
        hidden = self.body(input_ids=input_ids, attention_mask=mask).last_hidden_state
        return Projections(*hidden.chunk(3, dim=-1))


def get(module: nn.Module, path: str) -> Any:
    """Return the submodule at a dotted `path`."""
    return module.get_submodule(path)


def with_module(root: nn.Module, path: str, new: nn.Module) -> Any:
    """Return a copy of `root` that has `new` at `path` and shares every other submodule and parameter."""
    twin = copy.copy(root)
    twin._modules = dict(root._modules)
    head, _, rest = path.partition(".")
    twin._modules[head] = with_module(get(root, head), rest, new) if rest else new
    return twin


def unreached(body: PreTrainedModel, stopped: StoppedModel) -> list[str]:
    """Name the parameters of `body` that a loss on `stopped` cannot reach; they stay as initialised."""
    reached = {id(parameter) for parameter in stopped.parameters()}
    if stopped.layer == 1:  # no attention runs before the first layer's projections
        for path in family_of(body.config).beside:
            reached -= {id(parameter) for parameter in get(body, path).parameters()}
    return [name for name, parameter in body.named_parameters() if id(parameter) not in reached]


@torch.no_grad()
def self_check(body: PreTrainedModel, stopped: StoppedModel, vocabulary: int) -> float:
    """Compare the stopped forward with the library's own on a small padded batch.

    Also work out the layer's attention from the three projections and compare it with the library's, so that an
    entry of the layout table that names a wrong map (key for query) is seen too; not where the scores have more
    terms than QKᵀ/√d.

    Returns the largest absolute difference at real positions; LabError if it is more than rounding, which
    means that the layout table no longer fits the installed version of transformers.
    """
    family = family_of(body.config)
    attention = get(get(body, family.layers)[stopped.layer - 1], family.attention)
    seen: dict[str, Tensor] = {}
    names = (family.query, family.key, family.value)
    hooks = [
        getattr(attention, name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
        )
        for name in names
    ]
    hooks.append(
        attention.register_forward_hook(
            lambda _module, _inputs, output: seen.__setitem__("attention", output[0])
        )
    )
    modes = [(module, module.training) for module in (*body.modules(), *stopped.modules())]
    device = next(body.parameters()).device
    ids = torch.arange(2 * 9, device=device).reshape(2, 9) * 7919 % max(vocabulary - 8, 1) + 5
    ids = ids % vocabulary
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 6:] = False
    try:
        body.eval()
        stopped.eval()
        body(input_ids=ids, attention_mask=mask)
        ours = stopped(ids, mask)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    pairs = [(mine, seen[name]) for mine, name in zip(ours, names, strict=True)]
    if family.plain_scores:
        pairs.append((_attend(ours, mask, int(body.config.num_attention_heads)), seen["attention"]))
    differences = [float((mine[mask].float() - theirs[mask].float()).abs().max()) for mine, theirs in pairs]
    scale = max(1.0, *(float(seen[name][mask].abs().max()) for name in names))
    # A comparison with NaN is false, and max() may pass over one: ask each difference.
    if not all(difference <= 1e-4 * scale for difference in differences):
        shown = ", ".join(f"{difference:.2e}" for difference in differences)
        raise LabError(
            f"self-check: stopping a '{body.config.model_type}' model at layer {stopped.layer} gives other Q, K, V "
            f"than the library (differences {shown}), or its weights are not finite; if they are, this version "
            "of transformers is not supported"
        )
    return max(differences)


def _attend(projections: Projections, mask: Tensor, heads: int) -> Tensor:
    """softmax(QKᵀ/√d)V, heads side by side again: (batch, length, hidden)."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in projections)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
    return attended.transpose(1, 2).flatten(2)
