"""Faults of the benchmark's released code (its HEAD 995ff74), each as a switch: what does it do to a number?

None is on by default, and a test a fault says so. Whether the paper's numbers came from that code is not known. Three have no
switch because nothing here could have them: view and like are answers about one event, never both (`labels`); random
numbers come from seeds alone; encoders of fields are fitted before the cut.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from minilm_lab.errors import LabError, nearest
from minilm_lab.studies.merrec.labels import Questions
from minilm_lab.studies.merrec.log import Cut, Examples, Log
from minilm_lab.studies.merrec.sequences import Sequence

OF_NEXT = {
    "2_ahead": "validation foretells the item after the next: EvalDataset cuts its input once more",
    "3_ahead": "and the test the one after that",
    "no_causal_mask": "SASRec masks padding alone, and so reads what it is to foretell in training",
    "mean_over_places": "scores are averaged over all places of a session, padding too",
    "unsorted": "events are taken as the files hold them, not by time",
}
OF_CLICKS = {
    "constant_fields": "product, colour and history have one value each: a map is read and never written (public issue 6)",
    "frozen_gates": "gates of MMoE are a plain list: in no optimiser, random for good",
    "random_rows": "rows are split at random, sessions across it",
}


def check(names: Several[str], known: dict[str, str]) -> None:
    """LabError for a fault that is none."""
    for name in names:
        if name not in known:
            raise LabError(
                f"evaluator.defects: {name!r} is none of {', '.join(known)}.{nearest(name, known)}"
            )


def ahead(judged: Examples, steps: int) -> Examples:
    """The same targets from a history that ends `steps` before them; those without such a history are gone."""
    history = np.full_like(judged.history, -1)
    history[:, steps - 1 :] = judged.history[:, : judged.history.shape[1] - steps + 1]
    there = history[:, -1] >= 0
    if not there.any():
        raise LabError(f"No judged session has {steps + 1} events.")
    return Examples(
        history[there], judged.target[there], judged.user[there], judged.fresh[there], judged.cold[there]
    )


def mean_states(model: Sequence, history: NDArray[np.int64]) -> Tensor:
    """(examples, width) the mean over all places, empty ones too; a mean of products is the product with the mean."""
    with torch.no_grad():
        return torch.cat([model(part).mean(dim=1) for part in torch.from_numpy(history).split(1024)])


def unsorted(data: Log, parts: Cut, seed: int = 0) -> tuple[Log, Cut]:
    """Training sessions and histories in a drawn order, as of files in which rows lie anyhow."""
    draw = np.random.default_rng([seed, 11])
    order = np.arange(len(data.item))
    order[parts.train] = parts.train[np.lexsort((draw.random(len(parts.train)), data.session[parts.train]))]
    judged = parts.judged
    there = judged.history >= 0
    place = np.argsort(np.where(there, draw.random(there.shape), -1), axis=1)  # empty places stay in front
    history = np.take_along_axis(judged.history, place, axis=1)
    return replace(data, item=data.item[order]), replace(parts, judged=replace(judged, history=history))


def constant_fields(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Item, product and history of one value each."""
    same = ("item", "product", "history", "history_product")
    return {name: np.ones_like(values) if name in same else values for name, values in columns.items()}


def freeze_gates(net: nn.Module) -> None:
    """Gates as they were drawn. LabError for a model without."""
    gates = [weight for name, weight in net.named_parameters() if name.startswith("gates.")]
    if not gates:
        raise LabError("evaluator.defects=[frozen_gates] is of evaluator.model=mmoe, which has gates.")
    for weight in gates:
        weight.requires_grad_(False)


def random_rows(asked: Questions, seed: int = 0) -> Questions:
    """As many judged questions as before, drawn among all."""
    late = np.zeros(len(asked.rows), dtype=bool)
    late[np.random.default_rng([seed, 13]).permutation(len(late))[: int(asked.late.sum())]] = True
    return replace(asked, late=late)
