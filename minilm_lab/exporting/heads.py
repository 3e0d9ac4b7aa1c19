"""Masked-LM heads: does a checkpoint carry one, and one that is honest about being untrained."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.exporting.checkpoint import read_tensors, tensor_files
from minilm_lab.models.mlm import has_head, load_masked_lm, new_masked_lm, with_body
from minilm_lab.models.resolve import Model


def state_of_head(origin: Model, config: PretrainedConfig) -> str:
    """Return "present", "zero" (it predicts every token alike), "absent", or "unknown" (weights out of reach).

    Names of tensors are read and a few vectors, not the weights.
    """
    if not has_head(config):  # the library knows no masked-LM form of this family
        return "absent"
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(config)
    files = tensor_files(origin)
    if files is None:
        return "unknown"
    # What is tied to another parameter may be left out of a checkpoint.
    wanted = {n: p for n, p in _own_parameters(model).items() if n not in model.all_tied_weights_keys}
    # Old checkpoints spell LayerNorm as TensorFlow did; the library reads them.
    names = {name.replace("gamma", "weight").replace("beta", "bias"): name for name in files}
    if not wanted or not set(wanted) <= set(names):
        return "absent"
    if origin.folder is None:
        return "present"
    vectors = {names[name] for name, parameter in wanted.items() if parameter.ndim == 1}
    values = read_tensors(origin.folder, files, vectors).values()
    return "present" if any(torch.count_nonzero(value) for value in values) else "zero"


def zero_head(body: PreTrainedModel) -> PreTrainedModel:
    """Put `body` under a masked-LM head whose logits are all 0: every token is predicted with 1 / vocabulary.

    Norms and biases of the head are 0; its matrices are drawn from a fixed seed, so that it can be trained (a
    head of zeros alone has no gradient).
    """
    model = with_body(new_masked_lm(body.config, 0), body)
    with torch.no_grad():
        for parameter in _own_parameters(model).values():
            if parameter.ndim == 1:
                parameter.zero_()
        logits = model.eval()(input_ids=torch.tensor([[1, 2]])).logits
    if torch.count_nonzero(logits):
        raise LabError(
            f"mlm_head=zero: the head of a '{body.config.model_type}' model cannot be made zero; use mlm_head=none"
        )
    return model


def _own_parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters of a model's head: those that are no part of its body."""
    body = {id(parameter) for parameter in getattr(model, model.base_model_prefix).parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) not in body}


def trained_head(origin: Model) -> PreTrainedModel:
    """Load the model in float32 with the masked-LM head of its checkpoint; LabError if it has none."""
    return load_masked_lm(origin.where, origin.revision, "run")
