"""From source and target texts to token ids: [CLS] source [SEP] target [SEP]."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from minilm_lab.tasks.features import IGNORED, Features, arrays, tokenised
from minilm_lab.tasks.generation.model import Symbols

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextFeatures(Features):
    """Tokenised sources, in training with their targets behind them.

    labels: for each token its own id where it belongs to the target, −100 where it belongs to the source.
    """

    rules: str = ""
    """The rules of the tokenizer as JSON: what is generated is made text with them."""
    sources_cut: int = 0
    """How many sources were cut to their length."""
    targets_cut: int = 0
    """How many targets were cut to their length."""

    def decoder(self) -> Tokenizer:
        """The tokenizer, without what the library puts around it."""
        return Tokenizer.from_str(self.rules)


def featurize(
    split: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    source_length: int,
    target_length: int,
    training: bool,
) -> TextFeatures:
    """Tokenise; sources and targets have at most so many tokens, special ones included, and are cut (counted).

    Only in training the target is there at all: what is generated cannot have seen it. Raises LabError when the
    tokenizer lacks a padding, mask or separator token.
    """
    symbols = Symbols.of(tokenizer)
    sources, sources_cut = _sources(split, tokenizer, source_length)
    targets: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(split)
    targets_cut = 0
    if training:
        targets, targets_cut = _targets(split["label"][:], tokenizer, target_length, symbols.end)
        if targets_cut:
            log.warning(
                "%d of %d training targets are longer than task.target_length=%d tokens: cut.",
                targets_cut,
                len(split),
                target_length,
            )
    if sources_cut:
        log.warning(
            "%d of %d sources are longer than the %d tokens that task.length leaves for them: cut.",
            sources_cut,
            len(split),
            source_length,
        )
    ids = [np.concatenate(pair) for pair in zip(sources, targets, strict=True)]
    labels = [
        np.concatenate([np.full(len(source), IGNORED), target])
        for source, target in zip(sources, targets, strict=True)
    ]
    return TextFeatures(
        input_ids=ids,
        token_type_ids=None,  # the module knows them: 0 = source, 1 = target
        labels=labels,
        lengths=np.asarray([len(row) for row in ids]),
        pad_id=symbols.pad,
        rules=tokenizer.backend_tokenizer.to_str(),
        sources_cut=sources_cut,
        targets_cut=targets_cut,
    )


def _sources(split: Dataset, tokenizer: PreTrainedTokenizerBase, length: int) -> tuple[list[np.ndarray], int]:
    first, second = split["text"][:], split["pair"][:] if "pair" in split.column_names else None
    encoded = tokenised(tokenizer, first, second, truncation="longest_first", max_length=length)["input_ids"]
    # Only those that fill their room can have been cut.
    full = [row for row, ids in enumerate(encoded) if len(ids) == length]
    cut = 0
    if full:
        pairs = None if second is None else [second[row] for row in full]
        whole = tokenised(tokenizer, [first[row] for row in full], pairs)["input_ids"]
        cut = sum(len(ids) > length for ids in whole)
    return arrays(encoded), cut


def _targets(
    targets: list[str], tokenizer: PreTrainedTokenizerBase, length: int, end: int
) -> tuple[list[np.ndarray], int]:
    encoded = tokenised(tokenizer, targets, None, add_special_tokens=False)["input_ids"]
    cut = sum(len(ids) > length - 1 for ids in encoded)
    return arrays([[*ids[: length - 1], end] for ids in encoded]), cut
