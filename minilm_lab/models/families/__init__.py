"""Where each model family keeps its layers and its query, key and value projections.

A new family is one file with its layout and an entry of `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families.albert import ALBERT
from minilm_lab.models.families.bert import BERT, DISTILBERT, ELECTRA, ROBERTA
from minilm_lab.models.families.deberta import DEBERTA
from minilm_lab.models.families.gpt2 import GPT2
from minilm_lab.models.families.layout import Family, head_size, key_heads, projection_widths
from minilm_lab.models.families.mpnet import MPNET
from minilm_lab.models.families.rotary import LLAMA, MODERNBERT, QWEN2

__all__ = [
    "FAMILIES",
    "UNLIMITED",
    "WHOLE",
    "Family",
    "check_tapped",
    "dropout_of",
    "family_of",
    "ffn_of",
    "head_size",
    "key_heads",
    "positions_of",
    "projection_widths",
    "unused_positions",
]

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: model_type of the configuration -> layout.
FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "mpnet": MPNET,
    "albert": ALBERT,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
    "gpt2": GPT2,
    "llama": LLAMA,
    "qwen2": QWEN2,
    "qwen3": LLAMA,
}


#: Any other model: used whole, nothing of its inside is known.
WHOLE = Family(layers="", attention="", maps=(), output="", plain_scores=False, tapped=False)
#: Longest sequence of a model whose configuration names no limit.
UNLIMITED = 1_000_000
#: What configurations call these sizes, where they have none by the usual name.
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
_FFN = ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "d_ff", "ffn_hidden_size")
_DROPOUT = ("hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "dropout", "attention_dropout")


def family_of(config: PretrainedConfig) -> Family:
    """Return the layout of the model that `config` describes; `WHOLE` for a family that the lab cannot read inside."""
    return FAMILIES.get(str(config.model_type), WHOLE)


def check_tapped(config: PretrainedConfig, what: str) -> Family:
    """Return the layout; LabError, naming `what` needs it, for a family that the lab cannot read inside."""
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise LabError(
            f"{what}: models of type '{kind}' are not supported yet where something is read inside of them."
            f"{nearest(kind, FAMILIES)} Supported: {', '.join(FAMILIES)}. Whole, such a model can be fine-tuned, "
            "evaluated and exported"
        )
    return FAMILIES[kind]


def positions_of(config: PretrainedConfig) -> int:
    """Return the longest sequence, in tokens, that the model was made for; `UNLIMITED` where it names none."""
    return int(_size(config, _POSITIONS) or UNLIMITED) - unused_positions(config)


def unused_positions(config: PretrainedConfig) -> int:
    """Rows of the table of positions before the first that is used."""
    if not family_of(config).positions_after_padding:
        return 0
    return int(config.pad_token_id if config.pad_token_id is not None else 1) + 1


def ffn_of(config: PretrainedConfig) -> int:
    """Width of the feed-forward block."""
    return int(_size(config, (family_of(config).ffn, *_FFN)) or 4 * config.hidden_size)  # GPT-2 leaves it out


def dropout_of(config: PretrainedConfig) -> float:
    """Dropout of hidden states."""
    return float(_size(config, (family_of(config).dropout, *_DROPOUT)) or 0.0)


def _size(config: PretrainedConfig, names: Sequence[str]) -> Any:
    """The first of these settings that is there; None where it is none, or null."""
    return next((getattr(config, name) for name in names if hasattr(config, name)), None)
