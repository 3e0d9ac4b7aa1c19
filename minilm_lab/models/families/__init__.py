"""Where each model family keeps its layers and its query, key and value projections.

A new family is one file with its layout and an entry of `FAMILIES`.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families.albert import ALBERT
from minilm_lab.models.families.bert import BERT, DISTILBERT, ELECTRA
from minilm_lab.models.families.deberta import DEBERTA
from minilm_lab.models.families.gpt2 import GPT2
from minilm_lab.models.families.layout import Family, head_size, key_heads, projection_widths
from minilm_lab.models.families.mpnet import MPNET
from minilm_lab.models.families.rotary import LLAMA, MODERNBERT

__all__ = [
    "FAMILIES",
    "Family",
    "dropout_of",
    "family_of",
    "ffn_of",
    "head_size",
    "key_heads",
    "positions_of",
    "projection_widths",
    "unused_positions",
]

#: model_type of the configuration -> layout.
FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
    "albert": ALBERT,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
    "gpt2": GPT2,
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
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
    """Return the longest sequence, in tokens, that the model was made for."""
    return int(config.max_position_embeddings) - unused_positions(config)


def unused_positions(config: PretrainedConfig) -> int:
    """RoBERTa's and MPNet's position ids start after the padding id, so those rows are never used."""
    if config.model_type in {"roberta", "xlm-roberta", "mpnet"}:
        return int(config.pad_token_id if config.pad_token_id is not None else 1) + 1
    return 0


def ffn_of(config: PretrainedConfig) -> int:
    """Width of the feed-forward block."""
    width = getattr(config, family_of(config).ffn)
    return 4 * int(config.hidden_size) if width is None else int(width)  # GPT-2 leaves it out


def dropout_of(config: PretrainedConfig) -> float:
    """Dropout of hidden states."""
    return float(getattr(config, family_of(config).dropout) or 0.0)
