"""Low-rank adapters (LoRA, arXiv 2106.09685) on a frozen model, by peft: add, save, load, merge.

peft writes the folders, so that anything that reads peft's adapters reads these.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"
KINDS = ("none", "lora")
#: Of the largest logit: what merging in float32 may change by rounding.
MERGED_WITHIN = 1e-4


@dataclass
class Adapter:
    """What is trained of a model: all of it, or adapters (and the head of a task)."""

    kind: str = "none"
    """none: the whole model; lora: low-rank adapters, and nothing else."""
    rank: int = 8
    """r: width of the two matrices whose product is added to a weight."""
    alpha: float = 16.0
    """The product is multiplied by alpha / rank."""
    dropout: float = 0.05
    """Of what enters an adapter, in training."""
    targets: list[str] = field(default_factory=lambda: ["attention"])
    """Which linear maps: attention (Q, K, V and output), all (those of the feed-forward blocks too), or names or ends of
    names of modules, such as [q_proj, v_proj]."""
    rslora: bool = False
    """Multiply by alpha / sqrt(rank) instead (arXiv 2312.03732)."""
    dora: bool = False
    """Train the length of each weight vector apart from its direction (arXiv 2402.09353)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(f"adapter.kind={self.kind}: allowed are {', '.join(KINDS)}")
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise LabError(
                f"adapter: rank={self.rank} must be 1 or more, alpha={self.alpha} more than 0, dropout={self.dropout} "
                f"from 0 to below 1, and targets={self.targets} not empty"
            )

    def identity(self) -> dict[str, Any]:
        """What decides a result; nothing without adapters."""
        return {} if self.kind == "none" else {f.name: getattr(self, f.name) for f in fields(self)}

    def add(self, model: PreTrainedModel, seed: int, base: str = "") -> PreTrainedModel:
        """Return the model with adapters that `seed` draws, all else frozen; with kind=none as it is.

        base: the folder or hub id of the model, which the adapter folder then names.
        """
        if self.kind == "none":
            return model
        import torch
        from transformers.pytorch_utils import Conv1D

        peft = import_peft()
        names = self.modules(model)
        settings = peft.LoraConfig(
            task_type="CAUSAL_LM" if type(model).__name__.endswith("ForCausalLM") else None,
            base_model_name_or_path=base or None,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=_shortest_ends(model, names),
            fan_in_fan_out=any(isinstance(model.get_submodule(name), Conv1D) for name in names),
            use_rslora=self.rslora,
            use_dora=self.dora,
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
            adapted: PreTrainedModel = peft.get_peft_model(model, settings)
        if base:
            adapted.peft_config["default"].base_model_name_or_path = base
        return adapted

    def modules(self, model: PreTrainedModel) -> list[str]:
        """Names of the linear maps that `targets` means; LabError for a word that means none, and for tied embeddings."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
        modules = dict(model.named_modules())
        body = "" if model.base_model is model else f"{model.base_model_prefix}."
        linear = [
            name
            for name, m in modules.items()
            if isinstance(m, (nn.Linear, Conv1D)) and id(m) not in ends and name.startswith(body)
        ]
        chosen: list[str] = []
        for word in self.targets:
            if word == "all":
                some = linear
            elif word == "attention":
                some = [name for name in linear if _in_attention(modules, name)]
            else:
                some = [name for name in modules if name == word or name.endswith(f".{word}")]
            if not some:
                words = ["all", "attention", *{name.rpartition(".")[2] for name in linear}]
                raise LabError(
                    f"adapter.targets: no linear map of this model is called '{word}'.{nearest(word, words)} There are: "
                    f"{', '.join(sorted(words))}"
                )
            chosen += some
        tied = getattr(model.config, "tie_word_embeddings", False)
        if tied and any(id(modules[name]) in ends for name in chosen):
            raise LabError(
                "adapter.targets: this model's output embeddings are its word embeddings (tied), and an adapter on one "
                "would be lost in the other when it is merged; adapt attention or all"
            )
        return list(dict.fromkeys(chosen))


def is_adapter(folder: str | Path) -> bool:
    """Whether this is a folder with an adapter, not a model."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: str | Path) -> tuple[str, str | None]:
    """Where the model is that an adapter belongs to, and its revision; LabError if the folder does not say."""
    settings = import_peft().PeftConfig.from_pretrained(str(folder))
    if not settings.base_model_name_or_path:
        raise LabError(
            f"{folder}/{CONFIG} does not say which model it adapts: set base_model_name_or_path to its folder or hub id"
        )
    return settings.base_model_name_or_path, settings.revision


def load_adapter(model: PreTrainedModel, folder: str | Path, *, trainable: bool = False) -> PreTrainedModel:
    """Put the adapter of a folder on its model; LabError if it does not fit."""
    try:
        return import_peft().PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (RuntimeError, ValueError, KeyError) as error:
        raise LabError(
            f"the adapter {folder} does not fit the model that it names ({str(error).splitlines()[0]})"
        ) from error


def merged(adapted: PreTrainedModel, ids: Tensor) -> PreTrainedModel:
    """Add the adapters to the weights, in place, and return the plain model; LabError if what it puts out changes.

    adapted: in float32; ids: int64 (batch, length), texts on which both are compared.
    """
    import torch

    if next(adapted.parameters()).dtype != torch.float32:
        raise LabError("adapters are merged in float32: half precision would round away what they add")
    adapted.eval()
    with torch.no_grad():
        before = adapted(input_ids=ids)[0]
        model: PreTrainedModel = adapted.merge_and_unload()  # type: ignore[operator]
        after = model.eval()(input_ids=ids)[0]
    change = float((after - before).abs().max() / before.abs().max())
    if not change <= MERGED_WITHIN:
        raise LabError(
            f"merging the adapter changes the output by {change:.1e} of the largest (at most {MERGED_WITHIN:.0e} is "
            "rounding): export the adapter folder itself"
        )
    return model


def import_peft() -> Any:
    """peft, or the LabError that says how to get it."""
    try:
        import peft
    except ImportError as error:
        raise LabError("adapters need peft: pip install 'minilm-lab[decoders]'") from error
    return peft


def _in_attention(modules: dict[str, Any], name: str) -> bool:
    parts = name.split(".")
    above = (modules[".".join(parts[:n])] for n in range(1, len(parts)))
    return any("attention" in type(module).__name__.lower() for module in above)


def _shortest_ends(model: PreTrainedModel, names: list[str]) -> list[str]:
    """The shortest ends of names that mean these modules and no others: [q_proj, …] rather than a name a layer."""
    every, wanted = [name for name, _ in model.named_modules()], set(names)
    ends: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if all(other in wanted for other in every if other == end or other.endswith(f".{end}")):
                ends[end] = None
                break
    return list(ends)
