"""Run one distillation in its folder: blocks, models, training, product, record."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from minilm_lab.data.masking import Masking, masking_for
from minilm_lab.errors import LabError
from minilm_lab.models.assistant import AssistantTeacher
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import model_card, save_model
from minilm_lab.models.student import Student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Loss, Objective
from minilm_lab.probes.base import NoProbe, Probe
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.attention import use_fastest_attention
from minilm_lab.training.callbacks import Journal, Probing
from minilm_lab.training.distiller import Distiller
from minilm_lab.training.fit import precision_of, uses_gpu
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.pair import load_pair
from minilm_lab.training.settings import How, Optim, Scale
from minilm_lab.training.stream import open_stream, train_on

#: impl.teacher_precision -> the type of the teacher's weights; None: as the student computes.
TYPES = {"same": None, "32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class Distillation:
    """Everything a distillation needs, typed and checked; nothing is loaded yet."""

    teacher: Teacher
    student: Student
    objective: Objective
    corpus: Any
    optim: Optim
    scale: Scale
    seed: int
    how: How
    probe: Probe = field(default_factory=NoProbe)
    """What is measured of the student along the way; not part of what is computed."""
    head: Path | None = None
    """Folder of the teacher with a masked-LM head of the lab's training; None: the checkpoint's own, if it is read."""

    @cached_property
    def loss(self) -> Loss:
        """The objective bound to this pair, its lifts as they start; LabError if the two cannot be a pair."""
        teacher = self.teacher.config(self.how.cache)
        layer = self.teacher.distilled_layer(teacher)
        # Lifts start at random: from the run's seed, whatever ran before in this process.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return self.objective.bind(
                self.student.config(teacher), teacher, layer, grouped=self.teacher.grouped
            )

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Distil (or, without an objective, initialise) and save the student; returns its part of the record."""
        transformers_logging.disable_progress_bar()
        cache = self.how.cache
        tokenizer = self.teacher.tokenizer(cache)
        teacher, student = load_pair(
            self.teacher, self.student, self.loss.reads, tokenizer, self.head, self.seed, cache
        )
        facts = self._facts(student.model)
        own: dict[str, Any] = {"names": self.names(), **_size(student.model)}
        if self.objective.trains:
            return own | self._distil(folder, student, teacher, tokenizer, facts)
        self._save(folder, student.model, tokenizer, facts, [])
        return own

    def _distil(
        self,
        folder: RunFolder,
        student: Tapped,
        teacher: Tapped,
        tokenizer: PreTrainedTokenizerBase,
        facts: dict[str, str],
    ) -> dict[str, Any]:
        """Train and save the student, mirrored by the loggers from the first step to the artifact."""
        about = {
            "identity": folder.identity,
            "command": "distill",
            "name": folder.name,
            "experiment": self.how.experiment,
            "config": self._what_for_card(folder),
            "names": self.names(),
        }
        loggers = self.how.logger.build(folder.path, about)
        try:
            results = self._fit(folder, student, teacher, tokenizer, loggers)
            facts = facts | {
                "tokens seen": f"{results['tokens_seen']:,}",
                "held-out loss": "{first:.4f} before, {last:.4f} after".format(**results["held_out_loss"]),
            }
            self._save(folder, student.model, tokenizer, facts, results["untrained"])
            summary = {
                "held_out_loss": results["held_out_loss"]["last"],
                "tokens_seen": results["tokens_seen"],
            }
            assistant = self.teacher.run if isinstance(self.teacher, AssistantTeacher) else None
            made = (folder.identity, folder.path / "student")
            record = {"names": self.names(), **_size(student.model), **results}
            finish(loggers, summary, made=made, used=assistant, record=record)
        finally:
            close()
        return results

    def _save(
        self,
        folder: RunFolder,
        student: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: dict[str, str],
        untrained: list[str],
    ) -> None:
        head = self.loss.reads[0].logits
        card = model_card(folder.name, self._what_for_card(folder), facts, untrained, masked_lm=head)
        student.requires_grad_(True)
        save_model(folder.path / "student", student, tokenizer, card)

    def _fit(
        self,
        folder: RunFolder,
        student: Tapped,
        teacher: Tapped,
        tokenizer: PreTrainedTokenizerBase,
        loggers: list[Logger],
    ) -> dict[str, Any]:
        how, scale = self.how, self.scale
        stream = open_stream(self.corpus, tokenizer, scale, self.seed, how, self._masking(tokenizer))
        precision = precision_of(how.impl, how.trainer.accelerator)
        use_fastest_attention(student.model, not uses_gpu(how.trainer.accelerator), precision, scale.length)
        if how.impl.checkpointing:
            _checkpoint_activations(student.model)
        module = Distiller(
            student,
            teacher,
            copy.deepcopy(self.loss),
            self.optim,
            scale.steps,
            backend=how.impl.backend,
            compile=how.impl.compile,
            # Lightning cannot clip under fp16's loss scaling with a fused optimizer.
            fused=precision != "16-mixed",
            teacher_type=TYPES[how.impl.teacher_precision],
        )
        journal = Journal(folder.metrics, how.trainer.log_every)
        probing = None
        if self.probe.measures:
            splits = self.probe.load(how.paths.hub, how.cache)
            probing = Probing(self.probe, splits, tokenizer, journal, scale.steps)
        measure = train_on(module, stream, folder, journal, loggers, [probing] if probing else [])
        return {
            "loss": journal.recent.get("loss"),
            "held_out_loss": {"first": measure.first, "last": measure.last},
            "tokens_seen": journal.tokens,
            "steps": scale.steps,
            "precision": precision,
            "corpus": dataclasses.asdict(stream.blocks.index),
            "untrained": module.untrained,
            **({"probe": {"first": probing.first, "last": probing.last}} if probing else {}),
        }

    def _masking(self, tokenizer: PreTrainedTokenizerBase) -> Masking | None:
        share = self.loss.masked_share
        vocabulary = int(self.teacher.config(self.how.cache).vocab_size)
        return masking_for(tokenizer, self.seed, share, vocabulary) if share else None

    def names(self) -> dict[str, str]:
        """Short names of the parts, for tables and dashboards."""
        return {
            "teacher": self.teacher.name,
            "student": self.student.name,
            "objective": self.loss.label(),
            "corpus": self.corpus.name,
            "scale": self.scale.name,
        }

    def _what_for_card(self, folder: RunFolder) -> dict[str, Any]:
        what = OmegaConf.to_container(OmegaConf.load(folder.path / "config.yaml").what)
        assert isinstance(what, dict)
        return {str(k): v for k, v in what.items()}

    def _facts(self, student: PreTrainedModel) -> dict[str, str]:
        size = _size(student)
        layer = self.teacher.distilled_layer(self.teacher.config(self.how.cache))
        return {
            "teacher": f"{self.teacher.name}, layer {layer}",
            "student": f"{size['layers']} layers, hidden size {size['hidden_size']}, "
            f"{student.config.num_attention_heads} heads, {size['parameters']['total'] / 1e6:.1f} M parameters",
            "objective": self.loss.label(),
            "corpus": self.corpus.name,
            "initialisation": f"layers: {self.student.init.layers}, embeddings: {self.student.init.embeddings}",
        }


def _checkpoint_activations(student: PreTrainedModel) -> None:
    if not student.supports_gradient_checkpointing:
        raise LabError(
            f"impl.checkpointing=true: '{student.config.model_type}' models cannot recompute their activations"
        )
    student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _size(student: PreTrainedModel) -> dict[str, Any]:
    return {
        "parameters": count_parameters(student.base_model),
        "layers": int(student.config.num_hidden_layers),
        "hidden_size": int(student.config.hidden_size),
    }
