"""Load a causal model with its trained head."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from minilm_lab.errors import LabError
from minilm_lab.models import folders, sources
from minilm_lab.models.adapters import base_of, is_adapter, load_adapter
from minilm_lab.models.next_token import Head

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: How the library's classes with a head for the next token are called.
HEADS = ("ForCausalLM", "LMHeadModel")


def saved_with_head(config: PretrainedConfig) -> bool:
    """Whether a configuration says that its model was saved with a head for the next token."""
    return any(str(name).endswith(HEADS) for name in getattr(config, "architectures", None) or [])


def load_causal(
    where: str, revision: str | None = None, what: str = "source", **settings: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal model with its trained head in float32, and its tokenizer; `settings` go to from_pretrained.

    An adapter's folder is loaded on the model that it names, with its own tokenizer if it has one.
    """
    from transformers import AutoModelForCausalLM

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
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

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
    """What makes logits of hidden states, as the model's configuration describes it; `self_check` compares."""
    module: Any = model.get_output_embeddings()
    config = model.config
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return Head(module.weight, getattr(module, "bias", None), scale, cap)


def with_head(
    body: PreTrainedModel, keys: str, teacher: PreTrainedModel | None, seed: int
) -> PreTrainedModel:
    """A causal model with `body` under a head.

    Args:
        keys: tied: the head is the word embeddings; own: it starts as the teacher's (of a tied teacher as the
            student's word embeddings), where widths allow it, else as `seed` draws it; teacher_frozen: it is the
            teacher's and stays so.
        teacher: with its head; None: nothing is copied.
    """
    from transformers import AutoModelForCausalLM

    config = body.config
    config.tie_word_embeddings = keys == "tied"
    # The library's own initialisation draws from the global generator: leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32)
    setattr(model, model.base_model_prefix, body)
    model.config = config
    if keys == "tied":
        model.tie_weights()
    elif teacher is not None:
        head, theirs = model.get_output_embeddings(), teacher.get_output_embeddings()
        tied = theirs.weight is teacher.get_input_embeddings().weight
        start = body.get_input_embeddings() if tied and keys == "own" else theirs
        if start.weight.shape == head.weight.shape:
            head.weight.data.copy_(start.weight.data)
            if getattr(head, "bias", None) is not None and getattr(theirs, "bias", None) is not None:
                head.bias.data.copy_(theirs.bias.data)
    if keys == "teacher_frozen":
        model.get_output_embeddings().requires_grad_(False)
    if teacher is not None:
        model.generation_config = copy.deepcopy(teacher.generation_config)
    return model
