"""Signals to a job of submitit: a checkpoint first, then it is queued again; SIGTERM alone ends nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from minilm_lab.runs import stopping

signal_handler = pytest.importorskip("submitit.core.job_environment").SignalHandler


class Environment:
    """Notes what is queued again."""

    global_rank = 0

    def __init__(self) -> None:
        self.requeued: list[int] = []

    def _requeue(self, countdown: int) -> None:
        self.requeued.append(countdown)


class Delayed:
    """A job of which nothing is pickled."""

    function = staticmethod(print)
    _timeout_min, _timeout_countdown = 60, 3


class Paths:
    submitted_pickle = None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """submitit's own handlers, on an environment that notes."""
    for name, value in (("_asked", False), ("_saves", False), ("_requeues", None)):
        monkeypatch.setattr(stopping, name, value)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    environment = Environment()
    handler = signal_handler(environment, Paths(), Delayed())
    signal.signal(signal.SIGTERM, handler.bypass)
    signal.signal(signal.SIGUSR2, handler.checkpoint_and_try_requeue)
    yield environment
    for number, old in before.items():
        signal.signal(number, old)


def test_a_job_is_queued_again_only_after_its_checkpoint(environment: Environment) -> None:
    assert stopping.takes_signals()
    stopping.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    assert stopping.saves() and stopping.asked() and not environment.requeued
    with pytest.raises(stopping.Requeued):
        stopping.end()
    assert environment.requeued == [3]


def test_sigterm_wants_one_checkpoint_and_ends_nothing(environment: Environment) -> None:
    stopping.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.saves() and not stopping.saves() and not stopping.asked()
    stopping.check()
    assert not environment.requeued


def test_a_second_signal_does_not_wait_and_after_training_the_first_does_not(
    environment: Environment,
) -> None:
    stopping.listen()
    os.kill(os.getpid(), signal.SIGUSR2)
    with pytest.raises(stopping.Requeued):
        os.kill(os.getpid(), signal.SIGUSR2)
    stopping.leave()
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGUSR2)
    assert environment.requeued == [3, 3]
