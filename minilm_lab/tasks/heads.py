"""What is put on top of a model for a kind of task: how it is loaded, what its loss is, how it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.models import sources
from minilm_lab.tasks.batching import IGNORED, Batch


class TaskHead(ABC):
    """A kind of task as the trainer sees it. Outputs are read in float32 whatever the precision is."""

    @abstractmethod
    def load(self, where: str, revision: str | None) -> PreTrainedModel:
        """Load the model of a folder or a hub id in float32, with this head; a new head is drawn at random."""

    @abstractmethod
    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """The loss of a batch (see ``batching.collate``), a scalar."""

    @abstractmethod
    def read(self, model: PreTrainedModel, batch: Batch) -> list[np.ndarray]:
        """What the model says of each example of a batch, float32, without padding."""


def inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """The part of a batch that goes into a model: segments only where the model has several."""
    names = ["input_ids", "attention_mask"]
    if getattr(model.config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return {name: batch[name] for name in names if name in batch}


class SequenceHead(TaskHead):
    """Scores for a whole text or pair: (examples, outputs)."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def load(self, where: str, revision: str | None) -> PreTrainedModel:
        """The library's sequence classification."""
        return sources.load_classifier(where, revision, "source", self.outputs)

    def logits(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(examples, outputs)."""
        logits: Tensor = model(**inputs(model, batch)).logits.float()
        return logits

    def read(self, model: PreTrainedModel, batch: Batch) -> list[np.ndarray]:
        """(outputs,) for each example."""
        return list(self.logits(model, batch).cpu().numpy())


class Classification(SequenceHead):
    """One class for a text or pair; cross-entropy."""

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Mean over the examples."""
        return F.cross_entropy(self.logits(model, batch), batch["labels"].long())


class Regression(SequenceHead):
    """One number for a text or pair; squared error."""

    def __init__(self) -> None:
        super().__init__(outputs=1)

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Mean over the examples."""
        return F.mse_loss(self.logits(model, batch).squeeze(-1), batch["labels"].float())


class TokenClassification(TaskHead):
    """One class for each token; cross-entropy of the tokens that have a label."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs

    def load(self, where: str, revision: str | None) -> PreTrainedModel:
        """The library's token classification."""
        return sources.load_token_classifier(where, revision, "source", self.outputs)

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Mean over the labelled tokens; 0 where a batch has none."""
        logits: Tensor = model(**inputs(model, batch)).logits.float()
        labels = batch["labels"].long().flatten()
        total = F.cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, reduction="sum")
        return total / (labels != IGNORED).sum().clamp(min=1)

    def read(self, model: PreTrainedModel, batch: Batch) -> list[np.ndarray]:
        """(tokens, outputs) for each example."""
        logits = model(**inputs(model, batch)).logits.float()
        return _without_padding(logits, batch)


class SpanExtraction(TaskHead):
    """First and last token of a span; the mean of the two cross-entropies over the real tokens."""

    def load(self, where: str, revision: str | None) -> PreTrainedModel:
        """The library's extractive question answering."""
        return sources.load_question_answerer(where, revision, "source")

    def logits(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(examples, tokens, 2): start and end; padding can be neither."""
        answer = model(**inputs(model, batch))
        both = torch.stack([answer.start_logits, answer.end_logits], dim=-1).float()
        padding = batch["attention_mask"].unsqueeze(-1) == 0
        return both.masked_fill(padding, torch.finfo(both.dtype).min)

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Mean over the windows."""
        places = self.logits(model, batch).transpose(1, 2).flatten(0, 1)  # (examples x 2, tokens)
        return F.cross_entropy(places, batch["labels"].long().flatten())

    def read(self, model: PreTrainedModel, batch: Batch) -> list[np.ndarray]:
        """(tokens, 2) for each window."""
        return _without_padding(self.logits(model, batch), batch)


def head_of(kind: str, outputs: int) -> TaskHead:
    """The head of a kind of task; `outputs`: the number of classes, where there are any."""
    known: dict[str, Any] = {
        "classification": lambda: Classification(outputs),
        "regression": Regression,
        "token_classification": lambda: TokenClassification(outputs),
        "span": SpanExtraction,
    }
    head: TaskHead = known[kind]()
    return head


def _without_padding(values: Tensor, batch: Batch) -> list[np.ndarray]:
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    return [row[:length] for row, length in zip(values.cpu().numpy(), lengths, strict=True)]
