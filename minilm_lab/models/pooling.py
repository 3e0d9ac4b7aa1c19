"""From the states of tokens to the vector of a text: the ways of pooling, and what a sentence-transformers folder adds.

Shapes: B texts, L tokens, H hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm_lab.errors import LabError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _first(states: Tensor, mask: Tensor) -> Tensor:
    places = mask.int().argmax(1)
    return states[torch.arange(len(states), device=states.device), places]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    places = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return states[torch.arange(len(states), device=states.device), places]


def _sum(states: Tensor, weights: Tensor) -> Tensor:
    return (states * weights.unsqueeze(-1)).sum(1)


def _mean(states: Tensor, weights: Tensor) -> Tensor:
    return _sum(states, weights) / weights.sum(1, keepdim=True)


#: Name in sentence-transformers -> states (B, L, H), mask (B, L) of 0 and 1 in their type -> (B, H). In the order in
#: which that library joins several.
MODES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "max": lambda states, mask: states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1),
    "mean": _mean,
    "mean_sqrt_len_tokens": lambda states, mask: _sum(states, mask) / mask.sum(1, keepdim=True).sqrt(),
    # By the place of a token in the row: padding is on the right.
    "weightedmean": lambda states, mask: _mean(
        states, mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    ),
    "lasttoken": _last,
}
#: What older folders write in place of `pooling_mode`.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def pool(states: Tensor, mask: Tensor, mode: str = "mean") -> Tensor:
    """One vector a text: states (B, L, H), mask (B, L) with 1 = real token -> (B, H) in the type of the states."""
    return MODES[mode](states, mask.to(states.dtype))


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Cosine of each row of `left` and the same row of `right`, (rows,) float64."""
    return F.cosine_similarity(left.double(), right.double(), dim=1)


class Normalise(nn.Module):
    """Vectors of length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, H) -> (B, H)."""
        return F.normalize(vectors, dim=1)


@dataclass(frozen=True)
class Pooling:
    """All that happens to the states of the last layer, and to a text before it is tokenised."""

    modes: tuple[str, ...] = ("mean",)
    """Names of `MODES`; the vectors of several are joined."""
    after: tuple[nn.Module, ...] = ()
    """Applied to the vector in this order: Dense and normalisation."""
    length: int | None = None
    """Tokens after which a text is cut; None where the folder does not say."""
    prompt: str = ""
    """What is put before every text."""
    reads_prompt: bool = True
    """Whether the tokens of the prompt are pooled too."""
    entries: tuple[dict[str, Any], ...] = ()
    """The entries of modules.json, as they stand there."""

    def __post_init__(self) -> None:
        for mode in self.modes:
            if mode not in MODES:
                raise LabError(f"pooling={mode}: allowed are {', '.join(MODES)}.{nearest(mode, MODES)}")

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        """states (B, L, H) float, mask (B, L) with 1 = what is pooled -> (B, width) float32."""
        states = states.float()
        vectors = torch.cat([pool(states, mask, mode) for mode in self.modes], dim=1)
        for module in self.after:
            vectors = module.to(vectors.device)(vectors)
        return vectors

    def mask(self, mask: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Of the mask of real tokens, (B, L), padded on the right, the tokens that are pooled."""
        if self.prompt and not self.reads_prompt:
            mask = mask.clone()
            # The end token of the prompt alone is none of the text's.
            mask[:, : len(tokenizer(self.prompt)["input_ids"]) - 1] = 0
        return mask

    def width(self, hidden: int) -> int:
        """The width of a vector for a model of this hidden size."""
        linear = [m for module in self.after for m in module.modules() if isinstance(m, nn.Linear)]
        return int(linear[-1].out_features) if linear else hidden * len(self.modes)


def read_pooling(where: str, revision: str | None = None) -> Pooling | None:
    """What the modules.json of a folder or a model of the hub says; None where there is no such file.

    LabError, naming it, for a module that is none of Transformer, Pooling, Dense, Normalize, Dropout.
    """
    entries = _json(where, revision, "modules.json")
    if not isinstance(entries, list):
        return None
    modes: tuple[str, ...] = ("mean",)
    reads_prompt, after = True, []
    for entry in sorted(entries, key=lambda e: int(e.get("idx", 0))):
        kind, path = str(entry["type"]).rpartition(".")[2], str(entry.get("path", ""))
        settings = _json(where, revision, f"{path}/config.json") or {} if path else {}
        if kind == "Pooling":
            modes, reads_prompt = _modes(settings), bool(settings.get("include_prompt", True))
        elif kind == "Dense":
            after.append(_dense(where, revision, path, settings))
        elif kind == "Normalize":
            after.append(Normalise())
        elif kind not in ("Transformer", "Dropout"):
            raise LabError(
                f"{where}: modules.json names a module '{kind}', which the lab cannot apply; it knows Transformer, "
                "Pooling, Dense, Normalize"
            )
    about = _json(where, revision, "config_sentence_transformers.json") or {}
    prompt = (about.get("prompts") or {}).get(about.get("default_prompt_name") or "", "") or ""
    names = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    limits = (
        (_json(where, revision, f"sentence_{name}_config.json") or {}).get("max_seq_length") for name in names
    )
    length = next((int(limit) for limit in limits if limit), None)
    return Pooling(modes, tuple(after), length, prompt, reads_prompt, tuple(entries))


def _modes(settings: dict[str, Any]) -> tuple[str, ...]:
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        return (mode,) if isinstance(mode, str) else tuple(mode)
    return tuple(mode for flag, mode in _FLAGS.items() if settings.get(flag)) or ("mean",)


def _dense(where: str, revision: str | None, path: str, settings: dict[str, Any]) -> nn.Module:
    from safetensors.torch import load_file

    kind = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = getattr(nn, kind.rpartition(".")[2], None) if kind.startswith("torch.nn.") else None
    inside = settings.get("module_input_name", "sentence_embedding")
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)) or settings.get(
        "use_residual"
    ):
        raise LabError(
            f"{where}: {path}/config.json has activation_function={kind} and "
            f"use_residual={settings.get('use_residual', False)}; the lab applies torch's own activations, without residual"
        )
    if inside != "sentence_embedding":
        raise LabError(
            f"{where}: {path}/config.json maps {inside}; the lab applies maps of the pooled vector"
        )
    linear = nn.Linear(
        int(settings["in_features"]), int(settings["out_features"]), bias=bool(settings.get("bias", True))
    )
    file = _file(where, revision, f"{path}/model.safetensors")
    if file is not None:
        state = load_file(file)
    elif (file := _file(where, revision, f"{path}/pytorch_model.bin")) is not None:
        state = torch.load(file, map_location="cpu", weights_only=True)
    else:
        raise LabError(f"{where}: {path} has no weights (model.safetensors); save the model again")
    try:
        linear.load_state_dict({name.removeprefix("linear."): value for name, value in state.items()})
    except RuntimeError as error:
        raise LabError(f"{where}: the weights in {path} do not fit its config.json ({error})") from error
    return nn.Sequential(linear, activation()).eval().requires_grad_(False)


def _json(where: str, revision: str | None, name: str) -> Any:
    file = _file(where, revision, name)
    if file is None:
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(f"{file} cannot be read ({error}); save the model again") from error


def _file(where: str, revision: str | None, name: str) -> Path | None:
    folder = Path(where)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils import cached_file

    from minilm_lab import hub_access

    found = cached_file(
        where,
        name,
        revision=revision,
        local_files_only=hub_access.offline() or not hub_access.answers(where, "model"),
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)
