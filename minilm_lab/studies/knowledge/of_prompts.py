"""What evaluators that ask for lists of answers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.on_language_model import OfLanguageModel
from minilm_lab.studies.knowledge.gold_lists import GoldList, checksum, read_lists
from minilm_lab.studies.knowledge.prompts import FORMATS


@dataclass
class OfPrompts(OfLanguageModel):
    """Asks for lists ("Please name some countries in Europe.") and judges whole answers against all that is right."""

    prompts: str = "embedded"
    """The lab's own lists, or a folder of files like them."""
    lists: Optional[list[str]] = None
    """Names of the lists to ask for; null = all."""
    style: str = "examples"
    """bare: the instruction alone, as in the paper; examples: after three lists of other things; chat: the model's template."""
    answers: int = 100
    """Answers a prompt."""
    length: int = 12
    """Most tokens of an answer behind its first; one that is not closed by then is wrong."""
    clusters: Optional[int] = None
    """Of the keys; null = 2^round(log2(V / 98))."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.style not in FORMATS:
            raise LabError(
                f"evaluator.style={self.style}: allowed are {', '.join(FORMATS)}.{nearest(self.style, FORMATS)}"
            )
        self._golds: list[GoldList] = []

    @property
    def golds(self) -> list[GoldList]:
        """What `prepare` read."""
        if not self._golds:
            raise ValueError("prepare() comes first: it reads the lists")
        return self._golds

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the lists; LabError for one without answers."""
        super().prepare(hub, cache)
        self._golds = read_lists(self.prompts, self.lists)

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; of the lists their content."""
        return {**super().identity(), "prompts": checksum(self.golds)}
