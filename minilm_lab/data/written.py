"""Text that a causal model writes: sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from minilm_lab.config import option
from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.corpus import Corpus
from minilm_lab.errors import LabError
from minilm_lab.locks import locked
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.resolve import Model, resolve

BATCH = 32
"""Texts written at a time; after each the file grows."""


@dataclass
class WrittenCorpus(Corpus):
    """What a model, as a rule the teacher, writes on from the first tokens of another corpus' documents.

    The texts are written once and kept in the cache; one that was cut off is gone on with. Text n is a function of the
    model, its prompt and (seed, n). A document is the prompt with what follows.
    """

    name: str = "written"

    source: str = MISSING
    """The model that writes: a run in ./runs, a folder, a model out of a package, or a hub id."""
    corpus: dict[str, Any] = field(default_factory=dict)
    """Where prompts come from: a file of conf/corpus, `_target_` included."""
    texts: int = 1000
    """How many; documents with fewer tokens than a prompt are passed over."""
    prompt: int = 32
    """Tokens of a document that are given."""
    length: int = 96
    """Tokens that are written, at most."""
    method: str = "sample"
    """greedy | sample | beam (the paper's)."""
    temperature: float = 1.0
    """Of sampling."""
    top_p: float = 1.0
    """Of sampling."""
    beams: int = 4
    """Of beam search."""
    seed: int = 0
    """Of sampling."""

    def __post_init__(self) -> None:
        for setting in ("texts", "prompt"):
            if getattr(self, setting) < 1:
                raise LabError(f"corpus.{setting}={getattr(self, setting)} must be 1 or more.")
        self._prompts = option(self.corpus, "corpus", "corpus.corpus")
        self._decoding = Decoding(
            self.method, self.length, self.temperature, self.top_p, self.seed, self.beams
        )

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        folder = cache / "written"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.fingerprint(hub, cache)}.jsonl"
        with locked(file.with_suffix(".lock"), "Another process writes these texts; waiting for it."):
            there = _lines(file)
            if len(there) < self.texts:
                self._write(file, there, hub, cache)
        yield from (line["text"] for line in _lines(file))

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        names = ("texts", "prompt", "length", "method", "temperature", "top_p", "beams", "seed")
        settings = {name: getattr(self, name) for name in names}
        return settings_checksum(
            [settings, self._model(cache).identity, self._prompts.fingerprint(hub, cache)]
        )

    def _model(self, cache: Path) -> Model:
        return resolve(self.source, runs=Path("runs"), cache=cache, key="corpus.source")

    def _write(self, file: Path, there: list[dict[str, Any]], hub: str | None, cache: Path) -> None:
        import torch
        from tqdm import tqdm

        from minilm_lab.models.language_model import LanguageModel

        where = self._model(cache)
        model = LanguageModel.load(where.where, where.revision, "corpus.source", batch_size=BATCH)
        if torch.cuda.is_available():
            torch.nn.Module.to(model.model, "cuda")
        prompts = list(islice(self._begun(model, hub, cache), self.texts))
        if len(prompts) < self.texts:
            raise LabError(
                f"corpus.texts={self.texts}: {self._prompts.name} has {len(prompts)} documents of at least "
                f"{self.prompt} tokens; give fewer texts, or a shorter corpus.prompt."
            )
        # Only whole lines stay: the last one may have been cut off.
        file.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in there), encoding="utf-8"
        )
        with (
            file.open("a", encoding="utf-8") as out,
            tqdm(total=self.texts, initial=len(there), desc=f"{where.title} writes", disable=None) as bar,
        ):
            for start in range(len(there), self.texts, BATCH):
                rows = range(start, min(start + BATCH, self.texts))
                answers = model.generate([prompts[n] for n in rows], self._decoding, rows=rows)
                for n, answer in zip(rows, answers, strict=True):
                    text = model.text([*prompts[n], *answer.tokens])
                    line = {"text": text, "n": n, "written": len(answer.tokens), "ended": answer.ended}
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()
                bar.update(len(rows))

    def _begun(self, model: Any, hub: str | None, cache: Path) -> Iterator[list[int]]:
        for text in self._prompts.documents(hub, cache):
            ids = model.ids(text[: 40 * self.prompt])[: self.prompt]
            if len(ids) == self.prompt:
                yield ids


def _lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file, in order; what a kill cut off is not among them."""
    if not file.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for text in file.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict) or line.get("n") != len(lines):
            break
        lines.append(line)
    return lines
