"""The jobs of a multirun: each notes how it ended, in whatever process it ran; at the end they are one table.

The notes lie in `<paths.runs>/multirun/<token>/`, a file a job; the token is a hash of the command's words, so that the
same command started again has the same place, and `minilm-lab runs multirun=<token>` shows the table again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from minilm_lab.errors import LabError, told
from minilm_lab.runs.files import read_json, write_json

log = logging.getLogger(__name__)

#: Environment variables of the jobs, which those of a launcher inherit: the token, how many jobs there are, and the
#: settings that are varied.
_TOKEN, _COUNT, _VARIED = "MINILM_LAB_MULTIRUN", "MINILM_LAB_JOBS", "MINILM_LAB_VARIED"
#: What the entry point of a command returns, and whether more of it is better.
RETURNS = {
    "distill": ("held-out loss", False),
    "pretrain": ("held-out perplexity", False),
    "finetune": ("score", True),
    "evaluate": ("score", True),
}


def begin(command: str, words: Sequence[str], runs: Path) -> Path:
    """The empty folder of the notes of this multirun; jobs that start from now on write there."""
    token = hashlib.blake2b("\0".join([command, *words]).encode(), digest_size=5).hexdigest()
    folder = runs / "multirun" / token
    shutil.rmtree(folder, ignore_errors=True)
    os.environ[_TOKEN] = token
    swept = [override for override in _parsed(words) if override.is_sweep_override()]
    os.environ[_VARIED] = " ".join(f"{override.get_key_element()}=" for override in swept)
    searched = any(word.startswith("hydra/sweeper=") and not word.endswith("=basic") for word in words)
    if swept and not searched:
        count = math.prod(len(list(override.sweep_string_iterator())) for override in swept)
        os.environ[_COUNT] = f" of {count}"
    return folder


def end() -> None:
    """Jobs are jobs of this multirun no longer."""
    for name in (_TOKEN, _COUNT, _VARIED):
        os.environ.pop(name, None)


def notes(folder: Path) -> list[dict[str, Any]]:
    """What the jobs noted, by their numbers."""
    read = [read_json(file) for file in folder.glob("*.json")]
    return sorted((note for note in read if isinstance(note, dict)), key=lambda note: int(note["number"]))


def _parsed(words: Sequence[str]) -> list[Override]:
    arguments = get_args_parser().parse_args(list(words))
    return OverridesParser.create().parse_overrides(arguments.overrides)


def shared(words: Sequence[str]) -> list[str]:
    """The overrides that all jobs have, with the folder of configs that `--config-dir` names."""
    folder = get_args_parser().parse_args(list(words)).config_dir
    more = [] if folder is None else [f"hydra.searchpath=['file://{Path(folder).absolute()}']"]
    return [str(word.input_line) for word in _parsed(words) if not word.is_sweep_override()] + more


def noted(command: str, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a command's entry point: the job says which it is, and notes how it ended."""

    @functools.wraps(run)
    def job(cfg: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig

        settings = HydraConfig.get()
        overrides = list(settings.overrides.task)
        note: dict[str, Any] = {"command": command, "number": int(settings.job.num), "overrides": overrides}
        varied = tuple(os.environ.get(_VARIED, "").split())
        shown = [word for word in overrides if word.startswith(varied)] if varied else overrides
        log.info("job %d%s: %s", note["number"] + 1, os.environ.get(_COUNT, ""), " ".join(shown))
        try:
            score = run(cfg)
        except Exception as error:
            trace = None if isinstance(error, LabError) else traceback.format_exc()
            _write(cfg, {**note, "error": told(error), "traceback": trace})
            raise
        _write(cfg, {**note, "score": float(score) if isinstance(score, (int, float)) else None})
        return score

    return job


def _write(cfg: Any, note: dict[str, Any]) -> None:
    token = os.environ.get(_TOKEN)
    if token is not None:
        write_json(Path(cfg.paths.runs) / "multirun" / token / f"{note['number']}.json", note)


def failures(noted: Sequence[dict[str, Any]]) -> list[str]:
    """One text a job that failed."""
    failed = [note for note in noted if "error" in note]
    return [
        f"job {note['number']} ({' '.join(note['overrides'])}): {note['error']}"
        + (f"\n{note['traceback']}" if note["traceback"] else "")
        for note in failed
    ]
