"""Batches that the student writes itself (GKD, Agarwal et al. 2023, arXiv 2306.13649)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.objectives.base import OnPolicy


class Writer:
    """Whether a step is on-policy is a function of (seed, step), and what a sample's text draws of (seed, sample), so a
    killed run goes on as it would have."""

    def __init__(
        self,
        student: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: OnPolicy,
        seed: int,
        batch_size: int,
    ) -> None:
        """batch_size: samples of an optimizer step."""
        self._model = LanguageModel(student, tokenizer)
        self._settings, self._seed, self._batch_size = settings, seed, batch_size

    def writes(self, batch: dict[str, Any]) -> bool:
        """Whether the step of these samples is one of the student's own."""
        step = int(batch["samples"][0]) // self._batch_size
        draw = np.random.default_rng([self._seed, step, 1]).random()
        return bool(draw < self._settings.share)

    def __call__(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Tensor]:
        """The batch with the student's texts in place of what follows the prompts, and which tokens it wrote.

        Sampled at temperature 1, in float32. A text that the student ends has the end token as its last.
        """
        ids, mask = batch["input_ids"], batch["mask"]
        real = [ids.shape[1]] * len(ids) if mask is None else mask.sum(dim=1).tolist()
        # Of a short text at least a token is left to write.
        prompts = [
            row[: max(1, min(self._settings.prompt, length - 1))].tolist()
            for row, length in zip(ids, real, strict=True)
        ]
        rows = batch["samples"].tolist()
        texts: list[list[int]] = [[] for _ in rows]
        by_room: dict[int, list[int]] = {}
        for n, (prompt, length) in enumerate(zip(prompts, real, strict=True)):
            by_room.setdefault(length - len(prompt), []).append(n)
        for room, some in by_room.items():
            if room < 1:  # a single token, which nothing follows
                continue
            decoding = Decoding(method="sample", length=room, seed=self._seed)
            with torch.autocast(ids.device.type, enabled=False):
                answers = self._model.generate(
                    [prompts[n] for n in some], decoding, rows=[rows[n] for n in some]
                )
            for n, answer in zip(some, answers, strict=True):
                end = [self._end] if answer.ended else []
                texts[n] = [*answer.tokens, *end]
        width = max(len(p) + len(t) for p, t in zip(prompts, texts, strict=True))
        new, written = ids.new_zeros(len(ids), width), torch.zeros(len(ids), width, dtype=torch.bool)
        there = torch.zeros_like(written)
        for n, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            new[n, : len(prompt) + len(text)] = torch.tensor([*prompt, *text])
            there[n, : len(prompt) + len(text)] = True
            written[n, len(prompt) : len(prompt) + len(text)] = True
        whole = None if there.all() else there.to(ids.device)
        changed = {**batch, "input_ids": new, "mask": whole}
        return changed, written.to(ids.device)

    @property
    def _end(self) -> int:
        """The token that ends a text."""
        end = self._model.tokenizer.eos_token_id
        return int(end) if end is not None else min(self._model.ends)
