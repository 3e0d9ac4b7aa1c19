"""The commands of a Slurm cluster, as a test asks it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """Its environment, which commands need to find it."""

    env: dict[str, str]

    @property
    def settings(self) -> dict[str, str]:
        """What a command of the lab, and its jobs, need in their environment beside that of the tests."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # The forks of the tests' server wait for nothing on the network; nor may the jobs.
        return {"SLURM_CONF": self.env["SLURM_CONF"], "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}

    def ask(self, *words: str) -> str:
        """What a command says."""
        return subprocess.run(words, env=self.env, check=True, capture_output=True, text=True).stdout

    def jobs(self) -> dict[str, dict[str, str]]:
        """ "12" or "12_0" -> what Slurm knows of the job, also for a while after its end."""
        found = {}
        for line in self.ask("scontrol", "show", "job", "--oneliner").splitlines():
            about = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
            if about.get("ArrayTaskId", "0").isdigit():
                name = (
                    f"{about['ArrayJobId']}_{about['ArrayTaskId']}"
                    if "ArrayJobId" in about
                    else about["JobId"]
                )
                found[name] = about
        return found

    def wait(self, happened: Callable[[], Any], seconds: float = 60) -> Any:
        """What `happened` says as soon as that is true; fails after so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said = happened()
            if said:
                return said
            time.sleep(0.05)
        raise AssertionError(f"nothing happened in {seconds} s:\n{self.ask('squeue', '--states=all')}")

    def run_urgently(self, command: str) -> str:
        """Submit a job that needs the whole node and pre-empts those of `low`; its number."""
        words = (
            "sbatch",
            "--partition=urgent",
            "--cpus-per-task=8",
            "--output=/dev/null",
            f"--wrap={command}",
        )
        found = re.search(r"job (\d+)", self.ask(*words))
        assert found is not None
        return found[1]
