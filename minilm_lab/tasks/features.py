"""From examples to token ids, once and before training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Examples


@dataclass(frozen=True)
class Features:
    """Tokenised examples, not padded: padding depends on the batch."""

    input_ids: list[np.ndarray]
    #: Segment of each token (int64, like `input_ids`), or None where the tokenizer makes none.
    token_type_ids: list[np.ndarray] | None
    #: int64 class numbers or float32 values, shape (examples,); int64 (examples, 2) first and last token of a
    #: span; or for each example one int64 class number a token (−100: no label there).
    labels: np.ndarray | list[np.ndarray]
    #: Tokens of each example, shape (examples,).
    lengths: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.input_ids)


def check_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise LabError when the tokenizer has no padding token."""
    if tokenizer.pad_token_id is None:
        raise LabError(
            f"The tokenizer of {tokenizer.name_or_path} has no padding token, which batches of texts need. "
            f'Set "pad_token" in its tokenizer_config.json (GPT-2 and Llama: their end-of-text token).'
        )


def featurize(examples: Examples, tokenizer: PreTrainedTokenizerBase, *, length: int) -> Features:
    """Tokenise `examples`, at most `length` tokens each; of a pair, the longer text is cut first.

    Raises LabError when the tokenizer has no padding token.
    """
    check_padding(tokenizer)
    first = [text for text, _ in examples.texts]
    second = [pair for _, pair in examples.texts if pair is not None]
    # One call: fast tokenizers spread a list over threads.
    encoded = tokenizer(
        first,
        second or None,
        truncation="longest_first",
        max_length=length,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    input_ids = [np.asarray(ids, dtype=np.int64) for ids in encoded["input_ids"]]
    segments = encoded.get("token_type_ids")
    is_class = bool(examples.labels) and isinstance(examples.labels[0], int)
    return Features(
        input_ids=input_ids,
        token_type_ids=None if segments is None else [np.asarray(ids, dtype=np.int64) for ids in segments],
        labels=np.asarray(examples.labels, dtype=np.int64 if is_class else np.float32),
        lengths=np.asarray([len(ids) for ids in input_ids]),
        pad_id=tokenizer.pad_token_id,
    )
