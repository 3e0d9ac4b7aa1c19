"""Compare two runs of the same work: metrics line by line, weights, scores, and where they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from minilm_lab.runs.differences import differing, told
from minilm_lab.runs.files import read_json

#: What a clock measured is no result.
CLOCK = frozenset({"time", "tokens_per_second"})
#: Of a record: what was computed. The rest says where, when and under what name.
RESULTS = (
    "loss",
    "held_out_loss",
    "held_out_perplexity",
    "scores",
    "score",
    "history",
    "details",
    "probe",
    "tokens_seen",
    "steps",
    "untrained",
    "trained",
    "parameters",
)
#: Of a record: where it was computed.
PLACE = ("commit", "changes", "versions", "hardware", "precision")


@dataclass(frozen=True)
class Comparison:
    """What two runs of the same work have in common."""

    lines: int
    """Lines of metrics.jsonl that are equal, from the first one on."""
    files: int
    """Files of weights and predictions compared."""
    tensors: int
    """Tensors in them."""
    differences: list[str] = field(default_factory=list)
    """The first difference of each kind: metrics, weights, scores. Empty: the same to the bit."""
    place: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What differs of commit, uncommitted changes, versions and hardware: key -> (then, now)."""
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What differs of how it was computed (impl, trainer): key -> (then, now)."""

    @property
    def same(self) -> bool:
        """Whether every number compared is the same to the bit."""
        return not self.differences

    def text(self) -> str:
        """For people."""
        compared = f"{self.lines} lines of metrics, {self.tensors} tensors in {self.files} files, the scores"
        found = (
            [f"the same bit for bit: {compared}"] if self.same else [f"not the same: {self.differences[0]}"]
        )
        found += [f"  also {difference}" for difference in self.differences[1:]]
        found += [f"  {key}: {told({key: pair}).partition(': ')[2]}" for key, pair in self.where().items()]
        if not self.same and not self.where():
            found.append("  commit, changes, versions, hardware and settings are the same")
        return "\n".join(found)

    def where(self) -> dict[str, tuple[Any, Any]]:
        """What differs of place and settings."""
        return {**self.place, **self.settings}

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "same": self.same,
            "compared": {"lines": self.lines, "files": self.files, "tensors": self.tensors},
            "differences": self.differences,
            "place": {key: list(pair) for key, pair in self.where().items()},
        }


def compare(first: Path, second: Path) -> Comparison:
    """Compare two completed run folders."""
    lines, metrics = _metrics(first, second)
    files, tensors, weights = _files(first, second)
    old, new = (read_json(folder / "result.json") or {} for folder in (first, second))
    results = differing(*({key: record.get(key) for key in RESULTS} for record in (old, new)))
    scores = f"the record: {told(results, 3)}" if results else None
    return Comparison(
        lines,
        files,
        tensors,
        [difference for difference in (metrics, weights, scores) if difference],
        differing(*({key: record.get(key) for key in PLACE} for record in (old, new))),
        differing(*(_settings(folder) for folder in (first, second))),
    )


def _settings(folder: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    file = folder / "config.yaml"
    kept = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    how = kept.get("how") if isinstance(kept, dict) else None
    return {key: how.get(key) for key in ("impl", "trainer")} if isinstance(how, dict) else {}


def _metrics(first: Path, second: Path) -> tuple[int, str | None]:
    """How many lines are equal from the first on, and the first difference."""
    pairs = zip_longest(_lines(first), _lines(second))
    count = 0
    for number, (old, new) in enumerate(pairs, start=1):
        if old is None or new is None:
            longer = "first" if new is None else "second"
            return count, f"metrics.jsonl has more lines in the {longer} run: line {number}"
        if found := differing(old, new):
            return count, f"metrics.jsonl, line {number} (step {old.get('step')}): {told(found, 3)}"
        count += 1
    return count, None


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as stream:
        for text in stream:
            line = json.loads(text)
            yield {key: value for key, value in line.items() if key not in CLOCK}


def _files(first: Path, second: Path) -> tuple[int, int, str | None]:
    """How many files and tensors were compared, and the first difference."""
    names = sorted(
        {file.relative_to(folder).as_posix() for folder in (first, second) for file in _products(folder)}
    )
    tensors, found = 0, None
    for name in names:
        old, new = first / name, second / name
        if not (old.is_file() and new.is_file()):
            missing = "first" if new.is_file() else "second"
            found = found or f"{name} is missing in the {missing} run"
        elif name.endswith(".safetensors"):
            count, difference = _tensors(old, new)
            tensors += count
            found = found or (f"{name}: {difference}" if difference else None)
        elif _checksum(old) != _checksum(new):
            found = found or f"{name} differs"
    return len(names), tensors, found


def _products(folder: Path) -> Iterator[Path]:
    yield from folder.glob("predictions*.jsonl")
    for product in ("student", "model"):
        yield from (folder / product).glob("*.safetensors")


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _tensors(first: Path, second: Path) -> tuple[int, str | None]:
    import torch
    from safetensors.torch import load_file

    old, new = load_file(first), load_file(second)
    found = _shapes(old, new)
    for name in sorted(old) if found is None else ():
        a, b = old[name], new[name]
        # As bytes: a NaN equals itself, and -0 is not 0.
        if not torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)):
            largest = float((a.double() - b.double()).abs().max())
            return len(old), f"tensor {name} differs by up to {largest:.3g}"
    return len(old), found


def _shapes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    shapes = ({name: [str(t.dtype), *t.shape] for name, t in side.items()} for side in (old, new))
    found = differing(*shapes)
    return f"other tensors: {told(found, 3)}" if found else None
