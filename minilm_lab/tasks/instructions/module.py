"""A causal model that answers instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.data.loading import Batch
from minilm_lab.errors import LabError
from minilm_lab.models.adapters import Adapter
from minilm_lab.models.causal import head_of, load_causal
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.next_token import Head, next_token_loss
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.features import IGNORED
from minilm_lab.tasks.instructions.chat import Chat
from minilm_lab.tasks.module import ModelModule, Teachable


class Written(NamedTuple):
    """What a model says of one prompt; as an array of float64, which holds token ids exactly, it travels between ranks."""

    ended: bool
    """Whether it ended its answer; false: cut at the greatest length."""
    loss: float
    """Cross-entropy of the right answer and its end, summed over their tokens, in nats."""
    option: int
    """Number of the likeliest of the answers that it could choose of; −1 where there were none."""
    tokens: list[int]
    """Of its answer, greedy, without the end token."""

    def array(self) -> np.ndarray:
        """As numbers: three facts, and the tokens."""
        return np.asarray([self.ended, self.loss, self.option, *self.tokens], dtype=np.float64)

    @classmethod
    def of(cls, array: np.ndarray) -> Written:
        """What `array` gave."""
        return cls(
            bool(array[0]), float(array[1]), int(array[2]), [int(token) for token in array[3:].tolist()]
        )


class Instructed(ModelModule, Teachable):
    """Cross-entropy of answers and their ends; answers by greedy search.

    The head reads the rows before an answer's tokens alone. Padding stands on the right, where a causal model's real
    tokens never look, so there is no mask.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        end: int,
        target_length: int,
        options: Sequence[Sequence[Sequence[int]]] = (),
    ) -> None:
        """end: id that ends an answer; options: lists of answers (ids, the end behind them), of which some prompts choose."""
        super().__init__(model, tokenizer)
        self.end, self.target_length = end, target_length
        self.options = [[list(ids) for ids in answers] for answers in options]

    @classmethod
    def load(cls, backbone: Backbone, *, system: str, **settings: Any) -> Instructed:
        """A causal model with its trained head, in float32; LabError for encoders and for templates that do not fit."""
        chat = Chat(backbone.tokenizer, system)
        model, _ = load_causal(backbone.where, backbone.revision, "source")
        return cls(model, backbone.tokenizer, end=chat.end, **settings)

    def adapt(self, adapter: Adapter, seed: int, base: str) -> None:
        """See `TaskModule.adapt`; the head is the model's own and stays as it is."""
        self.model = adapter.add(self.model, seed, base)
        self._base = base
        self._facts["trained_parameters"] = sum(p.numel() for p in self.parameters() if p.requires_grad)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, mean over the answers' tokens of the batch, their ends included."""
        hidden, head, labels = self.answers(batch)
        soft, hard = next_token_loss(hidden, head, labels)
        return {"cross_entropy": soft + hard}

    def losses_with(
        self, teacher: Teachable, batch: Batch, weight: float, temperature: float
    ) -> dict[str, Tensor]:
        """Of the labels, and T² KL(teacher ‖ student) of the next token, mean over the answers' tokens."""
        if not isinstance(teacher, Instructed):
            raise LabError("tune.teacher: a model of another kind cannot teach answers.")
        hidden, head, labels = self.answers(batch)
        with torch.no_grad():
            theirs, their_head, _ = teacher.answers(batch)
        soft, hard = next_token_loss(
            hidden,
            head,
            labels,
            (theirs, their_head),
            temperature=temperature,
            soft_weight=weight,
            hard_weight=1 - weight,
        )
        # Their sum alone has a gradient: it is that of both.
        return {"loss_teacher": soft, "loss_labels": hard}

    def answers(self, batch: Batch) -> tuple[Tensor, Head, Tensor]:
        """(N, D) hidden states before each token of an answer, the head, and the N tokens, int64."""
        model: Any = getattr(self.model, "get_base_model", lambda: self.model)()
        body = getattr(model, model.base_model_prefix)
        states = body(input_ids=batch["input_ids"], use_cache=False).last_hidden_state
        labels = batch["labels"][:, 1:]
        there = labels != IGNORED
        return states[:, :-1][there], head_of(model), labels[there]

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """`Written.array` of each prompt."""
        engine = LanguageModel(self.model, self.tokenizer)
        engine.ends = engine.ends | {self.end}
        real, ids = batch["attention_mask"] > 0, batch["input_ids"]
        prompt = (real & (batch["labels"] == IGNORED)).sum(dim=1).tolist()
        prompts = [row[:length].tolist() for row, length in zip(ids, prompt, strict=True)]
        # Each prompt is read once: for what is written, the right answer's likelihood, and that of each option.
        context = engine.read(prompts)
        answers = engine.generate(context, Decoding(length=self.target_length))
        numbers = batch["options"].tolist() if "options" in batch else [-1] * len(prompts)
        right = [row[row != IGNORED].tolist() for row in batch["labels"]]
        lists = [
            [answer, *(self.options[number] if number >= 0 else [])]
            for answer, number in zip(right, numbers, strict=True)
        ]
        scores = engine.likelihoods(context, lists)
        losses = [-float(worth[0]) for worth in scores]
        chosen = [int(worth[1:].argmax()) if len(worth) > 1 else -1 for worth in scores]
        return [
            Written(answer.ended, loss, option, answer.tokens).array()
            for answer, loss, option in zip(answers, losses, chosen, strict=True)
        ]
