"""Clusters of keys by k-means (Lloyd 1982), seeded, the same on every run."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError

ITERATIONS = 25
_ROWS = 8192


@dataclass(frozen=True)
class Clusters:
    """Which cluster each key is in."""

    labels: Tensor
    """int64 (keys,)."""
    inertia: float
    """Mean squared distance of a key from its centre."""


def usual_number(vocabulary: int) -> int:
    """2^round(log2(V / 98)): 512 for 50 thousand keys, 1,024 for 128 thousand, as in the paper's published clusters."""
    return int(max(2, 2 ** round(math.log2(max(vocabulary, 196) / 98))))


def k_means(
    vectors: Tensor, k: int, seed: int, *, start: Tensor | None = None, iterations: int = ITERATIONS
) -> Clusters:
    """Cluster by Euclidean distance, from `k` keys drawn by `seed` or from the centres `start` (k, width).

    Ends when no key changes its cluster, or after `iterations`. A cluster that loses all keys starts anew at the key
    that is farthest from its centre. LabError when there are fewer keys than clusters.
    """
    if k > len(vectors):
        raise LabError(
            f"evaluator.clusters={k} is more than the {len(vectors)} keys that there are to cluster."
        )
    if start is None:
        draw = torch.Generator().manual_seed(seed)
        start = vectors[torch.randperm(len(vectors), generator=draw)[:k]]
    centres, labels = start.clone(), torch.full((len(vectors),), -1)
    squares = (vectors**2).sum(dim=1)
    for _ in range(iterations):
        nearest, distances = _assign(vectors, squares, centres)
        if torch.equal(nearest, labels):
            break
        labels = nearest
        counts = torch.bincount(labels, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, labels, vectors)
        centres = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        centres[empty] = vectors[distances.topk(len(empty)).indices]
    labels, distances = _assign(vectors, squares, centres)
    return Clusters(labels, float(distances.mean()))


def _assign(vectors: Tensor, squares: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centre of each key and its squared distance."""
    half = (centres**2).sum(dim=1) / 2
    labels, distances = [], []
    for rows, square in zip(vectors.split(_ROWS), squares.split(_ROWS), strict=True):
        worth = torch.addmm(-half, rows, centres.T)
        best, place = worth.max(dim=1)
        labels.append(place)
        distances.append((square - 2 * best).clamp(min=0))
    return torch.cat(labels), torch.cat(distances)


def kept_clusters(vectors: Tensor, k: int, seed: int, cache: Path | None) -> Clusters:
    """`k_means`, remembered in `<cache>/clusters` by the keys' content: several evaluations of a model share it."""
    if cache is None:
        return k_means(vectors, k, seed)
    content = hashlib.sha256(vectors.numpy().tobytes())
    content.update(f"{tuple(vectors.shape)} {k} {seed} {ITERATIONS}".encode())
    folder = cache / "clusters" / content.hexdigest()[:24]
    if not folder.is_dir():
        made = k_means(vectors, k, seed)
        with whole_folder(folder, alone=False) as temporary:
            torch.save({"labels": made.labels, "inertia": made.inertia}, temporary / "clusters.pt")
        return made
    saved = torch.load(folder / "clusters.pt", weights_only=True)
    return Clusters(saved["labels"], float(saved["inertia"]))
