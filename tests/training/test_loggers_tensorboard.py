"""The TensorBoard logger: an extra that says so when it is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.training.loggers import TensorBoard, finish

ABOUT = {
    "identity": "abcdef0123",
    "command": "distill",
    "name": "n",
    "experiment": "trial",
    "config": {"seed": 3},
}


def test_without_the_package_the_error_comes_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(LabError, match=r"minilm-lab\[tensorboard\]"):
        config.build(compose_command("distill", ["logger=tensorboard"]).logger, "logger")


def test_metrics_and_settings_are_in_the_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (logger,) = TensorBoard().build(tmp_path, ABOUT)
    for step in (10, 20):
        logger.log_metrics({"loss": 9.0 - step / 10, "dev/accuracy": 80.0}, step=step)
    finish([logger], {"held_out_loss": 6.5})
    found: dict[str, Any] = {}
    for folder in {file.parent for file in tmp_path.rglob("events.out.tfevents.*")}:
        events = EventAccumulator(str(folder)).Reload()
        found |= {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert found["loss"] == [(10, 8.0), (20, 7.0)] and found["dev/accuracy"] == [(10, 80.0), (20, 80.0)]
    assert found["held_out_loss"][0][1] == 6.5
    assert "seed: 3" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()
