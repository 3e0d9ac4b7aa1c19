"""Training rows with words replaced by similar ones (TinyBERT, Jiao et al. 2020, arXiv 1909.10351, Algorithm 1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm_lab.data.loading import Batch
from minilm_lab.errors import LabError
from minilm_lab.tasks.features import Features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEIGHBOURS = 15
"""The paper's K."""
SHARE = 0.4
"""Of the words that are replaced: the paper's p."""
_BLOCK = 512
_MARKS = ("\u0120", "\u2581")
"""How tokens that begin a word are written by BPE of bytes and by SentencePiece."""


class Augmented:
    """Features, and `copies` of each row with some words replaced: row n of copy c has the number c * rows + n.

    What is replaced in a row, and by what, is a function of (seed, number). A word is replaced if it is one token, of
    letters alone; special tokens and pieces of longer words stay. In place of masked language modelling (the paper's),
    a word's substitutes are its nearest neighbours by cosine among the words of the model's own embeddings, which a
    student has from its teacher.
    """

    def __init__(
        self,
        features: Features,
        tokenizer: PreTrainedTokenizerBase,
        embeddings: Tensor,
        copies: int,
        seed: int,
    ) -> None:
        """embeddings: (vocabulary, width), any float; copies: 1 or more."""
        self.features, self.copies, self.seed = features, copies, seed
        self.lengths = np.tile(features.lengths, copies + 1)
        words, self._begins = _words(tokenizer, len(embeddings))
        if len(words) < 2:
            raise LabError(
                "tune.augment: the tokenizer has no tokens that are whole words, so none can be replaced"
            )
        count = min(NEIGHBOURS, len(words) - 1)
        self._is_word = np.isin(np.arange(len(embeddings)), words)
        self._substitutes = np.full((len(embeddings), count), -1)
        vectors = embeddings.detach().float()[torch.from_numpy(words)]
        self._substitutes[words] = words[_nearest(vectors, count)]

    def batch(self, rows: np.ndarray) -> Batch:
        """As of `Features`."""
        originals = rows % len(self.features)
        changed = {
            place: self._replaced(int(number), self.features.input_ids[original])
            for place, (number, original) in enumerate(zip(rows, originals, strict=True))
        }
        # A table of these rows alone, numbered by their places in the batch.
        segments, labels = self.features.token_type_ids, self.features.labels
        table = replace(
            self.features,
            input_ids=[changed[place] for place in range(len(rows))],
            token_type_ids=None if segments is None else [segments[n] for n in originals],
            labels=None if labels is None else labels[originals],
            lengths=self.features.lengths[originals],
        )
        return table.batch(np.arange(len(rows)))

    def _replaced(self, number: int, ids: np.ndarray) -> np.ndarray:
        if number < len(self.features):
            return ids
        draw = np.random.default_rng([self.seed, number])
        chances, choices = draw.random(len(ids)), draw.random(len(ids))
        ends = np.append(self._begins[ids[1:]], True)  # nothing of the same word follows
        chosen = self._is_word[ids] & ends & (chances < SHARE)
        places = (choices * self._substitutes.shape[1]).astype(int)
        return np.where(chosen, self._substitutes[ids, places], ids)


def word_embeddings(module: nn.Module) -> Tensor:
    """(vocabulary, width): the largest table of embeddings of a module."""
    tables = [m for m in module.modules() if isinstance(m, nn.Embedding)]
    return max(tables, key=lambda table: table.num_embeddings).weight


def _words(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of tokens that are whole words of letters, ascending; and for each id whether it begins a word or is special."""
    vocabulary = {n: token for token, n in tokenizer.get_vocab().items() if n < size}
    pieces = any(token.startswith("##") for token in vocabulary.values())
    special = {*tokenizer.all_special_ids}
    begins = np.zeros(size, dtype=bool)
    words = []
    for number, token in vocabulary.items():
        marked = token.startswith(_MARKS)
        begins[number] = number in special or (not token.startswith("##") if pieces else marked)
        plain = token[1:] if marked and not pieces else token
        if begins[number] and number not in special and plain.isalpha() and len(plain) > 1:
            words.append(number)
    return np.array(sorted(words), dtype=np.int64), begins


def _nearest(vectors: Tensor, count: int) -> np.ndarray:
    """int64 (words, count): numbers of the nearest other vectors by cosine, nearest first."""
    unit = F.normalize(vectors, dim=1)
    found = []
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        places = torch.arange(len(cosines))
        cosines[places, start + places] = -2.0
        found.append(cosines.topk(count, dim=1).indices)
    return torch.cat(found).numpy()
