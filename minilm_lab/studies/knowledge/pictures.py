"""Pictures of the study: the map of keys, answers by rank, curves of a decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from minilm_lab.reports.drawing import COLOURS, FAINT, WIDTH, Picture, series_style, style

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


def answer_map(
    vectors: Tensor, inside: np.ndarray, right: np.ndarray, tokens: Sequence[str], asks: str, top: int
) -> Picture:
    """The first tokens of one prompt's answers: (n, d) keys, in rank order, the first `top` of them the top ranks.

    inside, right: bool (n,): whether in a cluster of the top ranks; whether the answer was right (a ring).
    """
    places = flattened(vectors)
    rank = np.arange(len(places))
    groups = {
        f"ranks 1 to {top}": (rank < top, COLOURS[1]),
        "in their clusters": ((rank >= top) & inside, COLOURS[0]),
        "elsewhere": ((rank >= top) & ~inside, COLOURS[4]),
    }
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH + 0.6), layout="constrained")
        axes = figure.subplots()
        for name, (chosen, colour) in groups.items():
            axes.scatter(places[chosen, 0], places[chosen, 1], s=12, color=colour, linewidths=0, label=name)
        axes.scatter(
            places[right, 0],
            places[right, 1],
            s=55,
            facecolors="none",
            edgecolors=COLOURS[2],
            label="right answer",
        )
        for (x, y), token in zip(places, tokens, strict=True):
            axes.annotate(as_label(token), (x, y), fontsize=5.5, xytext=(2, 2), textcoords="offset points")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        figure.legend(loc="outside upper left", fontsize=8, ncols=2)
    words = (
        f"Asked for {asks}: the first tokens of {len(places)} answers by t-SNE of their keys; "
        f"{int(right.sum())} answers are right; of ranks behind {top}, {int(inside[top:].sum())} lie in the top's clusters."
    )
    return Picture(figure, f"First tokens: {asks}", words)


def by_rank(right: np.ndarray, inside: np.ndarray, top: int, width: int = 15) -> Picture:
    """Accuracy by rank in bins, in and out of the top's clusters; right, inside: bool (P, N)."""
    starts = range(top, right.shape[1], width)
    middles = [start + 0.5 + (min(start + width, right.shape[1]) - start) / 2 for start in starts]
    words = []
    with style():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for name, chosen, colour in (
            ("in the top's clusters", inside, COLOURS[0]),
            ("elsewhere", ~inside, COLOURS[4]),
        ):
            values = []
            for start in starts:
                use = chosen[:, start : start + width]
                values.append(100 * right[:, start : start + width][use].mean() if use.any() else np.nan)
            axes.plot(middles, values, marker="o", markersize=4, color=colour, label=name)
            words.append(f"{name} {', '.join(f'{v:.0f}' for v in values)} %")
        axes.plot(
            [top / 2],
            [100 * right[:, :top].mean()],
            marker="s",
            linestyle="none",
            color=COLOURS[1],
            label=f"ranks 1 to {top}",
        )
        axes.set_xlabel("rank of the first token")
        axes.set_ylabel("right answers, %")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", fontsize=8, ncols=2)
    return Picture(figure, "Accuracy by rank", "; ".join(words) + ".")


def found_curves(curves: Mapping[str, np.ndarray]) -> Picture:
    """Distinct right answers over answers, a line a way of decoding: name -> (N,)."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for number, (name, values) in enumerate(curves.items()):
            colour, line = series_style(number)
            axes.plot(range(1, len(values) + 1), values, color=colour, linestyle=line, label=name)
        axes.set_xlabel("answers")
        axes.set_ylabel("distinct right answers")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", fontsize=8, ncols=2)
    words = "; ".join(f"{name} {values[-1]:.1f} after {len(values)}" for name, values in curves.items())
    return Picture(figure, "Distinct right answers", f"A prompt, mean: {words}.")
