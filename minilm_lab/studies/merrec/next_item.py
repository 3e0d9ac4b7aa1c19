"""evaluator=merrec_next: with an encoder's vectors of titles, which item of all comes next in a session?"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import Encoder
from minilm_lab.studies.merrec import baselines, defects, log, training
from minilm_lab.studies.merrec.dated import Dated, _day
from minilm_lab.studies.merrec.sequences import MODELS
from minilm_lab.studies.recommendation.blocks import Floats, Score, hits, mid_rank


@dataclass
class NextItem(Dated):
    """Sessions before a day train a short sequence model; the next item of later sessions is ranked among all items.

    A quarter of all events repeat an item, so the baseline "last item again" and the metrics of fresh targets (not in the
    session so far) stand beside: without them nothing is shown. Cold targets have no event before the day.
    """

    model: str = "sasrec"
    """sasrec | gru4rec | bert4rec | nearness (of titles, nothing trained)."""
    ids: bool = False
    """Whether an item also has a vector of its own, beside its title's; always where titles=none."""
    width: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.1
    places: int = 20
    """Events of a session that are read."""
    epochs: int = 5
    batch: int = 128
    """Sessions a step."""
    lr: float = 2e-3
    negatives: int = 512
    """Items drawn beside the right ones in training; judging draws none."""
    most: int = 4000
    """Events to judge; whole users are drawn. Candidates are always all."""
    cut: int = 20
    """Of Recall and NDCG."""
    defects: list[str] = field(default_factory=list)
    """Faults of the released benchmark to switch on, to see what they do: see `defects`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model == "nearness" and self.titles == "none":
            raise LabError("evaluator.model=nearness compares titles: evaluator.titles=none has none.")
        defects.check(self.defects, defects.OF_NEXT)
        if self.most < 1 or self.cut < 1 or self.epochs < 0:
            raise LabError(
                "evaluator.most and evaluator.cut must be at least 1, evaluator.epochs at least 0."
            )
        if self.model != "nearness":
            settings = self._settings()
            if self.model not in MODELS:
                raise LabError(
                    f"evaluator.model={self.model}: choose nearness or one of {', '.join(MODELS)}."
                )
            if settings.width % settings.heads:
                raise LabError(
                    f"evaluator.width={self.width} must be a multiple of evaluator.heads={self.heads}."
                )

    def _settings(self) -> training.Training:
        return training.Training(
            self.model,
            self.width,
            self.blocks,
            self.heads,
            self.dropout,
            self.places,
            self.epochs,
            self.batch,
            self.lr,
            self.negatives,
            causal="no_causal_mask" not in self.defects,
        )

    @property
    def primary(self) -> str:
        """Mean over users of the NDCG of the next item."""
        return "ndcg"

    def __call__(self, model: Encoder) -> Result:
        """Scores in percent: recall, ndcg, mrr of all targets, fresh_…, cold_…, and the same of popularity_… and again_…."""
        data = self._log
        parts = log.cut(
            data,
            _day("judged_from", self.judged_from),
            _day("judged_before", self.judged_before),
            length=self.places,
            most=self.most,
        )
        if "unsorted" in self.defects:
            data, parts = defects.unsorted(data, parts)
        for ahead in (2, 3):
            if f"{ahead}_ahead" in self.defects:
                parts = replace(parts, judged=defects.ahead(parts.judged, ahead))
        judged = parts.judged
        seen = baselines.popularity(data, parts)
        scores: dict[str, float] = {}
        for name, score in (
            ("popularity_", baselines.same_list(seen)),
            ("again_", baselines.again(seen, judged)),
        ):
            scores |= self._of(self._ranks(score, parts), judged, name)
        titles = self._vectors(model)
        if self.model == "nearness":
            assert titles is not None
            ranks = [self._ranks(baselines.nearness(titles, data.title_of, judged), parts)]
        else:
            ranks = [self._trained(data, parts, titles, seed) for seed in self.seeds]
        # A metric is a mean over seeds of what an example is worth; intervals are over users.
        scores |= self._of(np.stack(ranks), judged, "")
        facts: dict[str, Any] = {
            **self._facts(),
            **parts.facts,
            "seeds": len(ranks),
            "candidates": len(parts.known),
        }
        facts |= {"judged_events": len(judged.target), "defects": list(self.defects)}
        return Result(scores, [], facts=facts)

    def _trained(self, data: log.Log, parts: log.Cut, titles: torch.Tensor | None, seed: int) -> Floats:
        model = training.train(data, parts, titles, self.ids or titles is None, self._settings(), seed)
        states = defects.mean_states if "mean_over_places" in self.defects else training.states
        out = states(model, parts.judged.history)
        with torch.no_grad():
            count = len(parts.known)
            every = torch.cat([model.items(part) for part in torch.arange(count).split(65_536)])
        return self._ranks(lambda rows, items: out[rows] @ every[items].T, parts)

    def _ranks(self, score: Score, parts: log.Cut) -> Floats:
        return mid_rank(score, torch.from_numpy(parts.judged.target), len(parts.known))

    def _of(self, ranks: Floats, judged: log.Examples, name: str) -> dict[str, float]:
        scores: dict[str, float] = {}
        masks = {"all": np.ones(len(judged.target), dtype=bool), "fresh": judged.fresh, "cold": judged.cold}
        for kind, mask in masks.items():
            if mask.any():
                of_kind = hits(ranks[..., mask], judged.user[mask], cut=self.cut)
                prefix = name if kind == "all" else f"{name}{kind}_"
                scores |= {f"{prefix}{metric}": value for metric, value in of_kind.items()}
        return scores
