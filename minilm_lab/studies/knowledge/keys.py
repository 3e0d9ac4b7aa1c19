"""The keys of a language model: its output embeddings, without those that no text calls for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel

#: Places that a vocabulary keeps for later: <unused12>, <|reserved_special_token_3|>, [unused7].
_RESERVED = re.compile(r"[<\[]\|?(unused|reserved|extra|pad)\w*\|?[>\]]", re.IGNORECASE)


@dataclass(frozen=True)
class Keys:
    """Output embeddings of the tokens of text."""

    vectors: Tensor
    """float32 (keys, width)."""
    ids: Tensor
    """int64 (keys,): the token of each, ascending."""

    def __len__(self) -> int:
        return len(self.ids)


def keys_of(model: LanguageModel) -> Keys:
    """The keys of a model, on the CPU; special tokens, reserved ones and rows beyond the tokenizer are left out.

    None of them is ever the continuation of a text; together they make a few giant clusters.
    """
    head: Any = model.model.get_output_embeddings()
    if head is None:
        raise LabError(
            f"a '{model.model.config.model_type}' model has no output embeddings: there are no keys to look at"
        )
    tokenizer: Any = model.tokenizer
    left_out = set(tokenizer.all_special_ids)
    left_out |= {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = sorted(
        number
        for token, number in tokenizer.get_vocab().items()
        if number not in left_out and number < len(head.weight) and not _RESERVED.fullmatch(token)
    )
    ids = torch.tensor(known, dtype=torch.long)
    return Keys(head.weight.detach().float().cpu()[ids], ids)
