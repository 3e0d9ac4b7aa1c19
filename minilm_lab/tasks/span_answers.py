"""From start and end scores to answers: the best spans over the windows of a question, against "no answer"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minilm_lab.tasks.span_features import Windows

HOPELESS = 1e6
"""Null odds of a question without any span to answer with (an empty context): above every threshold."""


@dataclass(frozen=True)
class Span:
    """A candidate answer: context[start:end]."""

    text: str
    start: int
    end: int
    score: float
    """Sum of the start and the end logit."""


@dataclass(frozen=True)
class Answer:
    """What a model says to one question."""

    spans: list[Span]
    """The best spans, best first, no two the same; at most `n_best`, and none for an empty context."""
    null_score: float
    """Score of "no answer": start plus end logit of [CLS], the smallest over the windows."""

    @property
    def best(self) -> str:
        """The text of the best span, "" where there is none."""
        return self.spans[0].text if self.spans else ""

    @property
    def null_odds(self) -> float:
        """Score of "no answer" less that of the best span."""
        return self.null_score - self.spans[0].score if self.spans else HOPELESS


def answers(
    outputs: Sequence[np.ndarray], windows: Windows, contexts: Sequence[str], *, n_best: int, max_answer: int
) -> list[Answer]:
    """The answer to each example, whose context is one of `contexts`.

    outputs: (tokens, 2) start and end logits of each window. A span begins and ends in the context, is at most
    `max_answer` tokens long, and is scored by the sum of its two logits; of the windows that hold it, the best
    counts. All spans are compared, not only those between the best 20 starts and ends.
    """
    spans_of: list[dict[tuple[int, int], float]] = [{} for _ in range(len(contexts))]
    null = np.full(len(contexts), np.inf)
    for row, logits in enumerate(outputs):
        example = int(windows.example[row])
        scores = logits.astype(np.float64)
        null[example] = min(null[example], float(scores[windows.null_at[row]].sum()))
        offsets = windows.offsets[row]
        at = int(windows.context_at[row])
        context = contexts[example]
        for first, last, score in _best(scores[at : at + len(offsets)], n_best, max_answer):
            span = _trim(context, int(offsets[first, 0]), int(offsets[last, 1]))
            if span is not None:
                spans_of[example][span] = max(score, spans_of[example].get(span, -np.inf))
    return [
        Answer(_ranked(spans, contexts[number], n_best), float(null[number]))
        for number, spans in enumerate(spans_of)
    ]


def _best(logits: np.ndarray, count: int, longest: int) -> list[tuple[int, int, float]]:
    """(first token, last token, score) of the `count` best spans of a window, in no order."""
    if not len(logits):
        return []
    start, end = logits[:, 0], logits[:, 1]
    ends = np.concatenate([end, np.full(longest - 1, -np.inf)])
    # scores[i, k]: the span from token i to token i + k.
    scores = start[:, None] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    flat = scores.ravel()
    chosen = np.argpartition(-flat, count - 1)[:count] if len(flat) > count else np.arange(len(flat))
    return [
        (int(n // longest), int(n // longest + n % longest), float(flat[n]))
        for n in chosen
        if np.isfinite(flat[n])
    ]


def _trim(context: str, start: int, end: int) -> tuple[int, int] | None:
    """The characters of a span without the spaces around it (some tokens begin with one); None if none is left."""
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    end = start + len(text.strip())
    return (start, end) if end > start else None


def _ranked(spans: dict[tuple[int, int], float], context: str, count: int) -> list[Span]:
    # Equal scores: the first in the text, then the shorter, so that the same logits give the same answer anywhere.
    order = sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:count]
    return [Span(context[start:end], start, end, score) for (start, end), score in order]


def probabilities(scores: Sequence[float]) -> list[float]:
    """Softmax."""
    shifted = np.exp(np.asarray(scores) - max(scores))
    return [float(p) for p in shifted / shifted.sum()]
