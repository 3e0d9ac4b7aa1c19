"""A metric space of movies from their texts, in which a user lies near what they will see; the losses that shape it.

CML with text, after Hsieh et al. (WWW 2017): hinge on squared distances with a rank weight, a unit sphere in place of the
unit ball, the covariance penalty on squares (the published code adds signed entries, which cancel).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm_lab.studies.movies.training import Network, Training, User

_OUT = -1e9


class MetricSpace(nn.Module):
    """From an encoder's centred unit vector to the sphere on which distances count; the identity at the start."""

    def __init__(self, width: int, settings: Training, seed: int) -> None:
        """width: of the vectors. Random numbers of the process are left as they were."""
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.inner: nn.Linear | None = None
        if settings.network is Network.mlp:
            self.inner = nn.Linear(width, width)
            nn.init.normal_(self.inner.weight, std=math.sqrt(2 / width), generator=draw)
            nn.init.zeros_(self.inner.bias)
        self.outer = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.outer.weight)
        self.attentive = settings.user is User.attention
        self.nearness, self.recency = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def forward(self, vectors: Tensor) -> Tensor:
        """(…, width) -> (…, width) of norm 1."""
        moved = vectors if self.inner is None else F.relu(self.inner(vectors))
        return F.normalize(vectors + self.outer(moved), dim=-1)

    def affinity(self, near: Tensor, ages: Tensor, there: Tensor, length: Tensor) -> Tensor:
        """Cosine of a movie and a history that is weighed for it.

        near: (users, history, movies) cosines; ages: (users, history) 0 to 1; there: (users, history) whether there is a
        movie; length: (users,) norm of the plain mean of the history. With both weights 0 it is the cosine with the plain mean.
        """
        logits = self.nearness * near + self.recency * ages[..., None]
        weights = torch.softmax(logits.masked_fill(~there[..., None], _OUT), dim=1)
        return (weights * near).sum(dim=1) / length[:, None].clamp_min(1e-6)


def cml(positive: Tensor, negative: Tensor, allowed: Tensor, margin: float, movies: int) -> Tensor:
    """Mean of log(1 + rank) · [margin + d²(u, v⁺) − d²(u, v⁻)]₊ with the nearest negative v⁻ of each pair.

    positive: (pairs,) cosines; negative, allowed: (pairs, negatives). On the unit sphere d² = 2 − 2·cosine. The rank is the
    share of the negatives inside of the margin times `movies`; a pair without an allowed negative counts 0.
    """
    inside = F.relu(margin - 2 * positive[:, None] + 2 * negative) * allowed
    share = (inside > 0).sum(dim=1) / allowed.sum(dim=1).clamp_min(1)
    return (torch.log1p(share * movies) * inside.amax(dim=1)).mean()


def covariance(points: Tensor) -> Tensor:
    """Width × the sum of the squared covariances of different axes of (movies, width) points."""
    centred = points - points.mean(dim=0)
    together = centred.T @ centred / len(points)
    return points.shape[1] * (together.square().sum() - together.diagonal().square().sum())


def softmax(positive: Tensor, negative: Tensor, allowed: Tensor, temperature: float, log_q: Tensor) -> Tensor:
    """Mean of −log softmax of the positive among the allowed; log_q: (negatives,) log of how often each is drawn, which a
    batch's positives are corrected by (0 where all are drawn alike)."""
    others = (negative / temperature - log_q).masked_fill(~allowed, _OUT)
    return (torch.logsumexp(torch.cat([positive[:, None] / temperature, others], dim=1), dim=1)).mean() - (
        positive / temperature
    ).mean()


def bpr(positive: Tensor, negative: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    """Mean of −log σ((s⁺ − s⁻) / temperature) over the allowed negatives (Rendle et al., UAI 2009)."""
    each = F.softplus((negative - positive[:, None]) / temperature) * allowed
    return each.sum() / allowed.sum().clamp_min(1)
