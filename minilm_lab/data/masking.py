"""Masked language modelling: which tokens are hidden, and behind what, is a pure function of (seed, sample).

A counter-based hash takes the place of a generator: there is no state to save, and neither the batch that a sample
comes in, nor the length it is padded to on the right, nor the rank or worker that reads it plays a part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from minilm_lab.data.splitmix import GAMMA, Words, mixed
from minilm_lab.errors import LabError

#: Label of a token that is not predicted; what torch's cross-entropy ignores.
IGNORED = -100
#: BERT (arXiv 1810.04805, section 3.1): of the chosen tokens 80 % become the mask token, 10 % a random one, 10 %
#: stay as they are.
AS_MASK, AS_MASK_OR_RANDOM = 0.8, 0.9
#: Independent draws of a token: whether it is chosen, what becomes of it, which random token it becomes.
CHOSEN, FATE, WHICH = 0, 1, 2

Ids = npt.NDArray[np.int64]


def mask_tokens(
    ids: Ids,
    samples: Ids,
    *,
    seed: int,
    probability: float,
    mask_id: int,
    vocabulary: int,
    never: Collection[int],
) -> tuple[Ids, Ids]:
    """Hide tokens by BERT's rule.

    Args:
        ids: (batch, length) int64 token ids; padding, if any, on the right, as an id of `never`.
        samples: (batch,) int64 sample numbers.
        seed: of the masks.
        probability: share of the tokens that are chosen, each by itself.
        mask_id: id of the mask token.
        vocabulary: random tokens are drawn from 0 … vocabulary − 1.
        never: ids of special tokens, padding among them: never chosen, never drawn.

    Returns:
        (corrupted ids, labels), both (batch, length) int64; labels hold the true token where one was chosen, and
        `IGNORED` elsewhere. Row b depends on (seed, samples[b], ids[b]) alone.
    """
    rows = mixed(np.uint64(seed % (1 << 64)) ^ mixed(samples.astype(np.uint64)))
    counters = np.arange(ids.shape[1], dtype=np.uint64) * np.uint64(3)
    special = np.array(sorted(never), np.int64)
    chosen = (_uniform(rows[:, None], counters + np.uint64(CHOSEN)) < probability) & ~np.isin(ids, special)
    row, column = np.nonzero(chosen)

    labels = np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    fate = _uniform(rows[row], counters[column] + np.uint64(FATE))
    drawable = np.setdiff1d(np.arange(vocabulary, dtype=np.int64), special, assume_unique=True)
    drawn = drawable[
        (_uniform(rows[row], counters[column] + np.uint64(WHICH)) * len(drawable)).astype(np.int64)
    ]
    corrupted = ids.copy()
    corrupted[chosen] = np.where(
        fate < AS_MASK, mask_id, np.where(fate < AS_MASK_OR_RANDOM, drawn, ids[chosen])
    )
    return corrupted, labels


@dataclass(frozen=True)
class Masking:
    """`mask_tokens` with its settings: (ids, samples) -> (corrupted ids, labels)."""

    seed: int
    probability: float
    mask_id: int
    vocabulary: int
    never: frozenset[int]

    def __call__(self, ids: Ids, samples: Ids) -> tuple[Ids, Ids]:
        return mask_tokens(
            ids,
            samples,
            seed=self.seed,
            probability=self.probability,
            mask_id=self.mask_id,
            vocabulary=self.vocabulary,
            never=self.never,
        )


def masking_for(tokenizer: Any, seed: int, probability: float, vocabulary: int) -> Masking:
    """The masking of a Hugging Face tokenizer's text; `vocabulary`: the size of the models' word embeddings.

    Raises:
        LabError: the tokenizer has no mask token, or one that stands for something else too.
    """
    if tokenizer.mask_token_id is None:
        raise LabError(
            f"objective.mask_probability={probability} hides tokens behind a mask token, which this tokenizer "
            f"({type(tokenizer).__name__}) has not; use an objective without masked language modelling "
            "(objective=minilmv2, objective=minilm)"
        )
    for other in ("pad", "unk", "cls", "sep", "bos", "eos"):
        if getattr(tokenizer, f"{other}_token_id") == tokenizer.mask_token_id:
            raise LabError(
                f"the tokenizer's mask token {tokenizer.mask_token!r} is its {other} token too: what is masked could not "
                "be told from it; set mask_token in tokenizer_config.json"
            )
    never = frozenset(int(i) for i in tokenizer.all_special_ids)
    # Models often embed more ids than the tokenizer has tokens, rounded up for speed: those are never drawn.
    return Masking(seed, probability, int(tokenizer.mask_token_id), min(vocabulary, len(tokenizer)), never)


def _uniform(keys: Words, counters: Words) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) with 53 random bits: the `counters`-th of the SplitMix64 streams that start at `keys`."""
    words = mixed(keys + (counters + np.uint64(1)) * GAMMA)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
