"""Whether Weights & Biases can be reached: what is kept offline without a login is uploaded later."""

from __future__ import annotations

import logging
import netrc
import os
from pathlib import Path

from minilm_lab.runs.ranks import is_follower

log = logging.getLogger(__name__)
SWEEP = "WANDB_SWEEP_ID"
"""Set by `wandb agent` for the processes it starts."""
_told = False


def logged_in() -> bool:
    """Whether an API key is at hand: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        file = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    server = os.environ.get("WANDB_BASE_URL", "")
    return any("wandb" in host or (host and host in server) for host in file.hosts)


def mode(runs: Path) -> str | None:
    """Return the mode for `wandb.init`: None where WANDB_MODE decides, else online only with a login.

    runs: the folder of all runs, for the command that uploads them later; it is told once.
    """
    global _told
    if os.environ.get("WANDB_MODE"):
        return None
    if logged_in():
        return "online"
    if not _told and not is_follower():
        _told = True
        log.info(
            "W&B: not logged in, so runs are kept offline. After `wandb login`, `minilm-lab sync paths.runs=%s` "
            "uploads them",
            runs,
        )
    return "offline"
