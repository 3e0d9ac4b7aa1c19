"""Load the two models of a distillation: as much of the teacher as is read, and the student's start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.models.causal import saved_with_head, with_head
from minilm_lab.models.layer_choice import Choice, Texts, choose_layers
from minilm_lab.models.mlm import new_masked_lm, with_body
from minilm_lab.models.self_check import self_check
from minilm_lab.models.sources import check_tokenizer
from minilm_lab.models.student import Student, build_student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher

log = logging.getLogger(__name__)


def load_pair(
    teacher: Teacher,
    student: Student,
    reads: tuple[Needs, Needs],
    tokenizer: PreTrainedTokenizerBase,
    head: Path | None,
    seed: int,
    cache: Path,
    texts: Callable[[], Texts] | None = None,
) -> tuple[Tapped, Tapped, Choice | None]:
    """Return views of (teacher, student), both checked against the library's own forward passes, and which layers were
    chosen where the student's are `measured` on `texts`.

    reads: what the loss reads of the student and of the teacher.
    head: folder of the teacher with a masked-LM head of its own training, where its logits are read;
    None: the checkpoint's. The student's model is a body, a masked-LM model where the student's logits are read, or a
    causal model with its head where `student.head` says so. The same (student, teacher, seed) gives the same body whatever the objective.
    """
    config = teacher.config(cache)
    distilled = teacher.distilled_layer(config)
    of_student, of_teacher = reads
    whole_depth = int(config.num_hidden_layers)
    layers = max(distilled, of_teacher.layers(whole_depth))
    if student.init.measured:
        layers = whole_depth
    elif isinstance(student.init.layers, list):
        layers = max(layers, student.init.layers[-1])
    keys = student.head(config, needed=of_student.next_tokens)
    if of_teacher.logits:
        whole = teacher if head is None else replace(teacher, path=str(head), hub=None, package=None)
        model = whole.masked_lm(cache)
        body = cast(PreTrainedModel, model.base_model)
    elif of_teacher.next_tokens or (
        keys is not None and (saved_with_head(config) or keys == "teacher_frozen")
    ):
        model = teacher.causal_lm(cache, layers)
        body = cast(PreTrainedModel, model.base_model)
    else:
        model = body = teacher.body(cache, layers=layers)
    check_tokenizer(tokenizer, config, teacher.name)
    choice = None
    if student.init.measured:
        assert texts is not None
        depth = int(student.config(config).num_hidden_layers)
        choice = choose_layers(student.init.layers, body, depth, texts())
        log.info("student.init.layers=%s: layers %s", student.init.layers, choice.layers)
        student = replace(student, init=replace(student.init, layers=choice.layers))
    start = build_student(student, body, distilled, seed, config)
    if of_student.logits:
        start = with_body(new_masked_lm(start.config, seed), start)
        if of_teacher.logits and student.init.layers != "random":
            _copy_head(model, start)
    elif keys is not None:
        copied = model is not body and student.init.embeddings != "random"
        start = with_head(start, keys, model if copied or keys == "teacher_frozen" else None, seed)
    start.train()
    reading = {"rotary": teacher.rotary, "grouped": teacher.grouped}
    views = Tapped(model, of_teacher, **reading), Tapped(start, of_student, **reading)
    for view, name in zip(views, (f"the teacher {teacher.name}", "the student made from it"), strict=True):
        try:
            self_check(view, int(config.vocab_size))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            log.debug("self-check of %s", name, exc_info=True)
            raise LabError(
                f"{name} cannot compute a forward pass ({type(error).__name__}: {str(error).splitlines()[0]}); a value of "
                "config.json does not fit the weights"
            ) from error
    return *views, choice


def _copy_head(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Start the student's masked-LM head as the teacher's, as DistilBERT does with its layers."""
    # All but the body; the decoder's weight is the word embeddings, which have their own rule.
    tied = {id(p) for p in student.base_model.parameters()}
    theirs = dict(teacher.named_parameters(remove_duplicate=False))
    for name, parameter in student.named_parameters(remove_duplicate=False):
        if id(parameter) not in tied and name in theirs and theirs[name].shape == parameter.shape:
            parameter.data.copy_(theirs[name].data)
