"""A checkpoint says what work it belongs to: training never goes on from that of another run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf

from minilm_lab.errors import LabError
from minilm_lab.runs.differences import differing, told

#: What Lightning keeps in a checkpoint of training.
PARTS = frozenset({"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step"})


class SameWork(pl.Callback):
    """Keeps the what-config of the run in its checkpoints."""

    def __init__(self, config: Path) -> None:
        """config: config.yaml of the run's folder."""
        self.what = _what(config)

    def state_dict(self) -> dict[str, Any]:
        """The what-config as JSON."""
        return {"what": self.what}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: it was compared before the weights were loaded."""


def check_checkpoint(checkpoint: Any, path: Path, config: Path) -> None:
    """Raise LabError if what was read from `path` is no training state, or that of other work than `config` says.

    A checkpoint of version 0.1.0 does not say what it belongs to: it is taken.
    """
    delete = f"Delete the folder {path.parent} to start from step 0"
    if not isinstance(checkpoint, Mapping) or not checkpoint.keys() >= PARTS:
        raise LabError(f"{path} is no checkpoint of the lab, although its checksum is right. {delete}")
    state = (
        checkpoint["callbacks"].get(SameWork.__qualname__, {})
        if isinstance(checkpoint["callbacks"], dict)
        else {}
    )
    before, now = state.get("what"), _what(config)
    if before is None or now is None or before == now:
        return
    changed = differing(json.loads(before), json.loads(now))
    raise LabError(
        f"{path} was made by other work than this run's: {told(changed)}. {delete}, or put the setting back"
    )


def _what(config: Path) -> str | None:
    if not config.is_file():
        return None
    return json.dumps(OmegaConf.to_container(OmegaConf.load(config).what), sort_keys=True)
