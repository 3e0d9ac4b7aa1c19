"""evaluator=navigation: how many right answers a way of decoding reaches with a hundred answers."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge import curves, methods
from minilm_lab.studies.knowledge.clusters import kept_clusters, usual_number
from minilm_lab.studies.knowledge.keys import keys_of
from minilm_lab.studies.knowledge.matched import bootstrap
from minilm_lab.studies.knowledge.of_prompts import OfPrompts
from minilm_lab.studies.knowledge.pictures import found_curves
from minilm_lab.studies.knowledge.prompts import Asker, asked

DECODINGS = ("rank", "icn", "sample", "beam", "list", "round_robin")
EXPLORED = ("own", "other", "none")


@dataclass
class Navigation(OfPrompts):
    """Every decoding may give as many answers; what is counted are distinct right ones, and what they cost."""

    decoding: str = "icn"
    """rank: first tokens by probability; icn: in-context navigation; sample; beam; list: one long list, greedy;
    round_robin: a first token of each cluster of keys in turn."""
    rounds: int = 10
    """Of icn: how often the list is read again."""
    explored: str = "own"
    """Of icn, what is put into the list: own: the answers so far; other: another prompt's, the control for what any list
    does; none: nothing, which is rank order."""
    decode_from: str = "initial"
    """Of icn: initial: navigation chooses first tokens alone, as in the paper; navigated: answers are written behind the list."""
    temperature: float = 1.0
    """Of sample."""
    top_p: float = 1.0
    """Of sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (
            ("decoding", DECODINGS),
            ("explored", EXPLORED),
            ("decode_from", ("initial", "navigated")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise LabError(
                    f"evaluator.{name}={value}: allowed are {', '.join(allowed)}.{nearest(value, allowed)}"
                )
        if self.rounds > self.answers:
            raise LabError(f"evaluator.rounds={self.rounds} is more than evaluator.answers={self.answers}.")
        # Refused now, not after a model is loaded.
        Decoding(method="sample", temperature=self.temperature, top_p=self.top_p)

    @property
    def primary(self) -> str:
        """Distinct right answers a prompt."""
        return "distinct"

    def __call__(self, model: LanguageModel) -> Result:
        """The scores; a row an answer; the curve of distinct right answers as CSV and picture."""
        if self.explored == "other" and len(self.golds) < 2:
            raise LabError("evaluator.explored=other takes another prompt's answers: give two lists or more.")
        asker = Asker(model, self.length)
        prompts = [asked(model, gold, self.style) for gold in self.golds]
        start = time.perf_counter()
        with _counting(model) as read:
            found = self._found(asker, prompts)
        count = len(self.golds)
        scores = curves.scores(found.replies, self.golds, self.answers)
        _, fresh, _ = curves.flags(found.replies, self.answers)
        total = fresh.sum(axis=1).astype(float)
        interval = bootstrap(total[None], np.ones((1, count)))
        scores |= {"distinct_low": interval.low, "distinct_high": interval.high}
        if found.navigability:
            scores["navigability"] = float(np.median(found.navigability))
        scores |= {"forward_tokens": read[0] / count, "seconds": (time.perf_counter() - start) / count}
        rows = [
            {
                "prompt": gold.name,
                "number": number,
                "answer": reply.text,
                "right": reply.gold is not None,
                "gold": None if reply.gold is None else gold.answers[reply.gold][0],
                "ended": reply.ended,
            }
            for gold, replies in zip(self.golds, found.replies, strict=True)
            for number, reply in enumerate(replies, 1)
        ]
        per_prompt = {gold.name: float(n) for gold, n in zip(self.golds, total, strict=True)}
        facts: dict[str, Any] = {"prompts": count, "distinct_by_prompt": per_prompt}
        if found.navigability:
            names = [gold.name for gold in self.golds]
            facts["navigability_by_prompt"] = dict(zip(names, found.navigability, strict=True))
        mean = fresh.cumsum(axis=1).mean(axis=0)
        picture = found_curves({self.decoding: mean})
        return Result(scores, rows, {"curve.csv": _csv(mean), "curve.svg": picture.svg()}, facts)

    def _found(self, asker: Asker, prompts: list[list[int]]) -> methods.Found:
        given = (asker, prompts, self.golds, self.answers)
        if self.decoding == "rank":
            return methods.by_rank(*given)
        if self.decoding == "sample":
            decoding = Decoding(
                method="sample",
                length=self.length + 1,
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
            )
            return methods.sampled(*given, decoding)
        if self.decoding == "beam":
            return methods.by_beams(*given)
        if self.decoding == "list":
            return methods.as_list(*given)
        if self.decoding == "round_robin":
            keys = keys_of(asker.model)
            number = self.clusters or usual_number(len(keys))
            labels = torch.full((asker.vocabulary,), -1)
            labels[keys.ids] = kept_clusters(keys.vectors, number, self.seed, self._cache).labels
            return methods.round_robin(*given, labels)
        return methods.navigated(
            *given, rounds=self.rounds, explored=self.explored, decode_from=self.decode_from
        )


@contextmanager
def _counting(model: LanguageModel) -> Iterator[list[int]]:
    """A list of one number: tokens that the model reads within, rows × columns of every forward, padding included."""
    read = [0]

    def count(_module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        read[0] += named["input_ids"].numel()

    hook = model.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield read
    finally:
        hook.remove()


def _csv(mean: np.ndarray) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["answers", "distinct right"])
    writer.writerows((n, f"{value:.4f}") for n, value in enumerate(mean, 1))
    return text.getvalue()
