"""How well a causal model predicts running text, alone and beside its teacher."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Optional

import torch

from minilm_lab.config import option
from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_language_model import OfLanguageModel
from minilm_lab.evaluation.result import Result
from minilm_lab.models.causal import head_of
from minilm_lab.models.families import positions_of
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.next_token import ELEMENTS, Head
from minilm_lab.models.resolve import Model, resolve

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig


@dataclass
class LanguageModelScores(OfLanguageModel):
    """Next tokens of a corpus, read in windows that overlap by `context` tokens; each token is scored once.

    `perplexity`: exp of the mean negative log-likelihood a token. `word_perplexity`: the same sum over the words (runs of
    characters between white space), which compares models of different vocabularies. `bits_per_byte`: of the UTF-8 text.
    `accuracy`: share (× 100) of tokens that the model finds likeliest.

    Beside another model of the same vocabulary: `agreement`, the share (× 100) of places where both find the same token
    likeliest; `kl`: mean KL(other ‖ model) in nats.

    The documents are joined by a line break. The first token of the text is read and not scored, unless the model has a
    token that begins texts.
    """

    higher_is_better: ClassVar[bool] = False

    corpus: dict[str, Any] = field(default_factory=dict)
    """The text, as a file of conf/corpus gives it, `_target_` included."""
    tokens: Optional[int] = None
    """Only the first so many tokens of it; null = all."""
    length: int = 1024
    """Tokens a window."""
    context: int = 256
    """Of these the first so many are only read, except in the first window."""
    against: Optional[str] = None
    """The other model: a run in ./runs, a folder, a model out of a package, or a hub id."""
    batch_size: int = 4
    """Windows that are read at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.context >= self.length:
            raise LabError(
                f"evaluator.context={self.context} must be less than evaluator.length={self.length}: the rest is scored"
            )
        self._corpus = option(self.corpus, "corpus", "evaluator.corpus")
        self._text = ""
        self._other: Model | None = None
        self._reference: LanguageModel | None = None

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return "word_perplexity"

    def check(self, model: PretrainedConfig) -> None:
        """LabError for an encoder, and for windows beyond the model's positions."""
        super().check(model)
        if self.length > positions_of(model):
            raise LabError(
                f"evaluator.length={self.length} is beyond the {positions_of(model)} positions of the model"
            )

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the text and find the other model; LabError if there is no text or no such model."""
        super().prepare(hub, cache)
        self._text = "\n".join(self._corpus.documents(hub, cache))
        self._fingerprint = self._corpus.fingerprint(hub, cache)
        if not self._text.split():
            raise LabError(f"evaluator.corpus: the corpus {self._corpus.name} has no text")
        if self.against is not None:
            self._other = resolve(self.against, runs=Path("runs"), cache=cache, key="evaluator.against")

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the text and the other model by their content."""
        others = {name: value for name, value in super().identity().items() if name != "batch_size"}
        against = None if self._other is None else self._other.identity
        return {**others, "corpus": self._fingerprint, "against": against}

    def __call__(self, model: LanguageModel) -> Result:
        """The scores; facts: tokens, words and bytes that were scored, and how many of the text there are."""
        ids, words, size, count = self._ids(model)
        reference = self._opened(model)
        sums = torch.zeros(4, dtype=torch.float64)
        for window, first in self._progress(ids):
            sums += _scored(model, reference, window, first)
        scored = len(ids) - 1
        loss = float(sums[0])
        scores = {
            "perplexity": math.exp(loss / scored),
            "word_perplexity": _exp(loss / words),
            "bits_per_byte": loss / math.log(2) / size,
            "accuracy": 100 * float(sums[1]) / scored,
        }
        if reference is not None:
            scores |= {"agreement": 100 * float(sums[2]) / scored, "kl": float(sums[3]) / scored}
        facts = {"scored_tokens": scored, "words": words, "bytes": size, "tokens_of_text": count}
        return Result(scores, facts=facts)

    def _ids(self, model: LanguageModel) -> tuple[list[int], int, int, int]:
        """Tokens to read; words and bytes of what is scored; tokens of the whole text."""
        plain = list(model.tokenizer(self._text, add_special_tokens=False, verbose=False).input_ids)
        begins = model.ids(self._text[:80])[:1] if model.tokenizer.bos_token_id is not None else []
        begin = begins if begins == [model.tokenizer.bos_token_id] else []
        chosen = plain if self.tokens is None else plain[: self.tokens]
        text = self._text if len(chosen) == len(plain) else model.text(chosen)
        if not begin:
            text = text.removeprefix(model.text(chosen[:1]))
        if len(begin) + len(chosen) < 2 or not text.split():
            raise LabError("evaluator.tokens: at least a word is needed behind the first token")
        return [*begin, *chosen], len(text.split()), len(text.encode()), len(plain)

    def _opened(self, model: LanguageModel) -> LanguageModel | None:
        """The other model, loaded once; LabError if its vocabulary is another one."""
        if self._other is None:
            return None
        if self._reference is None:
            self._reference = self.open(self._other.where, self._other.revision)
        if self._reference.tokenizer.get_vocab() != model.tokenizer.get_vocab():
            raise LabError(
                f"evaluator.against={self.against} has another vocabulary: its next tokens are others; leave it out"
            )
        return self._reference

    def _progress(self, ids: list[int]) -> Iterator[tuple[Tensor, int]]:
        """(windows, length) int64 of one length, and from which place on they are scored."""
        from tqdm import tqdm

        step = self.length - self.context
        starts = list(range(0, max(len(ids) - self.context - 1, 1), step))
        full = [start for start in starts[1:] if start + self.length < len(ids)]
        groups = [starts[:1], *(full[n : n + self.batch_size] for n in range(0, len(full), self.batch_size))]
        groups += [[start] for start in starts[1:] if start not in full]
        for group in tqdm(groups, desc="next tokens", unit="batch", leave=False, disable=None):
            # One more than is read: the last one's successor is scored too.
            windows = torch.tensor([ids[start : start + self.length + 1] for start in group])
            yield windows, 0 if group[0] == 0 else self.context


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


@torch.no_grad()
def _scored(model: LanguageModel, reference: LanguageModel | None, windows: Tensor, first: int) -> Tensor:
    """float64 (4,): sums of −log q(next), of hits, of places where both agree, and of KL(reference ‖ model).

    windows: int64 (rows, length + 1); the tokens behind place `first` are scored.
    """
    hidden, head = _hidden(model, windows, first)
    labels = windows[:, first + 1 :].flatten().to(hidden.device)
    theirs = None if reference is None else _hidden(reference, windows, first)
    sums = torch.zeros(4, dtype=torch.float64)
    rows = max(1, ELEMENTS // len(head.weight))
    for start in range(0, len(hidden), rows):
        some = slice(start, start + rows)
        log_q = head.logits(hidden[some]).log_softmax(dim=1)
        likeliest = log_q.argmax(dim=1)
        sums[0] -= log_q.gather(1, labels[some, None]).double().sum().cpu()
        sums[1] += (likeliest == labels[some]).sum().cpu()
        if theirs is not None:
            log_p = theirs[1].logits(theirs[0][some]).log_softmax(dim=1)
            shared = min(log_p.shape[1], log_q.shape[1])  # rows beyond the vocabulary may differ in number
            sums[2] += (likeliest == log_p.argmax(dim=1)).sum().cpu()
            parts = log_p[:, :shared].exp() * (log_p[:, :shared] - log_q[:, :shared])
            sums[3] += parts.double().sum().cpu()
    return sums


def _hidden(model: LanguageModel, windows: Tensor, first: int) -> tuple[Tensor, Head]:
    """(places, width) behind the last normalisation, row after row, and what makes logits of it."""
    body: Any = model.model.base_model
    training = model.model.training
    model.model.eval()
    try:
        last = body(input_ids=windows[:, :-1].to(model.model.device), use_cache=False).last_hidden_state
    finally:
        model.model.train(training)
    return last[:, first:].flatten(0, 1), head_of(model.model)
