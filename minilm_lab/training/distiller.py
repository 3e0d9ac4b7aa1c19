"""The LightningModule that holds the student and the frozen teacher, and a distillation's work."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.data import Blocks
from minilm_lab.data.masking import masking_for
from minilm_lab.errors import LabError
from minilm_lab.models.assistant import AssistantTeacher
from minilm_lab.models.attention import use_fastest_attention
from minilm_lab.models.layer_choice import Texts
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import model_card, save_model
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs, Seen
from minilm_lab.objectives.base import Loss, Views
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.devices import precision_of, uses_gpu
from minilm_lab.training.evaluating import Evaluating
from minilm_lab.training.fit import Training
from minilm_lab.training.job import Product, journal_of, train
from minilm_lab.training.on_policy import Writer
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.pair import load_pair
from minilm_lab.training.settings import Impl, Optim
from minilm_lab.training.soft_targets import SoftTargets
from minilm_lab.training.stream import open_stream

if TYPE_CHECKING:
    from minilm_lab.training.distillation import Distillation

TEXTS = 64
"""Held-out blocks that layers are chosen on."""
TYPES = {"same": None, "32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
"""impl.teacher_precision -> the type of the teacher's weights; None: as the student computes."""


class Distiller(Optimised):
    """Both models run as far as the objective reads them, and no further.

    The teacher and the tapped views are kept out of the module's registry: no checkpoint, optimizer, `train()` or
    DDP broadcast ever sees them. The loss's lifts are trained and checkpointed with the student. What the
    loss cannot reach in the student is frozen, so weight decay does not wear it down.
    """

    def __init__(
        self,
        student: Tapped,
        teacher: Tapped,
        loss: Loss,
        optim: Optim,
        steps: int,
        *,
        backend: str = "auto",
        compile: bool = False,
        fused: bool = True,
        teacher_type: torch.dtype | None = None,
        targets: SoftTargets | None = None,
        writer: Writer | None = None,
    ) -> None:
        """student, teacher: views that read what `loss.reads` says; targets: what of the teacher is kept on disk; writer:
        of texts of the student's own."""
        super().__init__(optim, steps, fused)
        self.student = student.model
        self.loss, self.backend = loss, backend
        self.targets, self.writer = targets, writer
        teacher.eval().requires_grad_(False)
        # A tuple hides a module from nn.Module's registry.
        self._hidden = (teacher, student)
        self._run: tuple[Any, Any] = self._hidden
        self.teacher_type: torch.dtype | None = None
        self.untrained = self._unreached()
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(name not in set(self.untrained))
        # None: float32 weights, autocast like the student. Else the teacher is in this type and not autocast.
        self.teacher_type = teacher_type
        if teacher_type is not None:
            teacher.to(teacher_type)
        if compile:
            self._run = (
                torch.compile(self._hidden[0], dynamic=False),
                torch.compile(self._hidden[1], dynamic=False),
            )

    def on_fit_start(self) -> None:
        """Lightning moves only what it knows of: the teacher follows by hand."""
        teacher, _ = self._hidden
        teacher.to(self.device)

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The loss's terms, {"loss_qq": …}, for a batch of data.batches (see Batch)."""
        written = None
        if self.training and self.writer is not None and self.writer.writes(batch):
            batch, written = self.writer(batch)
        ids, mask, masked = batch["input_ids"], batch["mask"], batch["masked"]
        segments = batch["segments"]
        _, student = self._run

        def teach() -> Seen:
            return self._teach(ids, mask, masked, segments)

        views = Views(
            student=student(ids, mask, masked, segments),
            teacher=teach() if self.targets is None else self.targets(batch["blocks"], ids.shape[1], teach),
            mask=mask,
            labels=batch["labels"],
            ids=ids,
            backend=self.backend,
            written=written,
        )
        terms: dict[str, Tensor] = self.loss(views)
        return terms

    @torch.no_grad()
    def _teach(
        self, ids: Tensor, mask: Tensor | None, masked: Tensor | None, segments: Tensor | None = None
    ) -> Seen:
        teacher, _ = self._run
        own_type = self.teacher_type is not None
        with torch.autocast(ids.device.type, enabled=False) if own_type else nullcontext():
            seen: Seen = teacher(ids, mask, masked, segments)
        return seen

    def _unreached(self) -> list[str]:
        """Names of the student's parameters that the loss has no gradient for; they stay as initialised.

        Found by asking: one backward pass on two short samples. The teacher sees other tokens than the student,
        so that a student which equals its teacher has a gradient too.
        """
        vocabulary = int(self.student.config.vocab_size)
        ids = torch.arange(16).reshape(2, 8) * 7919 % max(vocabulary - 8, 1) + 5
        ids = ids % vocabulary
        masked, labels = None, None
        if self.loss.masked_share:
            masked, labels = torch.tensor([1, 3, 9, 12]), torch.tensor([6, 7, 8, 9]) % vocabulary
        _, student = self._hidden
        views = Views(
            student(ids, None, masked), self._teach(ids.flip(1), None, masked), None, labels, ids=ids
        )
        torch.stack(list(self.loss(views).values())).sum().backward()
        parameters = dict(self.student.named_parameters())
        names = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
        self.zero_grad()
        return names


def distil(job: Distillation, folder: RunFolder) -> dict[str, Any]:
    """Distil (or, without an objective, initialise) and save the student; returns its part of the record."""
    how, scale, cache = job.how, job.scale, job.how.cache
    journal = journal_of(folder, how)
    tokenizer = job.teacher.tokenizer(cache)

    def texts() -> Texts:
        return open_stream(job.corpus, tokenizer, scale, job.seed, how).texts(TEXTS)

    teacher, student, choice = load_pair(
        job.teacher, job.student, job.loss.reads, tokenizer, job.head, job.seed, cache, texts
    )
    chosen = {"layers_copied": dataclasses.asdict(choice)} if choice else {}
    model = student.model
    what: Any = OmegaConf.to_container(OmegaConf.load(folder.path / "config.yaml").what)
    facts = _facts(job, model)
    if choice:
        facts["initialisation"] += f"; chosen: layers {', '.join(map(str, choice.layers))}"

    def save(untrained: list[str]) -> None:
        card = model_card(folder.name, what, facts, untrained, kind=type(model).__name__)
        model.requires_grad_(True)
        save_model(folder.path / "student", model, tokenizer, card)

    if not job.objective.trains:
        save([])
        return {"names": job.names(), **_size(model), **chosen}

    share, masking = job.loss.masked_share, None
    if share:
        masking = masking_for(tokenizer, job.seed, share, int(job.teacher.config(cache).vocab_size))
    stream = open_stream(job.corpus, tokenizer, scale, job.seed, how, masking)
    targets = _targets(job, stream.blocks)
    writer = None
    if job.loss.on_policy is not None:
        writer = Writer(model, tokenizer, job.loss.on_policy, job.seed, scale.batch_size)
    module = _module(job, student, teacher, targets, writer)
    held_out = stream.held_out(journal)
    callbacks = [held_out]
    evaluator = job.evaluator
    if evaluator.measures:
        evaluator.prepare(how.paths.hub, cache)
        taken = evaluator.wrap(model, tokenizer)
        every = evaluator.every or max(1, scale.steps // 10)
        callbacks.append(Evaluating(journal, {"evaluation": lambda _: evaluator(taken)}, every))

    def complete() -> Product:
        losses = held_out.first_and_last("held_out_loss")
        facts["tokens seen"] = f"{journal.tokens:,}"
        facts["held-out loss"] = "{first:.4f} before, {last:.4f} after".format(**losses)
        save(module.untrained)
        record = {
            **_size(model),
            **chosen,
            "loss": journal.recent.get("loss"),
            "held_out_loss": losses,
            "steps": scale.steps,
            "corpus": dataclasses.asdict(stream.blocks.index),
            "untrained": module.untrained,
            **({"soft_targets": {"read": targets.read, "computed": targets.computed}} if targets else {}),
            **({"evaluation": callbacks[1].first_and_last("evaluation")} if evaluator.measures else {}),
        }
        summary = {"held_out_loss": losses["last"], "tokens_seen": journal.tokens}
        assistant = job.teacher.run if isinstance(job.teacher, AssistantTeacher) else None
        return Product(record, summary, student=folder.path / "student", used=assistant)

    training = Training(module, stream.batches, scale.steps, job.seed, callbacks)
    return train(training, journal, folder, how, job.names(), complete)


def _targets(job: Distillation, blocks: Blocks) -> SoftTargets | None:
    """What of the teacher can be kept on disk: its likeliest next tokens, where nothing else of it is read."""
    reads, impl, cache = job.loss.reads[1], job.how.impl, job.how.cache
    if job.loss.on_policy is not None or reads.top is None:
        return None
    if reads != Needs(next_tokens=True, top=reads.top):
        return None
    # Rounding is part of what is kept, so that a run that goes on reads what it has read.
    rounding = [precision_of(impl, job.how.trainer.accelerator), impl.teacher_precision]
    config = job.teacher.config(cache)
    return SoftTargets(
        cache, blocks, [job.teacher.identity(cache), rounding], reads.top, int(config.vocab_size)
    )


def _module(
    job: Distillation,
    student: Tapped,
    teacher: Tapped,
    targets: SoftTargets | None,
    writer: Writer | None,
) -> Distiller:
    impl: Impl = job.how.impl
    accelerator = job.how.trainer.accelerator
    precision = precision_of(impl, accelerator)
    use_fastest_attention(student.model, not uses_gpu(accelerator), precision, job.scale.length)
    if impl.checkpointing:
        _checkpoint_activations(student.model)
    return Distiller(
        student,
        teacher,
        copy.deepcopy(job.loss),
        job.optim,
        job.scale.steps,
        backend=impl.backend,
        compile=impl.compile,
        # Lightning cannot clip under fp16's loss scaling with a fused optimizer.
        fused=precision != "16-mixed",
        teacher_type=TYPES[impl.teacher_precision],
        targets=targets,
        writer=writer,
    )


def _checkpoint_activations(student: PreTrainedModel) -> None:
    if not student.supports_gradient_checkpointing:
        raise LabError(
            f"impl.checkpointing=true: '{student.config.model_type}' models cannot recompute their activations"
        )
    student.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _facts(job: Distillation, student: PreTrainedModel) -> dict[str, str]:
    """What the model card says of the distillation."""
    size = _size(student)
    layer = job.teacher.distilled_layer(job.teacher.config(job.how.cache))
    return {
        "teacher": f"{job.teacher.name}, layer {layer}",
        "student": f"{size['layers']} layers, hidden size {size['hidden_size']}, "
        f"{student.config.num_attention_heads} heads, {size['parameters']['total'] / 1e6:.1f} M parameters",
        "objective": job.loss.label(),
        "corpus": job.corpus.name,
        "initialisation": f"layers: {job.student.init.layers}, embeddings: {job.student.init.embeddings}",
    }


def _size(student: PreTrainedModel) -> dict[str, Any]:
    return {
        "parameters": count_parameters(student.base_model),
        "layers": int(student.config.num_hidden_layers),
        "hidden_size": int(student.config.hidden_size),
    }
