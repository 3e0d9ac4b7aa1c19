"""The head of a task that a checkpoint brings along: kept where it is known to mean the task's classes, else drawn anew."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Backbone

log = logging.getLogger(__name__)

_UNNAMED = re.compile(r"LABEL_\d+")


def settle_head(
    model: PreTrainedModel, kind: str, backbone: Backbone, labels: Sequence[str] | None, drawn: bool
) -> None:
    """Make the head of `model` one for these classes, and write their names into its configuration.

    A head that came with the weights (`drawn` is false) is kept where its classes have the task's names, in whatever
    order; start and end of a span always mean the same. Any other gives way to a new one, drawn from torch's generator;
    of a model that is measured, not trained (`backbone.trained`), nothing may be drawn. What happens is logged.

    Raises:
        LabError: a model that is measured tells other classes than the task's.
    """
    if not drawn and kind == "span":
        log.info("source: %s brings a head for spans; it is kept", backbone.where)
    elif not drawn and labels is None:
        if not backbone.trained:
            log.info("source: the head for numbers that %s brings gives way to a new one", backbone.where)
            _draw(model)
    elif not drawn and labels is not None:
        _match(model, backbone, labels)
    if labels is not None:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: number for number, label in enumerate(labels)}


def _match(model: PreTrainedModel, backbone: Backbone, labels: Sequence[str]) -> None:
    names: Any = model.config.id2label
    theirs = [str(names[number]) for number in range(len(labels))]
    where, told = backbone.where, ", ".join(theirs)
    places = {_plain(name): number for number, name in enumerate(theirs)}
    if len(places) == len(labels) and set(places) == {_plain(label) for label in labels}:
        _reorder(model, [places[_plain(label)] for label in labels])
        log.info(
            "source: %s brings a head for the classes %s; it is kept, matched by their names", where, told
        )
    elif not backbone.trained:
        log.info("source: the head of %s, of the classes %s, gives way to a new one", where, told)
        _draw(model)
    elif all(_UNNAMED.fullmatch(name) for name in theirs):
        log.warning("source: %s does not name its classes; they are taken as %s", where, ", ".join(labels))
    else:
        raise LabError(
            f"source: {where} tells the classes {told}; the task has {', '.join(labels)}. Name them alike in task.labels"
        )


def _plain(label: str) -> str:
    return re.sub(r"[\W_]+", " ", label).strip().casefold() or label


def modules_of(model: PreTrainedModel) -> list[nn.Module]:
    """The modules outside of the body."""
    body = {id(module) for module in model.base_model.modules()}
    return [module for module in model.modules() if id(module) not in body and module is not model]


def _draw(model: PreTrainedModel) -> None:
    """Draw the head anew, as the library initialises one."""
    for module in modules_of(model):
        module.apply(lambda part: part.__dict__.pop("_is_hf_initialized", None))
        for parameter in module.parameters(recurse=False):
            parameter.__dict__.pop("_is_hf_initialized", None)
        model._init_weights(module)


def _reorder(model: PreTrainedModel, places: list[int]) -> None:
    """Output n becomes what was output `places[n]`."""
    linear = [m for m in modules_of(model) if isinstance(m, nn.Linear) and m.out_features == len(places)][-1]
    with torch.no_grad():
        for parameter in linear.parameters(recurse=False):
            parameter.copy_(parameter[places].clone())
