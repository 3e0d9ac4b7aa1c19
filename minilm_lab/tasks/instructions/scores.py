"""How good answers to instructions are, on a scale of 0 to 100 (the loss in nats), each with its definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from minilm_lab.tasks import qa_scores
from minilm_lab.tasks.generation import scores as of_texts

if TYPE_CHECKING:
    from minilm_lab.tasks.instructions.module import Written

_NORMALISED = "lower case, no punctuation, no a, an, the (SQuAD 1.1's script)"
METRICS = {
    "exact_match": f"100 x share of the answers that equal a right one; {_NORMALISED}",
    "token_f1": "100 x mean over answers of the F1 of their words and those of the right answer, of several the best; "
    f"{_NORMALISED}",
    **of_texts.METRICS,
    "answer_loss": "cross-entropy of the first right answer and its end behind the prompt, mean over tokens, in nats; lower is "
    "better",
    "stops": "100 x share of the answers that the model ended itself, within task.target_length tokens",
}
"""Metric -> its definition."""


def score(
    names: Sequence[str],
    written: Sequence[Written],
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    tokens: Sequence[int],
) -> dict[str, float]:
    """The metrics `names`; texts: of what was written; tokens: of each first right answer, its end included."""
    pairs = list(zip(texts, references, strict=True))

    def mean(values: Sequence[float]) -> float:
        return 100.0 * sum(values) / len(values)

    own: dict[str, Callable[[], float]] = {
        "exact_match": lambda: mean([qa_scores.exact_match(text, right) for text, right in pairs]),
        "token_f1": lambda: mean([qa_scores.f1(text, right, empty_agrees=True) for text, right in pairs]),
        "answer_loss": lambda: sum(one.loss for one in written) / sum(tokens),
        "stops": lambda: mean([float(one.ended) for one in written]),
    }
    library = of_texts.score([name for name in names if name not in own], texts, references)
    return {name: library[name] if name in library else own[name]() for name in names}
