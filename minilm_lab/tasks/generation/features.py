"""From source and target texts to token ids: [CLS] source [SEP] target [SEP]."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from minilm_lab.tasks.base import Examples
from minilm_lab.tasks.batching import IGNORED
from minilm_lab.tasks.features import Features
from minilm_lab.tasks.generation.model import Symbols

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextFeatures(Features):
    """Tokenised sources, in training with their targets behind them.

    labels: for each token its own id where it belongs to the target, −100 where it belongs to the source.
    """

    #: The rules of the tokenizer as JSON: what is generated is made text with them.
    rules: str = ""
    #: How many sources and targets were cut to their lengths.
    sources_cut: int = 0
    targets_cut: int = 0

    def decoder(self) -> Tokenizer:
        """The tokenizer, without what the library puts around it."""
        return Tokenizer.from_str(self.rules)


def featurize(
    examples: Examples,
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
    sources, sources_cut = _sources(examples, tokenizer, source_length)
    targets: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * len(examples)
    targets_cut = 0
    if training:
        targets, targets_cut = _targets(examples, tokenizer, target_length, symbols.end)
        if targets_cut:
            log.warning(
                "%d of %d training targets are longer than task.target_length=%d tokens: cut.",
                targets_cut,
                len(examples),
                target_length,
            )
    if sources_cut:
        log.warning(
            "%d of %d sources are longer than the %d tokens that task.length leaves for them: cut.",
            sources_cut,
            len(examples),
            source_length,
        )
    ids = [np.concatenate(pair) for pair in zip(sources, targets, strict=True)]
    labels = [
        np.concatenate([np.full(len(source), IGNORED), target])
        for source, target in zip(sources, targets, strict=True)
    ]
    return TextFeatures(
        input_ids=ids,
        token_type_ids=None,  # the head knows them: 0 = source, 1 = target
        labels=labels,
        lengths=np.asarray([len(row) for row in ids]),
        pad_id=symbols.pad,
        rules=tokenizer.backend_tokenizer.to_str(),
        sources_cut=sources_cut,
        targets_cut=targets_cut,
    )


def _sources(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, length: int
) -> tuple[list[np.ndarray], int]:
    first = [text for text, _ in examples.texts]
    second = [pair for _, pair in examples.texts if pair is not None]
    settings = {"padding": False, "return_attention_mask": False, "verbose": False}
    encoded = tokenizer(first, second or None, truncation="longest_first", max_length=length, **settings)[
        "input_ids"
    ]
    # Only those that fill their room can have been cut.
    full = [row for row, ids in enumerate(encoded) if len(ids) == length]
    cut = 0
    if full:
        again = ([first[row] for row in full], [second[row] for row in full] if second else None)
        cut = sum(len(ids) > length for ids in tokenizer(*again, **settings)["input_ids"])
    return [np.asarray(ids, dtype=np.int64) for ids in encoded], cut


def _targets(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, length: int, end: int
) -> tuple[list[np.ndarray], int]:
    encoded = tokenizer(
        list(examples.labels),
        add_special_tokens=False,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )["input_ids"]
    cut = sum(len(ids) > length - 1 for ids in encoded)
    return [np.asarray([*ids[: length - 1], end], dtype=np.int64) for ids in encoded], cut
