"""Killed, asked to end, failing, started twice: the same command again ends as if nothing had happened.

One try of each kind; `python -m tests.reliability.matrix --cases N` tries all of them N times.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import ENVIRONMENT, Lab

from .crashes import CannotRun, Case, cases, try_case
from .scene import Material, Scene, stragglers

pytestmark = pytest.mark.slow
CHOSEN = [case for case in cases() if "is cut" not in case.family]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Material:
    """Teacher and text; undisturbed runs."""
    return Material(tmp_path_factory.mktemp("material") / "material", lab)


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: f"{case.family}, {case.name}")
def test_it_ends_as_if_nothing_had_happened(case: Case, material: Material, tmp_path: Path) -> None:
    try:
        assert try_case(case, material, tmp_path / "case", seed=100) == []
    except CannotRun as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_the_true_command_line(number: int, code: int, material: Material, tmp_path: Path) -> None:
    scene = Scene(material, tmp_path / "case", [*material.distill(), "trainer.held_out_every=1"])
    scene.words.remove("trainer.held_out_every=4")
    words = [*scene.words, f"paths.runs={scene.runs}", f"paths.cache={scene.cache}"]
    environment = {**os.environ, **ENVIRONMENT}
    running = subprocess.Popen(
        [sys.executable, "-m", "minilm_lab", *words], env=environment, stderr=subprocess.DEVNULL
    )
    while scene.step() < 2 and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(number)
    assert running.wait(120) == code
    assert scene.verdict() == []


def _tokenise(mark: Path, here: Path) -> None:
    from minilm_lab.data.docstrings import docstrings

    os.chdir(here)
    stream = docstrings(10_000_000)
    next(stream)
    mark.write_text("now")
    time.sleep(60)


def test_the_readers_of_docstrings_end_with_a_killed_process(tmp_path: Path) -> None:
    mark, here = tmp_path / "mark", tmp_path / "here"
    here.mkdir()
    process = multiprocessing.get_context("fork").Process(target=_tokenise, args=(mark, here))
    process.start()
    end = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert len(stragglers(here)) > 1, "there were no readers"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    end = time.monotonic() + 10
    while stragglers(here) and time.monotonic() < end:
        time.sleep(0.02)
    assert stragglers(here) == []
