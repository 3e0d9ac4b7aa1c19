"""Run one distillation in its folder: blocks, models, training, product, record."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from minilm_lab.corpora import build, held_out_batches, loader
from minilm_lab.errors import LabError
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import model_card, save_model
from minilm_lab.models.stopping import StoppedModel, self_check
from minilm_lab.models.student import Student, build_student
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Objective
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.attention import use_fastest_attention
from minilm_lab.training.callbacks import HeldOut, Journal
from minilm_lab.training.distiller import Distiller
from minilm_lab.training.fit import fit, micro_batch, precision_of, uses_gpu
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import How, Optim, Scale

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

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Distil (or, without an objective, initialise) and save the student; returns its part of the record."""
        transformers_logging.disable_progress_bar()
        cache = self.how.cache
        tokenizer = self.teacher.tokenizer(cache)
        config = self.teacher.config(cache)
        layer = self.teacher.distilled_layer(config)
        teacher = self.teacher.body(cache, layers=layer)
        if len(tokenizer) > teacher.config.vocab_size:
            raise LabError(
                f"the tokenizer of {self.teacher.name} has {len(tokenizer)} tokens, the model embeds "
                f"{teacher.config.vocab_size}: they do not belong together"
            )
        student = build_student(self.student, teacher, layer, self.seed, config)
        stopped = StoppedModel(teacher, layer)
        self_check(teacher, stopped, teacher.config.vocab_size)
        self_check(
            student, StoppedModel(student, student.config.num_hidden_layers), student.config.vocab_size
        )
        facts = self._facts(student, teacher, layer)
        own: dict[str, Any] = {"names": self.names(), **_size(student)}
        if self.objective.trains:
            return own | self._distil(folder, student, stopped, tokenizer, facts)
        self._save(folder, student, tokenizer, facts, [])
        return own

    def _distil(
        self,
        folder: RunFolder,
        student: PreTrainedModel,
        teacher: StoppedModel,
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
        }
        loggers = self.how.logger.build(folder.path, about)
        try:
            results = self._fit(folder, student, teacher, tokenizer, loggers)
            facts = facts | {
                "tokens seen": f"{results['tokens_seen']:,}",
                "held-out loss": "{first:.4f} before, {last:.4f} after".format(**results["held_out_loss"]),
            }
            self._save(folder, student, tokenizer, facts, results["untrained"])
            summary = {
                "held_out_loss": results["held_out_loss"]["last"],
                "tokens_seen": results["tokens_seen"],
            }
            finish(loggers, summary, made=(folder.identity, folder.path / "student"))
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
        card = model_card(folder.name, self._what_for_card(folder), facts, untrained)
        student.requires_grad_(True)
        save_model(folder.path / "student", student, tokenizer, card)

    def _fit(
        self,
        folder: RunFolder,
        student: PreTrainedModel,
        teacher: StoppedModel,
        tokenizer: PreTrainedTokenizerBase,
        loggers: list[Logger],
    ) -> dict[str, Any]:
        how, scale = self.how, self.scale
        micro = micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
        blocks = build(
            self.corpus,
            tokenizer,
            self._tokenizer_key(tokenizer),
            length=scale.length,
            hub=how.paths.hub,
            cache=how.cache,
        )
        precision = precision_of(how.impl, how.trainer.accelerator)
        use_fastest_attention(student, not uses_gpu(how.trainer.accelerator), precision, scale.length)
        if how.impl.checkpointing:
            _checkpoint_activations(student)
        module = Distiller(
            student,
            teacher,
            self.objective,
            self.optim,
            scale.steps,
            backend=how.impl.backend,
            compile=how.impl.compile,
            # Lightning cannot clip under fp16's loss scaling with a fused optimizer.
            fused=precision != "16-mixed",
            teacher_type=TYPES[how.impl.teacher_precision],
        )
        journal = Journal(folder.metrics, how.trainer.log_every)

        def batches(step: int, rank: int, world: int) -> Any:
            return loader(
                blocks,
                seed=self.seed,
                batch_size=micro,
                first_sample=step * scale.batch_size,
                rank=rank,
                world_size=world,
                workers=how.impl.workers,
                pin_memory=torch.cuda.is_available(),
            )

        def held_out() -> Iterator[Any]:
            return held_out_batches(blocks, micro, how.trainer.held_out_blocks)

        measure = HeldOut(journal, held_out, how.trainer.held_out_every or max(1, scale.steps // 10))
        fit(
            module,
            batches,
            steps=scale.steps,
            seed=self.seed,
            title=folder.name,
            folder=folder.path,
            impl=how.impl,
            settings=how.trainer,
            loggers=loggers,
            journal=journal,
            callbacks=[measure],
        )
        return {
            "loss": journal.recent.get("loss"),
            "held_out_loss": {"first": measure.first, "last": measure.last},
            "tokens_seen": journal.tokens,
            "steps": scale.steps,
            "precision": precision,
            "corpus": dataclasses.asdict(blocks.index),
            "untrained": module.untrained,
        }

    def _tokenizer_key(self, tokenizer: PreTrainedTokenizerBase) -> str:
        rules = tokenizer.backend_tokenizer.to_str()
        return hashlib.blake2b(rules.encode(), digest_size=16).hexdigest()

    def names(self) -> dict[str, str]:
        """Short names of the parts, for tables and dashboards."""
        return {
            "teacher": self.teacher.name,
            "student": self.student.name,
            "objective": self.objective.label(),
            "corpus": self.corpus.name,
            "scale": self.scale.name,
        }

    def _what_for_card(self, folder: RunFolder) -> dict[str, Any]:
        what = OmegaConf.to_container(OmegaConf.load(folder.path / "config.yaml").what)
        assert isinstance(what, dict)
        return {str(k): v for k, v in what.items()}

    def _facts(self, student: PreTrainedModel, teacher: PreTrainedModel, layer: int) -> dict[str, str]:
        size = _size(student)
        return {
            "teacher": f"{self.teacher.name}, layer {layer}",
            "student": f"{size['layers']} layers, hidden size {size['hidden_size']}, "
            f"{student.config.num_attention_heads} heads, {size['parameters']['total'] / 1e6:.1f} M parameters",
            "objective": self.objective.label(),
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
        "parameters": count_parameters(student),
        "layers": int(student.config.num_hidden_layers),
        "hidden_size": int(student.config.hidden_size),
    }
