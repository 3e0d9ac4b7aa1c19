"""Settings of metric learning from text: loss, metric network, what a user is, negatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from minilm_lab.errors import LabError


class Network(StrEnum):
    """What stands between an encoder's vector and the metric space; the identity before training."""

    linear = "linear"
    mlp = "mlp"


class User(StrEnum):
    """What a user is, given the movies of their history without the one at hand."""

    mean = "mean"
    """The mean of their points."""
    attention = "attention"
    """A weighted mean: the more, the nearer the movie at hand and the more recent; all alike before training."""


class Negatives(StrEnum):
    """What a positive is compared with; movies that the user had are never among them."""

    uniform = "uniform"
    popular = "popular"
    """By (number of visits)^¾."""
    batch = "batch"
    """The positives of the others in the batch."""
    all = "all"
    """All movies trained on."""


@dataclass
class Training:
    """Settings of the scorers `cml`, `softmax` and `text_bpr`: what is learned is where a movie's text lies."""

    network: Network = Network.linear
    """linear | mlp: x + Wx, or x + W·relu(Vx), on the unit sphere; W is 0 at the start."""
    user: User = User.mean
    """mean | attention."""
    negatives: Negatives = Negatives.uniform
    """uniform | popular | batch | all."""
    count: int = 200
    """Of uniform and popular: movies a step, which all of its pairs are compared with."""
    margin: float = 0.5
    """Of cml: how much farther than the positive a negative must be, in squared distance (0 to 4)."""
    covariance: float = 1.0
    """Of cml: weight of the squared covariances of different axes, times the width."""
    temperature: float = 0.1
    """Of softmax and text_bpr: cosines are divided by it."""
    decay: float = 0.0
    """Decoupled weight decay, towards the untrained metric."""
    learning_rates: list[float] = field(default_factory=lambda: [3e-4, 3e-3])
    """Of Adam; one is chosen on the validation split, with the epoch."""
    epochs: int = 4
    """Passes over the interactions; 0 to this many are chosen from."""
    batch_size: int = 4096
    """Interactions a step."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("epochs", 0), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise LabError(f"evaluator.training.{name}={getattr(self, name)} must be at least {least}.")
        for name in ("temperature", "margin"):
            if getattr(self, name) <= 0:
                raise LabError(f"evaluator.training.{name}={getattr(self, name)} must be above 0.")
        for name in ("covariance", "decay"):
            if getattr(self, name) < 0:
                raise LabError(f"evaluator.training.{name}={getattr(self, name)} must be 0 or more.")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise LabError(
                f"evaluator.training.learning_rates={self.learning_rates}: give one or more, above 0."
            )
