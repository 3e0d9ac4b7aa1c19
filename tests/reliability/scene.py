"""A tiny job that can be disturbed, and what must hold once the same command has run again."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from data.helpers import WORDS, wordpiece
from lab import Finished, Lab, Running
from transformers import BertConfig, BertModel

from minilm_lab.runs.folder import RunFolder

from . import faults

STEPS = 24
#: Of metrics.jsonl: what a clock measured.
CLOCK = ("time", "tokens_per_second")
#: Of result.json: what must not depend on how often a run was disturbed.
SAME = (
    "identity",
    "config",
    "loss",
    "held_out_loss",
    "tokens_seen",
    "steps",
    "scores",
    "history",
    "selection",
)
_STARTING = threading.Lock()
PRODUCTS = ("student/model.safetensors", "model/model.safetensors", "predictions.jsonl")


class Material:
    """Teacher, text and task data that all scenes read; and what undisturbed runs give, found out once."""

    def __init__(self, folder: Path, lab: Lab) -> None:
        self.folder, self.lab = folder, lab
        folder.mkdir(parents=True, exist_ok=True)
        self.teacher, self.text, self.task = folder / "teacher", folder / "text.txt", folder / "task"
        _write_teacher(self.teacher)
        draw = random.Random(5)
        _write_text(self.text, draw)
        _write_task(self.task, draw)
        self._whole: dict[tuple[str, ...], dict[str, Any]] = {}
        self.changes = 0

    def distill(self, workers: int = 0) -> list[str]:
        """A distillation of 24 steps, 2 micro-batches each: lines every 2, checkpoints every 6 steps."""
        return [
            "distill",
            *self._common(workers),
            f"scale.steps={STEPS}",
            "student=half_depth",
            "student.dropout=0.1",
            "objective.heads=12",
            "optim.lr=1e-3",
        ]

    def pretrain(self) -> list[str]:
        """The training of a masked-LM head, 24 steps."""
        return ["pretrain", *self._common(0), f"scale.steps={STEPS}", "head=mlm", "head.lr=1e-2"]

    def finetune(self, workers: int = 0) -> list[str]:
        """Two epochs of 12 steps of classification."""
        task = ["source=teacher", "task=classification", f"task.path={self.task}", "task.length=24"]
        tune = ["tune.batch_size=4", "tune.lr=1e-3", "tune.save_model=true", "scale.epochs=2"]
        return ["finetune", *self._common(workers), *task, *tune]

    def _common(self, workers: int) -> list[str]:
        return [
            "teacher=path",
            f"teacher.path={self.teacher}",
            "corpus=path",
            f"corpus.path={self.text}",
            "scale.batch_size=4",
            "scale.length=16",
            "impl.threads=1",
            "impl.precision=32",
            f"impl.workers={workers}",
            "trainer.accumulate=2",
            "trainer.log_every=2",
            "trainer.held_out_every=4",
            "trainer.checkpoint_every=6",
            "logger=none",
        ]

    def whole(self, words: Sequence[str]) -> dict[str, Any]:
        """What the undisturbed command gives (with 0 workers; their number changes nothing)."""
        key = tuple(word for word in words if not word.startswith("impl.workers"))
        if key not in self._whole:
            place = self.folder / f"whole-{len(self._whole)}"
            scene = Scene(self, place, [*key, "impl.workers=0"])
            counted = place / "changes"
            place.mkdir()
            finished = scene.start(functools.partial(faults.count_changes, place / "runs", counted)).finish()
            assert finished.code == 0, finished.err
            self._whole[key] = scene.outcome() | {"changes": int(counted.read_text())}
        return self._whole[key]


@dataclass
class Scene:
    """One command in a folder of its own."""

    material: Material
    place: Path
    words: list[str]
    notes: list[str] = field(default_factory=list)
    """What is wrong with how the disturbance itself went."""

    @property
    def runs(self) -> Path:
        return self.place / "runs"

    @property
    def cache(self) -> Path:
        return self.place / "cache"

    @property
    def run(self) -> Path:
        """The folder of the only run of the command."""
        (folder,) = (path for path in (self.runs / self.words[0]).iterdir() if not path.name.startswith("."))
        return folder

    def start(self, before: Callable[[], None] | None = None, *extra: str) -> Running:
        """Start the command; `before`: a fault, called in the new process first."""
        where = self.place / "here"
        where.mkdir(parents=True, exist_ok=True)
        paths = [f"paths.runs={self.runs}", f"paths.cache={self.cache}"]
        ready = functools.partial(faults.prepare, before)
        with _STARTING:
            return self.material.lab.start(*self.words, *paths, *extra, cwd=where, before=ready)

    def expect(self, finished: Finished, code: int, *said: str) -> None:
        """Note it if a command ended otherwise, or said something else."""
        if finished.code != code:
            self.notes.append(f"exit code {finished.code} instead of {code}: {finished.err[-300:]}")
        for text in said:
            if text not in finished.err:
                self.notes.append(f"did not say '{text}': {finished.err[-300:]}")

    def killed(self, before: Callable[[], None]) -> bool:
        """Run with a fault that kills it; false (and no note) if it ended before the fault struck."""
        code = self.start(before).finish().code
        if code not in (0, -signal.SIGKILL):
            self.notes.append(f"exit code {code} instead of -9")
        self.lone()
        return code != 0

    def lone(self) -> None:
        """Note the processes that outlive the command: the system has a moment to end them."""
        end = time.monotonic() + 3
        while left := stragglers(self.place):
            if time.monotonic() > end:
                self.notes.append(f"processes left: {left}")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)

    def step(self) -> int:
        """The last step of the journal so far."""
        files = list(self.runs.glob("*/*/metrics.jsonl"))
        steps = [0]
        for text in files[0].read_text(errors="replace").splitlines() if files else []:
            if text.endswith("}"):
                steps.append(int(json.loads(text)["step"]))
        return max(steps)

    def outcome(self) -> dict[str, Any]:
        """Checksums of the product, the journal without clocks, and the lasting part of the record."""
        record = json.loads((self.run / "result.json").read_text())
        lines = [json.loads(text) for text in (self.run / "metrics.jsonl").read_text().splitlines()]
        products = [self.run / name for name in PRODUCTS if (self.run / name).is_file()]
        return {
            "products": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in products},
            "lines": [{k: v for k, v in line.items() if k not in CLOCK} for line in lines],
            "record": {k: record[k] for k in SAME if k in record},
        }

    def verdict(self) -> list[str]:
        """Start the same command again; return all that is not as if nothing had happened."""
        wanted = self.material.whole(self.words)
        finished = self.start().finish()
        self.expect(finished, 0)
        self.lone()
        if finished.code != 0:
            return self.notes
        found = self.outcome()
        self.notes += [f"{name} differs" for name in found if found[name] != wanted[name]]
        status = json.loads((self.run / "status.json").read_text())
        if status["state"] != "COMPLETED":
            self.notes.append(f"its status is {status['state']}")
        left = [p for p in self.place.rglob("*") if p.name.endswith((".tmp", ".partial", ".ckpt", ".sum"))]
        if left:
            self.notes.append(f"files left: {[str(p.relative_to(self.place)) for p in left]}")
        known = RunFolder(self.runs, self.words[0], "", wanted["record"]["identity"])
        if known.result() is None:
            self.notes.append("its record is not believed")
        return self.notes

    def close(self) -> None:
        """Free the space if all went well."""
        if not self.notes:
            shutil.rmtree(self.place, ignore_errors=True)


def stragglers(place: Path) -> list[int]:
    """Processes that work in a folder under `place`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                here = str((entry / "cwd").readlink())
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if here.startswith(str(place)) and state != "Z":
                found.append(int(entry.name))
    return found


def _write_teacher(folder: Path) -> None:
    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=4,
        hidden_size=48,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(17)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _write_text(file: Path, draw: random.Random) -> None:
    lines = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(6, 20))) + "." for _ in range(80)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_task(folder: Path, draw: random.Random) -> None:
    folder.mkdir()
    for split, rows in (("train", 48), ("validation", 21)):
        lines = ["text,label"]
        for _ in range(rows):
            words = [draw.choice(WORDS) for _ in range(draw.randint(4, 12))]
            lines.append(f"{' '.join(words)},{'cat' if words[0] < 'on' else 'dog'}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
