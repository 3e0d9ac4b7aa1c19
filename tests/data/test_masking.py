"""Masking: BERT's shares, what is never touched, and that a sample's mask depends on (seed, sample) alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from data.helpers import wordpiece
from minilm_lab.data.masking import IGNORED, Masking, mask_tokens, masking_for
from minilm_lab.errors import LabError

SETTINGS = {"seed": 1, "probability": 0.15, "mask_id": 4, "vocabulary": 50, "never": {0, 2, 3, 4}}


def text(rows: int, length: int) -> np.ndarray:
    """Ordinary ids between [CLS] and [SEP]."""
    ids = np.random.default_rng(0).integers(5, 50, (rows, length))
    ids[:, 0], ids[:, -1] = 2, 3
    return ids


def within(successes: int, trials: int, share: float) -> bool:
    """Whether a count is between the 0.0001 quantiles of a binomial distribution."""
    return bool(binom.ppf(1e-4, trials, share) <= successes <= binom.ppf(1 - 1e-4, trials, share))


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_shares(probability: float) -> None:
    ids = text(400, 128)
    corrupted, labels = mask_tokens(ids, np.arange(400), **{**SETTINGS, "probability": probability})
    ordinary, chosen = ids >= 5, labels != IGNORED
    count = int(chosen.sum())
    assert within(count, int(ordinary.sum()), probability)
    masked, kept = chosen & (corrupted == 4), chosen & (corrupted == ids)
    other = chosen & (corrupted != 4) & (corrupted != ids)
    # A random token is the true one, and so looks kept, once in 46 times.
    assert within(int(masked.sum()), count, 0.8)
    assert within(int(other.sum()), count, 0.1 * 45 / 46)
    assert within(int(kept.sum()), count, 0.1 + 0.1 / 46)
    # Neither a place nor a neighbour decides: every column, and every pair of neighbours, has its share.
    assert all(within(int(n), 400, probability) for n in chosen[:, 1:-1].sum(axis=0))
    both = int((chosen[:, 1:-2] & chosen[:, 2:-1]).sum())
    assert within(both, 400 * 125, probability**2)


def test_random_tokens_are_uniform_and_never_special() -> None:
    ids = np.full((300, 400), 5)
    corrupted, _ = mask_tokens(ids, np.arange(300), **{**SETTINGS, "probability": 0.9})
    drawn = corrupted[(corrupted != 4) & (corrupted != 5)]
    assert not set(drawn.tolist()) & SETTINGS["never"]
    counts = np.bincount(drawn, minlength=50)[[1, *range(6, 50)]]
    assert counts.sum() == len(drawn) and chisquare(counts).pvalue > 1e-4


def test_labels_are_the_true_tokens_and_the_rest_is_untouched() -> None:
    ids = text(20, 64)
    before = ids.copy()
    corrupted, labels = mask_tokens(ids, np.arange(20), **SETTINGS)
    assert (ids == before).all() and corrupted.dtype == labels.dtype == np.int64
    chosen = labels != IGNORED
    assert (labels[chosen] == ids[chosen]).all() and (corrupted[~chosen] == ids[~chosen]).all()


def test_special_tokens_and_padding_are_never_chosen() -> None:
    ids = np.tile(np.array([2, 7, 0, 3, 4, 0, 0, 0]), (200, 1))
    corrupted, labels = mask_tokens(ids, np.arange(200), **{**SETTINGS, "probability": 0.999})
    assert (labels[:, [0, 2, 3, 4, 5, 6, 7]] == IGNORED).all()
    assert (corrupted[:, [0, 2, 3, 4, 5, 6, 7]] == ids[:, [0, 2, 3, 4, 5, 6, 7]]).all()
    assert (labels[:, 1] == 7).sum() > 190


def test_a_sample_is_masked_alike_in_every_batch_and_at_every_padded_length() -> None:
    ids, samples = text(6, 40), np.array([9, 3, 10**12, 0, 77, 4])
    whole = mask_tokens(ids, samples, **SETTINGS)
    order = [4, 0, 5]
    for part, expected in zip(mask_tokens(ids[order], samples[order], **SETTINGS), whole, strict=True):
        assert (part == expected[order]).all()
    longer = np.pad(ids, ((0, 0), (0, 13)))
    corrupted, labels = mask_tokens(longer, samples, **SETTINGS)
    assert (corrupted[:, :40] == whole[0]).all() and (labels[:, :40] == whole[1]).all()
    assert (corrupted[:, 40:] == 0).all() and (labels[:, 40:] == IGNORED).all()


def test_other_seeds_and_samples_give_other_masks() -> None:
    ids = np.tile(text(1, 512), (3, 1))
    _, labels = mask_tokens(ids, np.array([0, 1, 2]), **SETTINGS)
    _, again = mask_tokens(ids, np.array([0, 1, 2]), **{**SETTINGS, "seed": 2})
    chosen = [row != IGNORED for row in (*labels, *again)]
    for i, one in enumerate(chosen):
        for other in chosen[:i]:
            # Independent masks agree on 0.15² of the tokens.
            assert within(int((one & other).sum()), 510, 0.15**2)


def splitmix(state: int) -> int:
    """The mixing function in plain integers."""
    z = state % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_by_hand() -> None:
    """One token at a time in Python's own integers."""
    # The first output of the published SplitMix64 from state 0.
    assert splitmix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    ids, samples = text(5, 60), [0, 1, 2, 5, 2**40]
    settings = {**SETTINGS, "seed": 12345, "probability": 0.3}
    corrupted, labels = mask_tokens(ids, np.array(samples), **settings)
    drawable = [i for i in range(50) if i not in settings["never"]]
    fates = set()
    for b, sample in enumerate(samples):
        stream = splitmix(12345 ^ splitmix(sample))
        for place, token in enumerate(ids[b].tolist()):
            draws = [
                (splitmix(stream + (3 * place + k + 1) * 0x9E3779B97F4A7C15) >> 11) / 2**53 for k in range(3)
            ]
            expected, label = token, IGNORED
            if draws[0] < 0.3 and token >= 5:
                label = token
                fates.add("mask" if draws[1] < 0.8 else "random" if draws[1] < 0.9 else "same")
                if draws[1] < 0.8:
                    expected = 4
                elif draws[1] < 0.9:
                    expected = drawable[int(draws[2] * len(drawable))]
            assert (corrupted[b, place], labels[b, place]) == (expected, label)
    assert fates == {"mask", "random", "same"}


def test_the_masking_of_a_tokenizer() -> None:
    tokenizer = wordpiece()
    masking = masking_for(tokenizer, 7, 0.2, len(tokenizer) + 30)
    special = {tokenizer.convert_tokens_to_ids(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    assert masking == Masking(7, 0.2, tokenizer.mask_token_id, len(tokenizer), frozenset(special))
    assert masking_for(tokenizer, 7, 0.2, 10).vocabulary == 10
    ids = np.asarray(
        tokenizer(["the cat sat on the mat"] * 40, padding="max_length", max_length=16)["input_ids"]
    )
    corrupted, labels = pickle.loads(pickle.dumps(masking))(ids, np.arange(40))
    assert ((labels == IGNORED) | (ids == labels)).all() and (labels != IGNORED).any()
    assert (corrupted[np.isin(ids, list(special))] == ids[np.isin(ids, list(special))]).all()


def test_a_tokenizer_without_a_mask_token_is_refused() -> None:
    tokenizer = wordpiece()
    tokenizer.mask_token = None
    with pytest.raises(
        LabError, match=r"objective\.mask_probability=0\.15 .* mask token.*objective=minilmv2"
    ):
        masking_for(tokenizer, 0, 0.15, 100)
