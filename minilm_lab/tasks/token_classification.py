"""One class for each word of a text: named entities, parts of speech.

The first sub-word of a word carries its label, as in BERT's NER recipe (Devlin et al. 2019, section 5.3); the
others have none. A word that the tokenizer makes nothing of, or that lies beyond ``task.length``, is predicted
as "O" and counted: every word of the data takes part in the scores.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.errors import LabError
from minilm_lab.tasks import tags
from minilm_lab.tasks.base import Examples, Outcome, Splits
from minilm_lab.tasks.batching import IGNORED
from minilm_lab.tasks.features import Features, check_padding
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenFeatures(Features):
    """Tokenised words."""

    #: For each token the number of the word that it begins, −1 where it begins none.
    words: list[np.ndarray] = field(default_factory=list)
    #: Names of the classes.
    names: tuple[str, ...] = ()


@dataclass
class TokenTask(HubTask):
    """A column of words and a column of their tags; the columns are lists, or texts with spaces between."""

    kinds: ClassVar[tuple[str, ...]] = ("token_classification",)

    kind: str = "token_classification"
    #: The column of words.
    text: list[str] = field(default_factory=lambda: ["tokens"])
    #: The column of tags.
    label: str = "tags"
    metrics: list[str] = field(default_factory=lambda: ["entity_f1", "entity_precision", "entity_recall"])
    score: str = "entity_f1"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._classes: tuple[str, ...] = ()
        if len(self.text) != 1:
            raise LabError(f"task.text={self.text} must name one column, that of the words.")
        if self.test:
            raise LabError("task.test=true: there is no leaderboard's format for tags; set it to false.")

    @property
    def decides(self) -> str:
        """What a prediction is."""
        return "tag of each word"

    def known_metrics(self) -> dict[str, str]:
        """The metrics of tags."""
        return tags.METRICS

    def load(self, hub: str | None, cache: Path) -> Splits:
        """See `Task.load`."""
        splits = super().load(hub, cache)
        assert splits.labels is not None
        if any(name.startswith("entity_") for name in self.metrics):
            tags.check_entities(splits.labels)
        self._classes = tuple(splits.labels)
        return splits

    def featurize(
        self, examples: Examples, tokenizer: PreTrainedTokenizerBase, *, training: bool
    ) -> TokenFeatures:
        """See `Task.featurize`; labels are one a token, −100 where it begins no word."""
        check_padding(tokenizer)
        assert self._classes, "load() comes first: it knows the classes"
        texts = [text for text, _ in examples.texts]
        encoded = tokenizer(
            texts,
            truncation=True,
            max_length=self.length,
            padding=False,
            return_attention_mask=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        ids = [np.asarray(row, dtype=np.int64) for row in encoded["input_ids"]]
        segments = encoded.get("token_type_ids")
        words = [
            beginnings(text, offsets) for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
        ]
        labels = [
            np.where(begun >= 0, np.asarray(row, dtype=np.int64)[begun], IGNORED)
            for begun, row in zip(words, examples.labels, strict=True)
        ]
        return TokenFeatures(
            input_ids=ids,
            token_type_ids=None
            if segments is None
            else [np.asarray(row, dtype=np.int64) for row in segments],
            labels=labels,
            lengths=np.asarray([len(row) for row in ids]),
            pad_id=tokenizer.pad_token_id,
            words=words,
            names=self._classes,
        )

    def judge(
        self, outputs: Sequence[np.ndarray], examples: Examples, features: Features, split: str
    ) -> Outcome:
        """See `Task.judge`; outputs: (tokens, classes) for each example."""
        assert isinstance(features, TokenFeatures)
        names = features.names
        expected = [[names[number] for number in row] for row in examples.labels]
        predicted, unseen = [], 0
        for scores, begun, gold in zip(outputs, features.words, expected, strict=True):
            if not np.isfinite(scores).all():
                raise LabError(
                    f"predictions for task '{self.name}' are not finite: the training diverged. "
                    f"Lower the learning rate."
                )
            row = [tags.OUTSIDE] * len(gold)
            for token in np.flatnonzero(begun >= 0):
                row[begun[token]] = names[int(scores[token].argmax())]
            unseen += len(gold) - int((begun >= 0).sum())
            predicted.append(row)
        if unseen:
            log.warning(
                "%d of %d words of '%s' have no token within task.length=%d: predicted as O.",
                unseen,
                sum(map(len, expected)),
                split,
                self.length,
            )
        rows = [
            {"id": i, "prediction": p, "reference": e}
            for i, p, e in zip(examples.ids, predicted, expected, strict=True)
        ]
        return Outcome(
            tags.score(self.metrics, predicted, expected), rows, facts={"words_without_token": unseen}
        )

    def _names(self, train: Any, training: Source) -> list[str]:
        return tags.tag_names(self.labels, train, training.label)

    def _read(self, source: Source, data: Any, split: str, names: list[str] | None) -> tuple[Examples, int]:
        assert names is not None
        where = f"{source.key}.label={source.label} in '{split}' of {source}"
        numbers = tags.tag_numbers(data, source.label, names, where)
        words = tags.sequences(data[source.text[0]][:], f"{source.key}.text={source.text} in '{split}'")
        wrong = [
            row for row, pair in enumerate(zip(words, numbers, strict=True)) if len(pair[0]) != len(pair[1])
        ]
        if wrong:
            first = wrong[0]
            raise LabError(
                f"{where}: {len(wrong)} of {len(words)} examples have not one tag a word; the first is example "
                f"{first} with {len(words[first])} words and {len(numbers[first])} tags."
            )
        kept = [row for row, own in enumerate(words) if own]
        if not kept:
            raise LabError(f"{where}: no example has words.")
        if len(kept) < len(words):
            log.warning(
                "%s: %d of %d examples have no words; dropped.", where, len(words) - len(kept), len(words)
            )
        return Examples(
            [(joined(words[row]), None) for row in kept],
            [numbers[row] for row in kept],
            [f"{split}-{row}" for row in kept],
        ), len(words) - len(kept)


def joined(words: Sequence[Any]) -> str:
    """The words with one space between; spaces within a word become ones that do not break it."""
    return " ".join(re.sub(r"\s", "\N{NO-BREAK SPACE}", str(word)) for word in words)


def beginnings(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """For each token the number of the word of `text` that it begins, else −1; int64 (tokens,).

    offsets: first character of each token and the one after its last; equal for special tokens. Where a token
    lies is told by its last character: some tokenizers count the space before a word to its first token.
    """
    lengths = np.asarray([len(word) for word in text.split(" ")])
    ends = np.cumsum(lengths + 1) - 1
    spans = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    word = np.searchsorted(ends, spans[:, 1] - 1, side="left").clip(max=len(ends) - 1)
    start = (ends - lengths)[word]
    inside = (spans[:, 1] > spans[:, 0]) & (spans[:, 1] - 1 >= start) & (spans[:, 1] <= ends[word])
    word = np.where(inside, word, -1)
    first = np.zeros(len(word), dtype=bool)
    first[np.unique(word, return_index=True)[1]] = True
    return np.where(first, word, -1)
