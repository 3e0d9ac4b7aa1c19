"""The encoder with its masked-LM head, and one way to call it for all families that can generate.

The head is the checkpoint's own where it has one, else a new one of the same form (dense, activation, LayerNorm,
and the word embeddings as output layer), drawn at random: students of MiniLM have no trained head.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.families import FAMILIES, family_of, unused_positions
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.features import check_padding
from minilm_lab.tasks.module import check_trained

log = logging.getLogger(__name__)

#: Families whose models can be trained to generate; what else they would need is tested before each training (see
#: check.py).
GENERATORS = tuple(kind for kind, family in FAMILIES.items() if family.masked_lm_head)


@dataclass(frozen=True)
class Symbols:
    """Token ids that generation needs."""

    pad: int
    mask: int
    end: int
    """Ends a source and a target: [SEP]."""
    never: tuple[int, ...]
    """What a hypothesis never holds: padding, [MASK], [CLS]."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Symbols:
        """LabError where the tokenizer has no padding, mask or separator token."""
        check_padding(tokenizer)
        for name in ("mask", "sep"):
            if getattr(tokenizer, f"{name}_token_id") is None:
                raise LabError(
                    f"The tokenizer of {tokenizer.name_or_path} has no {name}_token, which a generation task needs: "
                    f"an encoder predicts the next word at a mask token and stops at a separator. Take a model of "
                    f"one of these families: {', '.join(GENERATORS)}."
                )
        pad, mask, end = tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.sep_token_id
        never = {pad, mask, tokenizer.cls_token_id} - {end, None}
        return cls(int(pad), int(mask), int(end), tuple(sorted(int(number) for number in never)))


def check_family(config: PretrainedConfig, what: str) -> None:
    """LabError for a model that is no encoder that can generate."""
    kind = str(config.model_type)
    if kind not in GENERATORS:
        raise LabError(
            f"{what}: a '{kind}' model cannot be fine-tuned on a generation task: it needs an encoder whose attention "
            f"takes a mask of its own for each query and whose keys can be kept from step to step. These can: "
            f"{', '.join(GENERATORS)}."
        )
    if config.is_decoder:
        raise LabError(f"{what}: its config.json says is_decoder=true; a generation task needs an encoder.")


def load(backbone: Backbone) -> PreTrainedModel:
    """The model with its masked-LM head, in float32; what the head lacks is drawn at random and said."""
    where, revision = backbone.where, backbone.revision
    check_family(sources.load_config(where, revision, "source"), "source")
    model, missing = sources.load_model(AutoModelForMaskedLM, where, revision, "source")
    check_trained(missing, backbone)
    sources.check_tokenizer(backbone.tokenizer, model.config, where)
    if missing:
        log.info("%s has no trained masked-LM head: a new one is trained with the task.", where)
    return model


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """(…, hidden size) -> (…, vocabulary), in float32 whatever autocast makes of it (float64 stays)."""
    for name in family_of(model.config).masked_lm_head:
        hidden = getattr(model, name)(hidden)
    return hidden if hidden.dtype == torch.float64 else hidden.float()


def hidden_of(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    segments: Tensor,
    visible: Tensor,
    cache: Any = None,
) -> Tensor:
    """Hidden states of the last layer, (batch, query, hidden size).

    input_ids, position_ids (from 0), segments: int64 (batch, query); visible: bool (batch, 1, query, key), where the
    keys are those of `cache`, if one is given, and then the queries' own.
    """
    given: dict[str, Any] = {}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        given["token_type_ids"] = segments
    if cache is not None:
        given["past_key_values"] = cache
    body = getattr(model, model.base_model_prefix)
    hidden: Tensor = body(
        input_ids=input_ids,
        position_ids=position_ids + unused_positions(model.config),
        attention_mask=_as_the_kernel_wants(model, visible),
        **given,
    ).last_hidden_state
    return hidden


def _as_the_kernel_wants(model: PreTrainedModel, visible: Tensor) -> Tensor:
    # The library hands a 4-D mask on as it is. Its plain attention adds it to the scores: there a mask of booleans
    # would hide nothing, and say nothing.
    if model.config._attn_implementation != "eager":
        return visible
    hidden = torch.finfo(model.dtype).min
    return torch.zeros(visible.shape, dtype=model.dtype, device=visible.device).masked_fill(~visible, hidden)
