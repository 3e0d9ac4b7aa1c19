"""Load a causal model with its trained head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minilm_lab.errors import LabError
from minilm_lab.models import folders, sources
from minilm_lab.models.adapters import base_of, is_adapter, load_adapter
from minilm_lab.models.next_token import Head


def load_causal(
    where: str, revision: str | None = None, what: str = "source", **settings: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal model with its trained head in float32, and its tokenizer; `settings` go to from_pretrained.

    An adapter's folder is loaded on the model that it names, with its own tokenizer if it has one.
    """
    if is_adapter(where):
        base, base_revision = base_of(where)
        model, tokenizer = load_causal(
            base, base_revision, f"{what}: the model of the adapter {where}", **settings
        )
        if any((Path(where) / name).is_file() for name in folders.TOKENIZERS):
            tokenizer = sources.load_tokenizer(where, None, what)
        return load_adapter(model, where), tokenizer
    trust = {"trust_remote_code": True} if settings.get("trust_remote_code") else {}
    config = sources.load_config(where, revision, what, **trust)
    check_causal(config, what)
    model, missing = sources.load_model(AutoModelForCausalLM, where, revision, what, **settings)
    if missing:
        raise LabError(
            f"{what}: the weights of {where} have no language-model head ({', '.join(missing[:3])}); give the model "
            "as it was trained, not its body alone"
        )
    tokenizer = sources.load_tokenizer(where, revision, what, **trust)
    sources.check_tokenizer(tokenizer, model.config, where)
    return model, tokenizer


def check_causal(config: PretrainedConfig, what: str) -> None:
    """LabError unless models of this family predict the next token."""
    # Encoders are in the library's list of causal models too, as decoders of sequence-to-sequence models.
    encoder = type(config) in AutoModelForMaskedLM._model_mapping and not getattr(config, "is_decoder", False)
    if type(config) not in AutoModelForCausalLM._model_mapping or encoder or config.is_encoder_decoder:
        raise LabError(
            f"{what}: a '{config.model_type}' model does not predict the next token; give a causal language model, "
            "such as GPT-2, Llama, Qwen or SmolLM2"
        )


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a text, of the tokenizer, the configuration and the settings of generation."""
    generation = getattr(model, "generation_config", None)
    ends: set[int] = set()
    for said in (
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
    ):
        ends.update(said if isinstance(said, (list, tuple)) else [said] if said is not None else [])
    return frozenset(ends)


def widen_head(model: PreTrainedModel) -> None:
    """Give a model in half precision a head in float32, in place; tied word embeddings stay as they are."""
    head: Any = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().float(), requires_grad=False)
    if getattr(head, "bias", None) is not None:
        head.bias = torch.nn.Parameter(head.bias.detach().float(), requires_grad=False)
    head.register_forward_pre_hook(lambda _module, inputs: (inputs[0].float(),))


def head_of(model: PreTrainedModel) -> Head:
    """The head of a causal model as `next_token` reads it; LabError if it does more to its logits than that."""
    module: Any = model.get_output_embeddings()
    config = model.config
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    head = Head(
        module.weight, getattr(module, "bias", None), scale, getattr(config, "final_logit_softcapping", None)
    )
    seen: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    training = model.training
    try:
        with torch.no_grad():
            ids = torch.arange(8, device=model.device)[None] % int(config.vocab_size)
            logits = model.eval()(input_ids=ids, use_cache=False).logits[0].float()
            expected = head.logits(seen[0][0])
    finally:
        hook.remove()
        model.train(training)
    if not torch.allclose(logits, expected, rtol=2e-2, atol=1e-4 * float(logits.abs().max())):
        raise LabError(
            f"the head of a '{config.model_type}' model does more to its logits than the lab knows: hidden states and "
            "output embeddings do not give them. Distil it by relations: objective=minilmv2"
        )
    return head
