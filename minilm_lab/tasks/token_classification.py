"""One class for each word of a text: named entities, parts of speech.

The first sub-word of a word carries its label, as in BERT's NER recipe (Devlin et al. 2019, section 5.3); the
others have none. A word that the tokenizer makes nothing of, or that lies beyond ``task.length``, is predicted
as "O" and counted: every word of the data takes part in the scores.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.data.splits import Splits, table
from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks import tags
from minilm_lab.tasks.features import IGNORED, Features, arrays, check_padding, tokenised
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.metrics import check_finite
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenFeatures(Features):
    """Tokenised words."""

    words: list[np.ndarray] = field(default_factory=list)
    """For each token the number of the word that it begins, −1 where it begins none."""


@dataclass
class TokenTask(HubTask):
    """A column of words and a column of their tags; the columns are lists, or texts with spaces between."""

    kinds: ClassVar[tuple[str, ...]] = ("token_classification",)

    kind: str = "token_classification"
    text: list[str] = field(default_factory=lambda: ["tokens"])
    """The column of words."""
    label: str = "tags"
    """The column of tags."""
    metrics: list[str] = field(default_factory=lambda: ["entity_f1", "entity_precision", "entity_recall"])
    score: str = "entity_f1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text) != 1:
            raise LabError(f"task.text={self.text} must name one column, that of the words.")
        if self.test:
            raise LabError("task.test=true: there is no leaderboard's format for tags; set it to false.")

    @property
    def decides(self) -> str:
        """What a prediction is."""
        return "tag of each word"

    def known_metrics(self) -> Mapping[str, str]:
        """The metrics of tags."""
        return tags.METRICS

    def load(self, hub: str | None, cache: Path) -> Splits:
        """See `Task.load`; a label is the list of the numbers of a text's tags."""
        splits = super().load(hub, cache)
        if any(name.startswith("entity_") for name in self.metrics):
            tags.check_entities(splits.labels or [])
        return splits

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> TokenFeatures:
        """See `Task.features`; labels are one a token, −100 where it begins no word."""
        check_padding(tokenizer)
        split = splits.named(name)
        texts, numbers = split["text"][:], split["label"][:]
        encoded = tokenised(
            tokenizer, texts, None, truncation=True, max_length=self.length, return_offsets_mapping=True
        )
        ids, segments = arrays(encoded["input_ids"]), encoded.get("token_type_ids")
        pairs = zip(texts, encoded["offset_mapping"], strict=True)
        words = [beginnings(text, offsets) for text, offsets in pairs]
        return TokenFeatures(
            input_ids=ids,
            token_type_ids=None if segments is None else arrays(segments),
            labels=[
                np.where(begun >= 0, np.asarray(row, dtype=np.int64)[begun], IGNORED)
                for begun, row in zip(words, numbers, strict=True)
            ],
            lengths=np.asarray([len(row) for row in ids]),
            pad_id=int(tokenizer.pad_token_id),
            words=words,
        )

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """See `Task.judge`; outputs: (tokens, classes) for each example."""
        assert isinstance(samples, TokenFeatures) and splits.labels is not None
        check_finite(outputs, self.name)
        names, split = splits.labels, splits.judged[name]
        expected = [[names[number] for number in row] for row in split["label"][:]]
        predicted, unseen = [], 0
        for logits, begun, gold in zip(outputs, samples.words, expected, strict=True):
            row = [tags.OUTSIDE] * len(gold)
            for token in np.flatnonzero(begun >= 0):
                row[begun[token]] = names[int(logits[token].argmax())]
            unseen += len(gold) - int((begun >= 0).sum())
            predicted.append(row)
        if unseen:
            log.warning(
                "%d of %d words of '%s' have no token within task.length=%d: predicted as O.",
                unseen,
                sum(map(len, expected)),
                name,
                self.length,
            )
        rows = [
            {"id": i, "prediction": p, "reference": e}
            for i, p, e in zip(split["id"][:], predicted, expected, strict=True)
        ]
        scores = tags.score(self.metrics, predicted, expected)
        return Result(scores, rows, facts={"words_without_token": unseen})

    def _names(self, train: Any, training: Source) -> list[str]:
        return tags.tag_names(self.labels, train, training.label)

    def _read(
        self, source: Source, data: Any, split: str, names: list[str] | None, part: str, notes: list[str]
    ) -> tuple[Dataset, int]:
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
        filled = [row for row, cells in enumerate(words) if cells]
        if not filled:
            raise LabError(f"{where}: no example has words.")
        dropped = len(words) - len(filled)
        if dropped:
            log.warning("%s: %d of %d examples have no words; dropped.", where, dropped, len(words))
        rows = table(
            id=[f"{split}-{row}" for row in filled],
            text=[joined(words[row]) for row in filled],
            label=[numbers[row] for row in filled],
        )
        return rows, dropped


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
