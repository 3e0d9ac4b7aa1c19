"""evaluator=open_ended: how diverse texts are that have no right answer, by several ways of decoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.on_language_model import OfLanguageModel
from minilm_lab.evaluation.result import Result
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.resolve import resolve
from minilm_lab.studies.knowledge import diversity, methods
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.prompts import FORMATS, Asker, asked

DECODINGS = ("rank", "icn", "sample")


@dataclass
class OpenEnded(OfLanguageModel):
    """Asks for texts of a kind ("Please name some positive sentences.") and measures how they differ."""

    asks: list[str] = field(
        default_factory=lambda: ["positive sentences about a film", "negative sentences about a film"]
    )
    """What is asked for, in the plural."""
    decoding: str = "icn"
    """rank, icn or sample; see evaluator=navigation."""
    style: str = "examples"
    """bare, examples or chat."""
    answers: int = 50
    """Texts of each kind."""
    rounds: int = 10
    """Of icn."""
    length: int = 40
    """Most tokens of a text behind its first."""
    encoder: str = "all_minilm_l6"
    """A sentence encoder for cosine and Vendi score: a folder, a model out of a package, or a hub id."""
    temperature: float = 1.0
    """Of sample."""
    seed: int = 0
    """Of sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (("decoding", DECODINGS), ("style", FORMATS)):
            value = getattr(self, name)
            if value not in allowed:
                raise LabError(
                    f"evaluator.{name}={value}: allowed are {', '.join(allowed)}.{nearest(value, allowed)}"
                )
        if not self.asks or self.rounds > self.answers:
            raise LabError(
                "evaluator.asks must name something, and evaluator.rounds be at most evaluator.answers."
            )
        Decoding(method="sample", temperature=self.temperature)
        self._encoder: Any = None

    @property
    def primary(self) -> str:
        """As how many wholly different texts."""
        return "vendi"

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Find the encoder."""
        super().prepare(hub, cache)
        self._encoder = resolve(self.encoder, runs=Path("runs"), cache=cache, key="evaluator.encoder")

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the encoder by its content."""
        return {**super().identity(), "encoder": self._encoder.identity}

    def __call__(self, model: LanguageModel) -> Result:
        """Means over what is asked for; a row a text."""
        asker = Asker(model, self.length)
        kinds = [GoldList(f"kind {n}", asks, (("",),)) for n, asks in enumerate(self.asks)]
        prompts = [asked(model, kind, self.style) for kind in kinds]
        if self.decoding == "rank":
            found = methods.by_rank(asker, prompts, kinds, self.answers)
        elif self.decoding == "icn":
            found = methods.navigated(asker, prompts, kinds, self.answers, rounds=self.rounds)
        else:
            decoding = Decoding("sample", self.length + 1, self.temperature, seed=self.seed)
            found = methods.sampled(asker, prompts, kinds, self.answers, decoding)
        encoder = Encoder.load(self._encoder.where, self._encoder.revision)
        each, rows = [], []
        for asks, replies in zip(self.asks, found.replies, strict=True):
            texts = [reply.text.strip() or "." for reply in replies]
            vectors = encoder(texts)
            each.append(
                {
                    "vendi": diversity.vendi(vectors),
                    "cosine": 100 * diversity.mean_cosine(vectors),
                    "distinct_1": 100 * diversity.distinct_n(texts, 1),
                    "distinct_2": 100 * diversity.distinct_n(texts, 2),
                    "self_bleu": diversity.self_bleu(texts),
                    "different": 100 * len({t.casefold() for t in texts}) / len(texts),
                    "unfinished": 100 * sum(not reply.ended for reply in replies) / len(replies),
                    "words": float(np.mean([len(t.split()) for t in texts])),
                }
            )
            rows += [{"asked": asks, "text": reply.text, "ended": reply.ended} for reply in replies]
        scores = {name: float(np.mean([values[name] for values in each])) for name in each[0]}
        return Result(scores, rows, facts={"by_kind": dict(zip(self.asks, each, strict=True))})
