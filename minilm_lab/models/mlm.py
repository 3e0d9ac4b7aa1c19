"""Masked-LM models: a teacher's trained head, a new head, and our own body under either."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from minilm_lab.errors import LabError
from minilm_lab.models import sources

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def has_head(config: PretrainedConfig) -> bool:
    """Whether the library knows a masked-LM model of this family."""
    from transformers import AutoModelForMaskedLM

    return type(config) in AutoModelForMaskedLM._model_mapping


def load_masked_lm(
    where: str, revision: str | None, what: str, name: str = "", **settings: Any
) -> PreTrainedModel:
    """Load a model with its trained masked-LM head, in float32; `settings` go to from_pretrained.

    LabError for a family without such heads, and for weights that lack the head's parameters: the library would
    draw them at random and only warn. `name`: short name of the teacher, for the command that trains a head.
    """
    from transformers import AutoModelForMaskedLM

    trust = {"trust_remote_code": True} if settings.get("trust_remote_code") else {}
    config = sources.load_config(where, revision, what, **trust)
    check_family(config, what)
    model, missing = sources.load_model(AutoModelForMaskedLM, where, revision, what, **settings)
    if missing:
        raise LabError(
            f"{what}: {where} has no trained masked-LM head (its weights lack {', '.join(missing[:3])}"
            f"{' …' if len(missing) > 3 else ''}), and this objective needs one. Train a head on the frozen model "
            f"first: minilm-lab pretrain head=mlm teacher={name or '<name>'} corpus=<name>"
        )
    return model


def check_family(config: PretrainedConfig, what: str) -> None:
    """LabError if models of this family have no masked-LM head."""
    if not has_head(config):
        raise LabError(
            f"{what}: a '{config.model_type}' model has no masked-LM head; choose an objective that reads no "
            "logits, such as objective=minilmv2"
        )


def new_masked_lm(config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """A masked-LM model with random weights, in float32; the same seed gives the same weights."""
    from transformers import AutoModelForMaskedLM

    check_family(config, "masked-LM head")
    # The library's own initialisation draws from the global generator: leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        # On the CPU, where weights are drawn; torch.manual_seed would reseed the GPUs too.
        torch.default_generator.manual_seed(seed)
        model: PreTrainedModel = AutoModelForMaskedLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    return model


def with_body(masked_lm: PreTrainedModel, body: PreTrainedModel) -> PreTrainedModel:
    """Put `body` under the head of `masked_lm`, in place; the decoder is tied to the body's word embeddings
    where the family ties it.

    LabError if body and head do not fit together.
    """
    mine, head = body.config, masked_lm.config
    for name in ("model_type", "hidden_size", "vocab_size", "embedding_size"):
        left, right = getattr(mine, name, None), getattr(head, name, None)
        if left != right:
            raise LabError(f"masked-LM head: its {name} is {right}, the model under it has {left}")
    setattr(masked_lm, masked_lm.base_model_prefix, body)
    masked_lm.config = mine
    masked_lm.tie_weights()
    return masked_lm
