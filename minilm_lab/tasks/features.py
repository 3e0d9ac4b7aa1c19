"""From texts to token ids, once and before training; and batches of them, padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from minilm_lab.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Batch

IGNORED = -100
"""The label of a token that has none: torch's cross-entropy passes over it."""


@dataclass(frozen=True)
class Features:
    """Tokenised rows, not padded: padding depends on the batch. A `Samples`, as loaders take them."""

    input_ids: list[np.ndarray]
    token_type_ids: list[np.ndarray] | None
    """Segment of each token (int64, like `input_ids`), or None where the tokenizer makes none."""
    labels: np.ndarray | list[np.ndarray] | None
    """int64 class numbers or float32 values, shape (rows,); int64 (rows, 2) first and last token of a span; for each
    row one int64 class number a token (−100: no label there); None where nobody knows them."""
    lengths: np.ndarray
    """Tokens of each row, shape (rows,)."""
    pad_id: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of these `rows`, padded on the right to the longest of them.

        input_ids, attention_mask (1 = real token) and, where the tokenizer makes them, token_type_ids: int64
        (rows, tokens); labels, where there are any: int64 or float32 (rows,), int64 (rows, 2) or, one a token and
        padded with −100, int64 (rows, tokens).
        """
        mask = np.arange(int(self.lengths[rows].max())) < self.lengths[rows][:, None]
        batch = {
            "input_ids": _padded(self.input_ids, rows, mask, self.pad_id),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if isinstance(self.labels, list):
            batch["labels"] = _padded(self.labels, rows, mask, IGNORED)
        elif self.labels is not None:
            batch["labels"] = torch.from_numpy(self.labels[rows])
        if self.token_type_ids is not None:
            batch["token_type_ids"] = _padded(self.token_type_ids, rows, mask, 0)
        return batch


def _padded(parts: list[np.ndarray], rows: np.ndarray, mask: np.ndarray, fill: int) -> torch.Tensor:
    padded = np.full(mask.shape, fill, dtype=np.int64)
    padded[mask] = np.concatenate([parts[row] for row in rows])
    return torch.from_numpy(padded)


def check_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise LabError when the tokenizer has no padding token."""
    if tokenizer.pad_token_id is None:
        raise LabError(
            f"The tokenizer of {tokenizer.name_or_path} has no padding token, which batches of texts need. "
            f'Set "pad_token" in its tokenizer_config.json (GPT-2 and Llama: their end-of-text token).'
        )


def tokenised(
    tokenizer: PreTrainedTokenizerBase, first: Sequence[str], second: Sequence[str] | None, **settings: Any
) -> Any:
    """Texts, or pairs of texts, as the lists of the library's tokenizer, without padding and mask.

    One call for all of them: fast tokenizers spread a list over threads. "[SEP]" written in a text is text.
    """
    plain = {"split_special_tokens": True, "padding": False, "return_attention_mask": False, "verbose": False}
    return tokenizer(list(first), None if second is None else list(second), **plain, **settings)


def arrays(rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Each row as int64."""
    return [np.asarray(row, dtype=np.int64) for row in rows]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    length: int,
    labels: np.ndarray | None = None,
) -> Features:
    """Tokenise texts, or pairs of texts, at most `length` tokens each; of a pair, the longer text is cut first.

    Raises LabError when the tokenizer has no padding token.
    """
    check_padding(tokenizer)
    encoded = tokenised(tokenizer, first, second, truncation="longest_first", max_length=length)
    input_ids, segments = arrays(encoded["input_ids"]), encoded.get("token_type_ids")
    return Features(
        input_ids=input_ids,
        token_type_ids=None if segments is None else arrays(segments),
        labels=labels,
        lengths=np.asarray([len(ids) for ids in input_ids]),
        pad_id=int(tokenizer.pad_token_id),
    )


def featurize(split: Dataset, tokenizer: PreTrainedTokenizerBase, *, length: int) -> Features:
    """`encode` of the texts or pairs of a split, with its labels: whole numbers are classes, others values."""
    labels: np.ndarray | None = None
    if "label" in split.column_names:
        labels = np.asarray(split["label"][:])
        labels = labels.astype(np.int64 if labels.dtype.kind in "iub" else np.float32)
    pairs = split["pair"][:] if "pair" in split.column_names else None
    return encode(tokenizer, split["text"][:], pairs, length=length, labels=labels)
