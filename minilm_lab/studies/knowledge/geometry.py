"""What the keys of one model, and of two models with one vocabulary, look like: tensors in, numbers out.

Shapes: n keys, d their width; float32 or float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

NEIGHBOURS = 10


def shape_facts(vectors: Tensor, seed: int, sample: int = 4000) -> dict[str, float]:
    """Of keys (n, d): mean and sd of their norms, the spectrum of the centred keys, mean cosine of pairs, hubness.

    effective_rank is exp of the entropy of the squared singular values (Roy and Vetterli 2007), participation their
    (sum)² / sum of squares; mean_cosine is over all pairs, × 100; hubness is the skewness of how often a key is among
    the ten nearest of others (Radovanović et al. 2010), on `sample` keys.
    """
    norms = vectors.norm(dim=1)
    centred = (vectors - vectors.mean(dim=0)).double()
    spectrum = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    share = spectrum / spectrum.sum()
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    count = len(vectors)
    cosines = float((unit.sum(dim=0) ** 2).sum() - (unit**2).sum()) / (count * (count - 1))
    chosen = unit[drawn(count, sample, seed)].to(vectors.dtype)
    return {
        "norm": float(norms.mean()),
        "norm_sd": float(norms.std()),
        "effective_rank": float(torch.exp(-(share * share.clamp(min=1e-300).log()).sum())),
        "participation": float(1 / (share**2).sum()),
        "first_direction": 100 * float(share.max()),
        "mean_cosine": 100 * cosines,
        "hubness": hubness(chosen),
    }


def drawn(count: int, sample: int, seed: int) -> Tensor:
    """`sample` of `count` row numbers, ascending; all, where there are fewer."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:sample].sort().values


def neighbours(vectors: Tensor, rows: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """int64 (rows, k): the k nearest by cosine of each of `rows` among all keys, itself left out."""
    unit = torch.nn.functional.normalize(vectors, dim=1)
    near = []
    for some in rows.split(1024):
        cosines = unit[some] @ unit.T
        cosines[torch.arange(len(some)), some] = -torch.inf
        near.append(cosines.topk(k, dim=1).indices)
    return torch.cat(near)


def hubness(vectors: Tensor, k: int = NEIGHBOURS) -> float:
    """Skewness of the number of keys that count a key among their `k` nearest."""
    k = min(k, len(vectors) - 1)
    near = neighbours(vectors, torch.arange(len(vectors)), k)
    counts = torch.bincount(near.flatten(), minlength=len(vectors)).double()
    deviation = counts - counts.mean()
    spread = (deviation**2).mean().sqrt()
    return float((deviation**3).mean() / spread**3) if spread > 0 else 0.0


def cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) of (n, d) with (n, e): 0 to 1."""
    first, second = (x.double() - x.double().mean(dim=0) for x in (first, second))
    apart = (first.T @ first).norm() * (second.T @ second).norm()
    return float((second.T @ first).norm() ** 2 / apart)


def shared_neighbours(first: Tensor, second: Tensor, seed: int, sample: int = 1000) -> float:
    """Mean share of the ten nearest keys of a token, by cosine, that both spaces name; over `sample` tokens."""
    rows = drawn(len(first), sample, seed)
    k = min(NEIGHBOURS, len(first) - 1)
    near = [neighbours(space, rows, k) for space in (first, second)]
    both = (near[0][:, :, None] == near[1][:, None, :]).any(dim=2)
    return float(both.double().mean())


def cosine_correlation(first: Tensor, second: Tensor, seed: int, pairs: int = 100_000) -> float:
    """Spearman correlation of the cosines of the same random pairs of tokens in both spaces."""
    from scipy.stats import spearmanr

    draw = torch.Generator().manual_seed(seed)
    left = torch.randint(len(first), (pairs,), generator=draw)
    right = (left + torch.randint(1, len(first), (pairs,), generator=draw)) % len(first)
    cosines = [torch.cosine_similarity(space[left], space[right], dim=1) for space in (first, second)]
    return float(spearmanr(cosines[0].numpy(), cosines[1].numpy()).statistic)


def agreement(ours: Sequence[Tensor], theirs: Sequence[Tensor] | None = None) -> dict[str, float]:
    """Mean NMI and adjusted Rand index of clusterings of the same tokens by *different* seeds.

    ours, theirs: labels, one a seed, the seeds in the same order; without `theirs` those of one space with each other,
    which is as far as two spaces can agree: their ceiling.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if theirs is None:
        pairs = list(itertools.combinations(ours, 2))
    else:
        pairs = [(a, b) for i, a in enumerate(ours) for j, b in enumerate(theirs) if i != j]
    nmi = [float(normalized_mutual_info_score(a.numpy(), b.numpy())) for a, b in pairs]
    ari = [float(adjusted_rand_score(a.numpy(), b.numpy())) for a, b in pairs]
    return {"nmi": sum(nmi) / len(nmi), "ari": sum(ari) / len(ari)}
