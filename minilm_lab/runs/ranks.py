"""Several processes for one run: the leader keeps the run's folder, the followers only take part in training."""

from __future__ import annotations

import os

#: Set by a leader for the processes it starts: the identity of the run that they take part in.
FOLLOWS = "MINILM_LAB_FOLLOWS"
#: Where launchers (Lightning, torchrun, Slurm) tell a process its rank.
RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


class Followed(BaseException):
    """A follower's part of a run is over. Not an error: nothing that catches errors must catch it."""


def is_follower() -> bool:
    """Whether this process is not the first of those that train one run."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def takes_part(identity: str) -> bool:
    """Whether this follower was started for the run `identity` (by a launcher other than the lab's: for any)."""
    return os.environ.get(FOLLOWS, identity) == identity
