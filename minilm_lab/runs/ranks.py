"""Several processes for one run: the leader keeps the run's folder, the followers only take part in training.

A process takes part in a run only where something is known to have started as many of them as the run has devices:
the lab itself (through Lightning), `srun` or `torchrun`. What else the environment holds says nothing of this process:
the tasks of an allocation (`SLURM_NTASKS`), a `RANK` that a shell has left.
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)

FOLLOWS = "MINILM_LAB_FOLLOWS"
"""Set by a leader for the processes it starts: the identity of the run that they take part in."""
GROUP = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""How processes are told of their group. Where nobody has started one, these are left over from something else."""
_RANK = {"lab": "LOCAL_RANK", "srun": "SLURM_PROCID", "torchrun": "RANK"}
"""Launcher -> where it tells a process its rank."""

_launcher: str | None = None
_warned = False


class Followed(BaseException):
    """A follower's part of a run is over. Not an error: nothing that catches errors must catch it."""


def join(devices: int) -> None:
    """Find out whether a launcher has started this process as one of those of a run on so many devices.

    What is odd in the environment is said once and otherwise passed over: the process works alone.
    """
    global _launcher, _warned
    if FOLLOWS in os.environ:
        return
    started = {"srun": _tasks_of_srun(), "torchrun": _tasks_of_torchrun()}
    _launcher = next((name for name, tasks in started.items() if 1 < devices == tasks), None)
    if _launcher is not None:
        return
    odd = [f"{name} started {tasks} processes" for name, tasks in started.items() if tasks > 1]
    left = [f"{name}={os.environ.pop(name)}" for name in GROUP if os.environ.get(name)]
    if left and not odd:
        odd = [f"{' '.join(left)} is left in the environment"]
    if odd and not _warned:
        _warned = True
        log.warning("%s, and trainer.devices=%d: this process works alone", "; ".join(odd), devices)


def _tasks_of_srun() -> int:
    """Processes of the step of `srun` that this process belongs to; 0 in none, also in the shell of an allocation."""
    step = os.environ.get("SLURM_STEP_ID", "")
    # Slurm numbers the shells of sbatch and salloc, which are steps too, from the top.
    real = step.isdigit() and int(step) < 2**31 and "SLURM_PROCID" in os.environ
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "0")) if real else 0


def _tasks_of_torchrun() -> int:
    known = "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ
    return int(os.environ.get("WORLD_SIZE", "0")) if known else 0


def launcher() -> str | None:
    """Who started this process as one of several for a run: srun, torchrun, lab; None = nobody did."""
    return "lab" if FOLLOWS in os.environ else _launcher


def is_follower() -> bool:
    """Whether this process is not the first of those that train one run."""
    name = _RANK.get(launcher() or "")
    return name is not None and os.environ.get(name, "0") not in ("", "0")


def takes_part(identity: str) -> bool:
    """Whether this follower was started for the run `identity` (by a launcher other than the lab's: for any)."""
    return os.environ.get(FOLLOWS, identity) == identity
