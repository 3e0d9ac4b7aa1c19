"""How a student's weights start: copied or projected from the teacher's, on top of a random start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from minilm_lab.models.families import Family, family_of
from minilm_lab.models.modules import get, maybe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def copy_layers(body: PreTrainedModel, teacher: PreTrainedModel, numbers: Sequence[int]) -> None:
    """Copy teacher layers `numbers` (from 1) into the student's layers, and what stands beside the layers."""
    family = family_of(body.config)
    theirs = family.blocks(teacher)
    for mine, number in zip(family.blocks(body), numbers, strict=True):
        state = theirs[number - 1].state_dict()
        if family.norm and isinstance(
            get(mine, family.norm), nn.Identity
        ):  # ModernBERT's first layer has none
            state = {name: value for name, value in state.items() if not name.startswith(f"{family.norm}.")}
        mine.load_state_dict(state)
    # What stands beside the layers belongs to them: MPNet's relative bias, the norm and the pooler on top.
    for path in (*family.beside, family.final_norm, "pooler"):
        if path is not None:
            _copy(maybe(body, path), maybe(teacher, path))


def out_of_reach(family: Family, block: nn.Module) -> list[str]:
    """Names of a layer's parameters that come after its query, key and value: attention output, feed-forward block."""
    within = tuple(f"{path}." for path in (family.attention, family.norm) if path)
    return [
        name
        for name, _ in block.named_parameters()
        if not name.startswith(within) or name.startswith(f"{family.output}.")
    ]


@torch.no_grad()
def copy_out_of_reach(body: PreTrainedModel, layer: nn.Module) -> None:
    """Copy from a teacher's layer what comes after query, key and value of the student's last one."""
    family = family_of(body.config)
    last = family.blocks(body)[-1]
    for name in out_of_reach(family, last):
        last.get_parameter(name).copy_(layer.get_parameter(name))


def keep_out_of_reach(body: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the parameters of the last layer that come after query, key and value, by name."""
    family = family_of(body.config)
    last = family.blocks(body)[-1]
    return {name: last.get_parameter(name).detach().clone() for name in out_of_reach(family, last)}


@torch.no_grad()
def copy_embeddings(body: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Copy the teacher's embeddings; into a narrower student, project them on the principal directions of the
    teacher's word embeddings.

    Of the teacher's family: word, position and type embeddings. Normalisations are copied with equal widths only.
    Of another family: the word embeddings. Where embeddings have a width of their own (ELECTRA, ALBERT) that fits,
    they are copied as they are, and the map to another hidden size is new.
    """
    words, mine = _word_embeddings(teacher), _word_embeddings(body)
    directions = None
    if mine.shape[1] != words.shape[1]:
        directions = principal_directions(words, mine.shape[1])
    if body.config.model_type != teacher.config.model_type:
        mine.copy_(words if directions is None else project(words, directions))
        return
    for path in family_of(body.config).embeddings:
        new, old = maybe(body, path), maybe(teacher, path)
        if new is None or old is None:
            continue
        if _shapes(new) == _shapes(old):
            _copy(new, old)
        elif directions is not None:
            for name, module in new.named_modules():
                if isinstance(module, nn.Embedding):
                    module.weight.copy_(project(old.get_parameter(f"{name}.weight".lstrip(".")), directions))


def principal_directions(matrix: Tensor, count: int) -> Tensor:
    """The `count` directions (as columns) that hold most of the rows of `matrix`, (rows, width) -> (width, count).

    Eigenvectors of the uncentred covariance, in float64, the largest number of each positive.
    """
    rows = matrix.detach().double()
    _, vectors = torch.linalg.eigh(rows.T @ rows)  # in ascending order
    vectors = vectors.flip(1)[:, :count]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * largest.sign()


def project(embeddings: Tensor, directions: Tensor) -> Tensor:
    """(rows, width) -> (rows, count), in the type of `embeddings`."""
    return (embeddings.detach().double() @ directions).to(embeddings.dtype)


def set_dropout(body: PreTrainedModel, dropout: float) -> None:
    """Use `dropout` everywhere in the model; its configuration keeps what it says."""
    found: list[Any] = list(body.modules())
    for module in found:
        if isinstance(module, nn.Dropout):
            module.p = dropout
        if isinstance(getattr(module, "attention_dropout", None), (int, float)):
            module.attention_dropout = dropout  # ModernBERT, Llama, Qwen keep a number


def _copy(mine: nn.Module | None, theirs: nn.Module | None) -> None:
    # A teacher that is cut below its last layer has an Identity in place of its last norm.
    if mine is not None and theirs is not None and not isinstance(theirs, nn.Identity):
        mine.load_state_dict(theirs.state_dict())


def _word_embeddings(body: PreTrainedModel) -> nn.Parameter:
    embedding: Any = body.get_input_embeddings()
    weight: nn.Parameter = embedding.weight
    return weight


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in module.named_parameters()]
