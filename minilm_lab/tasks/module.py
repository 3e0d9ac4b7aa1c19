"""What is trained on a task: a model and the meaning of its outputs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minilm_lab.data.loading import Batch
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.adapters import Adapter, merged
from minilm_lab.models.attention import use_fastest_attention
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import save_model
from minilm_lab.tasks import heads
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.features import IGNORED


class TaskModule(nn.Module, ABC):
    """A module that knows its losses and predictions and saves itself; nobody outside looks into its model.

    What is to be trained requires gradients; of the rest nothing is in a checkpoint, so it must be the same whenever
    the module is made anew from the same source.
    """

    tokenizer: PreTrainedTokenizerBase
    """What reads texts for it."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch by name, weighted scalars; their sum is minimised."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[np.ndarray]:
        """What the module says of each sample of a batch, in float32 whatever the precision is, without padding."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what was trained, whole weights or an adapter, with the tokenizer; all of the folder or nothing."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Of the body, for the record: "parameters" (as models.parameters counts them), "layers", "hidden_size"."""

    def choose_kernels(self, *, on_cpu: bool, precision: str, length: int) -> None:
        """Take what trains fastest at Lightning's `precision` on inputs of `length` tokens."""
        return  # there may be nothing to choose

    def adapt(self, adapter: Adapter, seed: int, base: str) -> None:
        """Train adapters, which `seed` draws, and the task's head in place of the whole model `base`."""
        raise LabError(f"adapter={adapter.kind}: this task trains its whole model; use adapter=none.")

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.parameters()).device


class ModelModule(TaskModule):
    """A model of the transformers library with a head of its own."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self._facts = {
            "parameters": count_parameters(getattr(model, model.base_model_prefix)),
            "layers": int(model.config.num_hidden_layers),
            "hidden_size": int(model.config.hidden_size),
        }
        self._base: str | None = None

    def adapt(self, adapter: Adapter, seed: int, base: str) -> None:
        """See `TaskModule.adapt`."""
        head = heads.modules_of(self.model)
        self.model = adapter.add(self.model, seed, base)
        for module in head:
            module.requires_grad_(True)
        self._base = base
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        self._facts["trained_parameters"] = trained

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The part of a batch that goes into the model: segments only where the model has several."""
        names = ["input_ids", "attention_mask"]
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            names.append("token_type_ids")
        return {name: batch[name] for name in names if name in batch}

    def save(self, folder: Path) -> None:
        """See `TaskModule.save`: the whole model, as its library's class loads it, adapters merged; these in `adapter/` too."""
        if self._base is None:
            save_model(folder, self.model, self.tokenizer)
            return
        whole = copy.deepcopy(self.model).cpu()
        ids = torch.tensor([self.tokenizer("a text, and another one")["input_ids"]])
        save_model(folder, merged(whole, ids), self.tokenizer)
        self.model.save_pretrained(folder / "adapter")

    def facts(self) -> dict[str, Any]:
        """See `TaskModule.facts`."""
        return self._facts

    def choose_kernels(self, *, on_cpu: bool, precision: str, length: int) -> None:
        """See `TaskModule.choose_kernels`: the attention kernel."""
        use_fastest_attention(self.model, on_cpu, precision, length)


class Teachable(TaskModule):
    """Modules that a teacher of the same task can teach."""

    @abstractmethod
    def losses_with(
        self, teacher: Teachable, batch: Batch, weight: float, temperature: float
    ) -> dict[str, Tensor]:
        """ "loss_labels", (1 − weight) · that of the labels, and "loss_teacher", weight · the distance to the teacher."""


class Scored(Teachable):
    """Modules whose losses come from scores: a teacher of the task can be matched on the same scores."""

    def losses_with(
        self, teacher: Teachable, batch: Batch, weight: float, temperature: float
    ) -> dict[str, Tensor]:
        """See `Teachable.losses_with`; LabError unless both give scores."""
        if not isinstance(teacher, Scored):
            raise LabError("tune.teacher gives no scores that could teach this student.")
        logits = self.logits(batch)
        with torch.no_grad():
            aims = teacher.logits(batch)
        labels = torch.stack(list(self.loss(logits, batch).values())).sum()
        soft = self.soft_loss(logits, aims, batch, temperature)
        return {"loss_labels": (1 - weight) * labels, "loss_teacher": weight * soft}

    @abstractmethod
    def logits(self, batch: Batch) -> Tensor:
        """Scores in float32, samples first."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses of these scores against the labels."""

    @abstractmethod
    def soft_loss(self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """The distance of these scores to the teacher's of the same batch, a scalar."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """See `TaskModule.losses`."""
        return self.loss(self.logits(batch), batch)


class Classes(Scored):
    """One class for a sample: (samples, classes)."""

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, mean over the samples."""
        return {"cross_entropy": F.cross_entropy(logits, batch["labels"].long())}

    def soft_loss(self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Divergence of the softened classes, mean over the samples."""
        return softened_kl(logits, teacher, temperature).mean()

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """(classes,) for each sample."""
        return list(self.logits(batch).cpu().numpy())


class Values(Scored):
    """One number for a sample: (samples, 1)."""

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Squared error, mean over the samples."""
        return {"mse": F.mse_loss(logits.squeeze(-1), batch["labels"].float())}

    def soft_loss(self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Squared error to the teacher's number, whatever the temperature."""
        return F.mse_loss(logits, teacher)

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """(1,) for each sample."""
        return list(self.logits(batch).cpu().numpy())


class SequenceModule(ModelModule):
    """Scores for a whole text or pair."""

    def logits(self, batch: Batch) -> Tensor:
        """(texts, outputs)."""
        logits: Tensor = self.model(**self.inputs(batch)).logits.float()
        return logits


class Classification(SequenceModule, Classes):
    """One class for a text or pair."""


class Regression(SequenceModule, Values):
    """One number for a text or pair."""


class TokenClassification(ModelModule, Scored):
    """One class for each token."""

    def logits(self, batch: Batch) -> Tensor:
        """(texts, tokens, classes)."""
        logits: Tensor = self.model(**self.inputs(batch)).logits.float()
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, mean over the labelled tokens; 0 where a batch has none."""
        labels = batch["labels"].long().flatten()
        total = F.cross_entropy(logits.flatten(0, 1), labels, ignore_index=IGNORED, reduction="sum")
        return {"cross_entropy": total / (labels != IGNORED).sum().clamp(min=1)}

    def soft_loss(self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Divergence of the softened classes, mean over the labelled tokens; 0 where a batch has none."""
        labelled = batch["labels"] != IGNORED
        total = softened_kl(logits[labelled], teacher[labelled], temperature).sum()
        return total / labelled.sum().clamp(min=1)

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """(tokens, outputs) for each text."""
        return without_padding(self.logits(batch), batch)


class SpanExtraction(ModelModule, Scored):
    """First and last token of a span."""

    def logits(self, batch: Batch) -> Tensor:
        """(windows, tokens, 2): start and end; padding can be neither."""
        answer = self.model(**self.inputs(batch))
        both = torch.stack([answer.start_logits, answer.end_logits], dim=-1).float()
        padding = batch["attention_mask"].unsqueeze(-1) == 0
        return both.masked_fill(padding, torch.finfo(both.dtype).min)

    def loss(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Mean of the two cross-entropies over the real tokens, mean over the windows."""
        places = logits.transpose(1, 2).flatten(0, 1)  # (windows x 2, tokens)
        return {"cross_entropy": F.cross_entropy(places, batch["labels"].long().flatten())}

    def soft_loss(self, logits: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """Divergence of the softened places, mean of start and end over the windows."""
        ours, theirs = (places.transpose(1, 2).flatten(0, 1) for places in (logits, teacher))
        return softened_kl(ours, theirs, temperature).mean()

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """(tokens, 2) for each window."""
        return without_padding(self.logits(batch), batch)


def softened_kl(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) ‖ softmax(logits / T)) over the last dimension (Hinton et al. 2015, section 2)."""
    ours, theirs = (torch.log_softmax(scores / temperature, dim=-1) for scores in (logits, teacher))
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1) * temperature**2


KINDS: dict[str, tuple[type[ModelModule], Any]] = {
    "classification": (Classification, AutoModelForSequenceClassification),
    "regression": (Regression, AutoModelForSequenceClassification),
    "token_classification": (TokenClassification, AutoModelForTokenClassification),
    "span": (SpanExtraction, AutoModelForQuestionAnswering),
}
"""Kind of task -> its module, and the library's class of model."""


def load_module(
    kind: str, backbone: Backbone, outputs: int, labels: Sequence[str] | None = None
) -> ModelModule:
    """The module of a kind of task, with a head of `outputs` scores, of the classes `labels`; see `Task.module`.

    A head that comes with the weights is kept where it means these classes, else drawn at random (tasks.heads).
    """
    module, library = KINDS[kind]
    where, tokenizer = backbone.where, backbone.tokenizer
    model, missing = sources.load_model(library, where, backbone.revision, "source", num_labels=outputs)
    check_trained(missing, backbone)
    heads.settle_head(model, kind, backbone, labels, drawn=bool(missing))
    sources.check_tokenizer(tokenizer, model.config, where)
    return module(model, tokenizer)


def check_trained(missing: list[str], backbone: Backbone) -> None:
    """LabError for a model whose weights lack parameters, where it should have been fine-tuned."""
    if backbone.trained and missing:
        raise LabError(
            f"source: {backbone.where} was not fine-tuned on such a task: its weights lack "
            f"{', '.join(missing[:3])}. `minilm-lab finetune … tune.save_model=true` saves a model to evaluate."
        )


def without_padding(values: Tensor, batch: Batch) -> list[np.ndarray]:
    """(rows, tokens, …) as one array a row, of its real tokens."""
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    return [row[:length] for row, length in zip(values.cpu().numpy(), lengths, strict=True)]
