"""evaluator=merrec_clicks: click and like prediction, one task at a time or together, with an encoder's vectors of titles.

Models are torch-rechub's; its gates are parameters, which those of the released benchmark are not (a test holds it).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import Encoder
from minilm_lab.studies.merrec import defects, labels
from minilm_lab.studies.merrec.dated import Dated, _day
from minilm_lab.studies.merrec.training import scaled

logger = logging.getLogger(__name__)
SINGLE, SHARED = ("deepfm", "dcnv2"), ("shared_bottom", "mmoe", "ple", "aitm")
"""Models of one task each, and of all tasks together."""


@dataclass
class Clicks(Dated):
    """Events before a day train a model of torch-rechub; events of later sessions are judged by AUC and log loss."""

    label: str = "session_action"
    """session_action | event_type (what the released benchmark calls CTR); see `labels`."""
    model: str = "mmoe"
    """deepfm | dcnv2 (a model a task) | shared_bottom | mmoe | ple | aitm (all tasks together)."""
    width: int = 16
    """Of the vector of a number."""
    epochs: int = 2
    batch: int = 1024
    lr: float = 2e-3
    most: int = 20_000
    """Events to judge: the first so many by a draw of whole users."""
    defects: list[str] = field(default_factory=list)
    """Faults of the released benchmark to switch on, to see what they do: see `defects`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label not in labels.LABELS:
            raise LabError(f"evaluator.label={self.label}: choose one of {', '.join(labels.LABELS)}.")
        if self.model not in SINGLE + SHARED:
            raise LabError(f"evaluator.model={self.model}: choose one of {', '.join(SINGLE + SHARED)}.")
        defects.check(self.defects, defects.OF_CLICKS)
        for name in ("width", "epochs", "batch", "most"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")

    @property
    def primary(self) -> str:
        """The AUC of the first task, pooled over events."""
        return f"{labels.LABELS[self.label][0]}_auc"

    def __call__(self, model: Encoder) -> Result:
        """Scores a task: auc with its ends over users, log_loss, base_log_loss (of the share before the cut); in percent and nats."""
        data = self._log
        start = _day("judged_from", self.judged_from)
        asked = labels.ask(data, self.label, start, _day("judged_before", self.judged_before))
        if "random_rows" in self.defects:
            asked = defects.random_rows(asked)
        known = np.zeros(len(data.items["title"]), dtype=bool)
        known[data.item[data.time < start]] = True
        learn = np.flatnonzero(~asked.late)
        judge = _users_first(np.flatnonzero(asked.late), data.user[asked.rows], self.most)
        columns = labels.fields(data, asked.rows, known)
        if "constant_fields" in self.defects:
            columns = defects.constant_fields(columns)
        titles = self._vectors(model)
        inputs = Inputs(columns, None if titles is None else scaled(titles))
        answers = torch.from_numpy(asked.answers)
        means = []
        for seed in self.seeds:
            means.append(self._trained(inputs, answers, learn, judge, seed))
        chance = np.mean(means, axis=0)
        scores: dict[str, float] = {}
        for number, task in enumerate(labels.LABELS[self.label]):
            right = asked.answers[judge, number]
            scores |= _judged(
                task,
                chance[:, number],
                right,
                data.user[asked.rows[judge]],
                asked.answers[learn, number].mean(),
            )
        facts = {
            **self._facts(),
            **asked.facts,
            "judged": len(judge),
            "seeds": len(self.seeds),
            "defects": list(self.defects),
        }
        facts |= {
            f"{task}_share": float(asked.answers[judge, n].mean())
            for n, task in enumerate(labels.LABELS[self.label])
        }
        return Result(scores, [], facts=facts)

    def _trained(
        self, inputs: Inputs, answers: Tensor, learn: NDArray[np.int64], judge: NDArray[np.int64], seed: int
    ) -> NDArray[np.float64]:
        """(judged, tasks) probabilities."""
        tasks = answers.shape[1]
        groups = [[n] for n in range(tasks)] if self.model in SINGLE else [list(range(tasks))]
        chance = np.zeros((len(judge), tasks))
        with torch.random.fork_rng(devices=[]):
            for group in groups:
                torch.manual_seed(seed)
                net = build(self.model, inputs, self.width, len(group))
                if "frozen_gates" in self.defects:
                    defects.freeze_gates(net)
                optimiser = torch.optim.Adam(
                    [weight for weight in net.parameters() if weight.requires_grad], lr=self.lr
                )
                for _ in range(self.epochs):
                    net.train()
                    for rows in torch.from_numpy(learn)[torch.randperm(len(learn))].split(self.batch):
                        out = net(inputs.batch(rows)).reshape(len(rows), len(group))
                        value = nn.functional.binary_cross_entropy(
                            out.clamp(1e-6, 1 - 1e-6), answers[rows][:, group]
                        )
                        optimiser.zero_grad()
                        value.backward()
                        optimiser.step()
                net.eval()
                with torch.no_grad():
                    parts = [
                        net(inputs.batch(rows)).reshape(len(rows), len(group))
                        for rows in torch.from_numpy(judge).split(4096)
                    ]
                chance[:, group] = torch.cat(parts).double().numpy()
        return chance


class Inputs:
    """Columns of questions as torch-rechub wants them, with the vectors of titles put in batch by batch."""

    def __init__(self, columns: dict[str, NDArray[Any]], titles: Tensor | None) -> None:
        self.columns = {
            name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()
        }
        self.titles = titles
        self.sizes: dict[str, int] = {
            name: int(self.columns[name].max()) + 1 for name in (*labels.FIELDS, "history", "history_product")
        }
        self.sizes["item"] = max(self.sizes["item"], self.sizes["history"])
        self.sizes["product"] = max(self.sizes["product"], self.sizes["history_product"])

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The part of these questions."""
        out = {name: values[rows] for name, values in self.columns.items()}
        title, before = out.pop("title"), out.pop("history_title")
        if self.titles is not None:
            there = (before >= 0).unsqueeze(-1).float()
            past = (self.titles[before.clamp(min=0)] * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
            out["title"] = self.titles[title]
            # Whether the title is like those before it cannot be summed up by layers that see both apart.
            out["history_title"] = past * out["title"]
        return out


def build(model: str, inputs: Inputs, width: int, tasks: int) -> nn.Module:
    """A model of torch-rechub that gives probabilities; LabError without the package."""
    try:
        from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
        from torch_rechub.models.multi_task import AITM, MMOE, PLE, SharedBottom
        from torch_rechub.models.ranking import DCNv2, DeepFM
    except ImportError:
        raise LabError(
            "evaluator=merrec_clicks needs torch-rechub: pip install 'minilm-lab[merrec]'."
        ) from None
    sparse = [SparseFeature(name, inputs.sizes[name], width) for name in labels.FIELDS]
    for name, of in (("history", "item"), ("history_product", "product")):
        sparse.append(
            SequenceFeature(name, inputs.sizes[of], width, pooling="mean", shared_with=of, padding_idx=0)
        )
    dense = [DenseFeature("price")]
    if inputs.titles is not None:
        dense += [DenseFeature(name, inputs.titles.shape[1]) for name in ("title", "history_title")]
    every = [*sparse, *dense]
    layers = {"dims": [64, 32], "activation": "relu", "dropout": 0.1}
    towers = [{"dims": [16], "activation": "relu"} for _ in range(tasks)]
    kinds = ["classification"] * tasks
    if model == "deepfm":
        net: nn.Module = DeepFM(every, sparse, layers)
    elif model == "dcnv2":
        net = DCNv2(every, 2, layers, use_low_rank_mixture=False)
    elif model == "shared_bottom":
        net = SharedBottom(every, kinds, layers, towers)
    elif model == "mmoe":
        net = MMOE(every, kinds, 4, layers, towers)
    elif model == "ple":
        net = PLE(every, kinds, 1, 2, 2, layers, towers)
    else:
        net = AITM(every, tasks, layers, towers)
    return net


def _users_first(rows: NDArray[np.int64], user: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many rows, of users in a drawn order."""
    people, inverse = np.unique(user[rows], return_inverse=True)
    order = np.random.default_rng(7).permutation(len(people))
    return np.sort(rows[np.argsort(order[inverse], kind="stable")[:most]])


def _judged(
    task: str, chance: NDArray[np.float64], right: NDArray[np.float32], user: NDArray[np.int64], base: float
) -> dict[str, float]:
    from sklearn.metrics import log_loss, roc_auc_score

    people, inverse = np.unique(user, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(people) + 1))
    draw, values = np.random.default_rng(0), []
    for _ in range(200):  # users are drawn, with all their events
        chosen = draw.integers(0, len(people), size=len(people))
        rows = np.concatenate([order[bounds[n] : bounds[n + 1]] for n in chosen])
        if right[rows].min() < right[rows].max():
            values.append(roc_auc_score(right[rows], chance[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return {
        f"{task}_auc": 100 * float(roc_auc_score(right, chance)),
        f"{task}_auc_low": 100 * float(low),
        f"{task}_auc_high": 100 * float(high),
        f"{task}_log_loss": float(log_loss(right, np.clip(chance, 1e-6, 1 - 1e-6))),
        f"{task}_base_log_loss": float(log_loss(right, np.full(len(right), np.clip(base, 1e-6, 1 - 1e-6)))),
    }
