"""A head on pooled token vectors, for texts and for pairs that are read together or apart.

Apart, each text has a vector of its own, as a search or a clustering uses them: classes are told from u, v and |u − v|, a
number is the cosine on the labels' scale (Reimers & Gurevych 2019, arXiv 1908.10084, section 3).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from minilm_lab.data.loading import Batch
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.attention import use_fastest_attention
from minilm_lab.models.families import dropout_of
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.pooling import pool
from minilm_lab.models.saving import save_model
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.module import Classes, TaskModule, Values

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SETTINGS, WEIGHTS = "task_head.json", "task_head.safetensors"


class Pooled(TaskModule):
    """A body, its tokens pooled, and a head."""

    def __init__(
        self,
        body: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: dict[str, Any],
    ) -> None:
        """settings: kind, pooling, pairs, outputs and bounds, as `load_pooled` writes them."""
        super().__init__()
        self.body, self.tokenizer, self.settings = body, tokenizer, settings
        width = int(body.config.hidden_size)
        self.dropout = nn.Dropout(dropout_of(body.config))
        self.apart = settings["pairs"] == "bi"
        self.head: nn.Linear | None = None
        if not (self.apart and settings["kind"] == "regression"):
            self.head = nn.Linear(width * (3 if self.apart else 1), settings["outputs"])

    def vectors(self, batch: Batch) -> Tensor:
        """(samples, hidden size), in float32."""
        names = ["input_ids", "attention_mask"]
        if "token_type_ids" in batch and getattr(self.body.config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        hidden = self.body(**{name: batch[name] for name in names}).last_hidden_state.float()
        return pool(hidden, batch["attention_mask"], self.settings["pooling"])

    def logits(self, batch: Batch) -> Tensor:
        """(samples, outputs)."""
        if not self.apart:
            assert self.head is not None
            return self.head(self.dropout(self.vectors(batch))).float()
        first, second = self.vectors(split_pairs(batch, self.tokenizer)).chunk(2)
        if self.head is None:
            low, high = self.settings["bounds"]
            return (low + (high - low) * F.cosine_similarity(first, second)).unsqueeze(-1)
        together = torch.cat([first, second, (first - second).abs()], dim=-1)
        return self.head(self.dropout(together)).float()

    def save(self, folder: Path) -> None:
        """See `TaskModule.save`: the body, as its library's class loads it, with the head beside it."""
        save_model(folder, self.body, self.tokenizer)
        if self.head is not None:
            save_file(self.head.state_dict(), folder / WEIGHTS)
        (folder / SETTINGS).write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """See `TaskModule.facts`."""
        config = self.body.config
        return {
            "parameters": count_parameters(self.body),
            "layers": int(config.num_hidden_layers),
            "hidden_size": int(config.hidden_size),
        }

    def choose_kernels(self, *, on_cpu: bool, precision: str, length: int) -> None:
        """See `TaskModule.choose_kernels`: the attention kernel."""
        use_fastest_attention(self.body, on_cpu, precision, length)


class PooledClassification(Pooled, Classes):
    """One class for a text or pair."""


class PooledRegression(Pooled, Values):
    """One number for a text or pair."""


KINDS: dict[str, Any] = {"classification": PooledClassification, "regression": PooledRegression}


def is_pooled(backbone: Backbone) -> bool:
    """Whether the head is one of these: asked for, or saved with a model that was fine-tuned."""
    asked = (backbone.pooling, backbone.pairs) != ("cls", "cross")
    return asked or (backbone.trained and (Path(backbone.where) / SETTINGS).is_file())


def load_pooled(
    kind: str,
    backbone: Backbone,
    outputs: int,
    bounds: tuple[float, float],
    labels: Sequence[str] | None = None,
) -> Pooled:
    """The module of a kind of task; a new head is drawn at random.

    bounds: the smallest and the largest number to learn, for a regression on pairs that are embedded apart.

    Raises LabError for kinds that give more than one label a text, and for a saved head of another task.
    """
    if kind not in KINDS:
        raise LabError(
            f"tune.pooling and tune.pairs are for tasks with one label a text or pair, not for {kind}; leave them out."
        )
    tokenizer = backbone.tokenizer
    if backbone.pairs == "bi" and None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        raise LabError(
            f"tune.pairs=bi: the tokenizer of {backbone.where} puts no separator between two texts; leave it at cross."
        )
    settings = {
        "kind": kind,
        "pooling": backbone.pooling,
        "pairs": backbone.pairs,
        "outputs": outputs,
        "bounds": list(bounds),
        "labels": None if labels is None else list(labels),
    }
    folder = Path(backbone.where)
    if backbone.trained:
        saved = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if (saved["kind"], saved["outputs"]) != (kind, outputs):
            raise LabError(
                f"source: {folder} was fine-tuned on another task ({saved['kind']}, {saved['outputs']} outputs)."
            )
        if saved["labels"] != settings["labels"]:
            raise LabError(
                f"source: {folder} tells the classes {saved['labels']}; the task has {settings['labels']}, in this order."
            )
        settings = saved
    body = sources.load_body(backbone.where, backbone.revision, "source")
    sources.check_tokenizer(backbone.tokenizer, body.config, backbone.where)
    module: Pooled = KINDS[kind](body, backbone.tokenizer, settings)
    if backbone.trained and module.head is not None:
        module.head.load_state_dict(load_file(folder / WEIGHTS))
    return module


def split_pairs(batch: Batch, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """The first texts of all pairs, then the second ones, each between the tokenizer's own marks.

    batch: "input_ids" and "attention_mask", (pairs, tokens). The first separator ends the first text: separators that
    are written in a text are no separators, since tasks' texts are tokenised without special tokens.
    """
    ids, real = batch["input_ids"], batch["attention_mask"]
    separator, begins = tokenizer.sep_token_id, tokenizer.cls_token_id
    first, second = [], []
    for row, length in zip(ids.tolist(), real.sum(dim=1).tolist(), strict=True):
        tokens = row[:length] if tokenizer.padding_side == "right" else row[len(row) - length :]
        end = tokens.index(separator)
        rest = end + 1
        while rest < len(tokens) - 1 and tokens[rest] == separator:  # RoBERTa puts two between the texts
            rest += 1
        first.append(torch.tensor(tokens[: end + 1]))
        second.append(torch.tensor([begins, *tokens[rest:]]))
    texts = first + second
    padded = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad_token_id or 0)
    lengths = torch.tensor([len(text) for text in texts])
    mask = torch.arange(padded.shape[1]) < lengths[:, None]
    return {"input_ids": padded.to(ids), "attention_mask": mask.to(real)}
