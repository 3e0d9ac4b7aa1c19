"""Pictures of the study: the map of keys, answers by rank, curves of a decoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from minilm_lab.reports.drawing import COLOURS, FAINT, WIDTH, Picture, style

_BACKGROUND = 1500


def flattened(vectors: Tensor) -> np.ndarray:
    """(n, 2): t-SNE of unit vectors (cosine distances), started from their principal components; n of 4 or more."""
    from sklearn.manifold import TSNE

    unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
    perplexity = min(30.0, (len(unit) - 1) / 3)
    made: np.ndarray = TSNE(
        2, perplexity=perplexity, init="pca", metric="cosine", random_state=0, n_jobs=1
    ).fit_transform(unit)
    return made


def key_map(vectors: Tensor, labels: Tensor, tokens: Sequence[str]) -> Picture:
    """Some keys in two dimensions, and in colour all of six clusters of about the median size.

    vectors: (n, d); labels: (n,), the cluster of each; tokens: their texts.
    """
    counts = torch.bincount(labels)
    sizes = counts[counts > 0].sort().values
    middle = sizes[len(sizes) // 2]
    shown = (counts - middle).abs().argsort(stable=True)[: len(COLOURS)].tolist()
    draw = torch.Generator().manual_seed(0)
    some = torch.randperm(len(vectors), generator=draw)[:_BACKGROUND]
    rows = torch.cat([some, *((labels == cluster).nonzero()[:, 0] for cluster in shown)]).unique()
    places, groups = flattened(vectors[rows]), labels[rows].numpy()
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH + 1.3), layout="constrained")
        axes = figure.subplots()
        others = ~np.isin(groups, shown)
        axes.scatter(places[others, 0], places[others, 1], s=3, color=FAINT, linewidths=0, rasterized=True)
        names = []
        for colour, cluster in zip(COLOURS, shown, strict=False):
            axes.scatter(
                places[groups == cluster, 0], places[groups == cluster, 1], s=7, color=colour, linewidths=0
            )
            inside = (labels == cluster).nonzero()[:, 0]
            centre = vectors[inside].mean(dim=0)
            near = (vectors[inside] - centre).norm(dim=1).argsort(stable=True)[:4]
            names.append(", ".join(as_label(tokens[n]) for n in inside[near]))
            axes.scatter([], [], s=14, color=colour, label=names[-1])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        figure.legend(loc="outside upper left", fontsize=8, markerscale=1.2)
    words = f"{len(rows)} of {len(vectors)} keys by t-SNE; in colour six clusters: {'; '.join(names)}."
    return Picture(figure, "Map of keys", words)


def as_label(token: str) -> str:
    """A token as text in a picture: without the space before it; what cannot be drawn as its code."""
    text = token.strip()
    return text if text and text.isascii() and text.isprintable() else ascii(token)[1:-1]
