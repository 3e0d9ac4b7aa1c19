"""Where each model family keeps its layers and its query, key and value projections.

A new encoder family is one more entry of `FAMILIES`. Paths are relative to the bare body
(`AutoModel`, without a task head).
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from minilm_lab.errors import LabError, nearest


@dataclass(frozen=True)
class Family:
    """The layout of a family.

    layers: path of the ModuleList of Transformer layers in the body.
    attention: path, inside a layer, of the module that holds the projections.
    query, key, value: names of the three linear maps in that module.
    layer_returns_tuple: whether a layer answers (hidden states, …) rather than hidden states.
    plain_scores: whether attention scores are QKᵀ/√d and nothing else, so that the relation (Q, K) *is*
        the attention distribution. False where the family adds a position term to them.
    beside: paths of modules beside the layers that only attention uses (that position term).
    """

    layers: str
    attention: str
    query: str
    key: str
    value: str
    layer_returns_tuple: bool = False
    plain_scores: bool = True
    beside: tuple[str, ...] = ()


_BERT = Family("encoder.layer", "attention.self", "query", "key", "value")

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "mpnet": Family(
        "encoder.layer",
        "attention.attn",
        "q",
        "k",
        "v",
        layer_returns_tuple=True,
        plain_scores=False,
        beside=("encoder.relative_attention_bias",),
    ),
}


def family_of(config: PretrainedConfig) -> Family:
    """Return the layout of the model that `config` describes; LabError for a family we do not know."""
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise LabError(
            f"models of type '{kind}' are not supported yet.{nearest(kind, FAMILIES)} "
            f"Supported: {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def positions_of(config: PretrainedConfig) -> int:
    """Return the longest sequence, in tokens, that the model's position embeddings allow."""
    positions = int(config.max_position_embeddings)
    # RoBERTa's and MPNet's position ids start after the padding id, so those rows are never used.
    if config.model_type in {"roberta", "xlm-roberta", "mpnet"}:
        positions -= int(config.pad_token_id if config.pad_token_id is not None else 1) + 1
    return positions
