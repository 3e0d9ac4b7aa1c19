"""Where a number was measured: versions, commit, uncommitted changes and hardware."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from minilm_lab.runs.files import write_atomically

LIBRARIES = (
    "torch",
    "pytorch-lightning",
    "transformers",
    "tokenizers",
    "datasets",
    "hydra-core",
    "wandb",
    "numpy",
    "scipy",
    "scikit-learn",
)
log = logging.getLogger(__name__)

#: What of the checkout decides a number.
CODE = ("minilm_lab", "conf")
#: The uncommitted changes of the code that made a run, in its folder: `git apply` gives the code back.
PATCH = "changes.patch"
#: Bytes; more than this is no code, but a file that lies among it.
LARGEST_PATCH = 5_000_000


def describe(folder: Path | None = None) -> dict[str, Any]:
    """Return {"versions", "commit", "changes", "hardware"} of this process.

    "changes" is a checksum of the code's uncommitted changes, None without any; they are written to
    `folder`/changes.patch where a folder is given.
    """
    versions = {"python": platform.python_version(), "minilm-lab": _version("minilm-lab")}
    versions.update({name: _version(name) for name in LIBRARIES})
    patch = changes()
    if folder is not None:
        if 0 < len(patch) <= LARGEST_PATCH:
            write_atomically(folder / PATCH, patch)
        else:
            (folder / PATCH).unlink(missing_ok=True)
        if len(patch) > LARGEST_PATCH:
            log.warning(
                "the uncommitted changes of the code are %d MB: the record has their checksum alone",
                len(patch) // 10**6,
            )
    checksum = hashlib.blake2b(patch, digest_size=8).hexdigest() if patch else None
    return {"versions": versions, "commit": commit(), "changes": checksum, "hardware": hardware()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the lab's own checkout, with '+changes' if its code differs from it; None outside one."""
    found = _git("rev-parse", "--short=12", "HEAD")
    if found is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE)
    return found.decode().strip() + ("+changes" if changed and changed.strip() else "")


def changes() -> bytes:
    """The uncommitted changes of the lab's code as a patch, new files included; empty without any."""
    patch = _git("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--", *CODE) or b""
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *CODE) or b""
    for name in sorted(filter(None, new.decode().split("\0"))):
        # Compared with nothing, git ends with 1: they differ.
        patch += (
            _git("diff", "--binary", "--no-color", "--no-index", "--", os.devnull, name, codes=(0, 1)) or b""
        )
    return patch


def _git(*words: str, codes: tuple[int, ...] = (0,)) -> bytes | None:
    """What git says in the lab's own checkout; None outside one, or without git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode in codes else None


def hardware() -> dict[str, Any]:
    """Processor, number of usable cores and GPU names."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "gpu": ", ".join(gpus) or None}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
