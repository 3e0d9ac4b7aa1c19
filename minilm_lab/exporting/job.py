"""Write an export: everything is checked first, measured before it is called done, and appears at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError
from minilm_lab.exporting import forwards, graph, heads, quantised
from minilm_lab.exporting.card import Measured, export_card
from minilm_lab.exporting.checkpoint import tensor_files
from minilm_lab.exporting.facts import facts_of
from minilm_lab.exporting.folder import check_target
from minilm_lab.exporting.forwards import of_onnx, of_torch
from minilm_lab.exporting.push import check_login
from minilm_lab.exporting.request import Request
from minilm_lab.exporting.sentence_transformers import copy_modules, describe, is_normalised, write_modules
from minilm_lab.models import sources
from minilm_lab.models.mlm import has_head
from minilm_lab.models.pooling import Pooling, read_pooling
from minilm_lab.models.resolve import Model
from minilm_lab.tasks.base import Task

log = logging.getLogger(__name__)

#: What a model that is exported may be, by the end of its class's name: a body, alone or under a language-model head.
_BODIES = ("Model", "ForMaskedLM", "ForPreTraining", "ForCausalLM")


@dataclass(frozen=True)
class Export:
    """A checked export; its weights are not loaded yet."""

    request: Request
    origin: Model
    config: PretrainedConfig
    facts: dict[str, Any]
    tokenizer: PreTrainedTokenizerBase
    probe: quantised.Probe | None
    """On which int8 is measured."""
    pooling: Pooling | None
    """What modules.json of the model, or of `modules`, says; None where it has none."""
    modules: Model
    """Whose modules.json the export gets."""
    section: str = ""
    """More for the card, such as what was measured elsewhere."""

    @property
    def out(self) -> Path:
        """The folder to write."""
        return Path(self.request.out).expanduser()

    @property
    def longest(self) -> int:
        """Tokens after which sentence embeddings cut a text: what distillation saw, or what modules.json says."""
        longest = int(self.facts["longest_input"])
        if self.pooling is None:
            return min(longest, self.origin.distilled_length or longest)
        return min(longest, self.pooling.length or int(self.tokenizer.model_max_length))

    @property
    def normalize(self) -> bool:
        """Whether sentence embeddings have length 1."""
        if self.request.normalize is not None:
            return self.request.normalize
        return self.pooling is None or is_normalised(self.pooling)

    def write(self) -> Measured:
        """Write the folder and return what was measured."""
        request = self.request
        with whole_folder(self.out, alone=False) as folder:
            whole, body = self._load()
            self.tokenizer.save_pretrained(folder)
            if request.has_weights:
                whole.save_pretrained(folder)
            else:
                self.config.save_pretrained(folder)
            embeddings = None
            if self.pooling is not None:
                copy_modules(folder, self.modules, self.pooling, self.normalize)
            elif "sentence_transformers" in request.to:
                write_modules(folder, int(self.config.hidden_size), self.longest, self.normalize)
            if self.pooling is not None or "sentence_transformers" in request.to:
                embeddings = f"{describe(self.pooling or Pooling(), self.normalize)}; texts are cut to {self.longest} tokens"
            measured = self._write_onnx(body, folder / "onnx") if request.has_onnx else Measured()
            card = export_card(request, self.origin, self.facts, measured, embeddings, folder)
            more = f"\n{self.section}\n" if self.section else ""
            (folder / "README.md").write_text(card + more, encoding="utf-8")
        return measured

    def _load(self) -> tuple[PreTrainedModel, PreTrainedModel]:
        """The model to save and the body in it."""
        where, revision = self.origin.where, self.origin.revision
        if self.request.mlm_head == "trained":
            whole = heads.trained_head(self.origin)
            return whole.eval(), getattr(whole, whole.base_model_prefix)
        # A pooler that the checkpoint lacks is drawn at random: it is not passed on.
        with torch.random.fork_rng(devices=[]):
            body = sources.load_body(where, revision, "run").eval()
        files = tensor_files(self.origin)
        if hasattr(body, "pooler") and files is not None and not any("pooler." in name for name in files):
            body.pooler = None
        return (heads.zero_head(body), body) if self.request.mlm_head == "zero" else (body, body)

    def _write_onnx(self, body: PreTrainedModel, folder: Path) -> Measured:
        """Write what is asked for; the float file is made in any case, int8 comes from it."""
        exact, rounded = folder / "model.onnx", folder / "model_int8.onnx"
        names = graph.input_names(body, self.tokenizer)
        longest = int(self.facts["longest_input"])
        log.info("writing ONNX, then comparing it with torch")
        graph.write_onnx(body, names, exact)
        difference = graph.check_onnx(body, names, exact, longest)
        loss = None
        if self.probe is not None:
            quantised.write_int8(exact, rounded)
            log.info("measuring what int8 costs on %s", self.probe.name)
            loss = quantised.measure_loss(
                self.probe,
                self.tokenizer,
                self.pooling or Pooling(),
                longest,
                names,
                of_onnx(exact, names),
                of_onnx(rounded, names),
            )
        seconds = None
        if self.request.times:
            forms = {"torch": of_torch(body, names), "ONNX": of_onnx(exact, names, threads=1)}
            if self.probe is not None:
                forms["ONNX int8"] = of_onnx(rounded, names, threads=1)
            seconds = forwards.forward_seconds(forms, int(self.config.vocab_size), longest)
        if "onnx" not in self.request.to:
            exact.unlink()
        return Measured(tuple(names), difference, loss, seconds)


def prepare(
    request: Request,
    origin: Model,
    task: Task,
    hub: str | None,
    cache: Path,
    *,
    modules: Model | None = None,
    section: str = "",
) -> Export:
    """Check everything that can be checked without the weights. LabError says what is wrong.

    modules: another model of the same width, whose modules.json the export gets (the teacher of a student).
    """
    check_target(Path(request.out).expanduser(), request.overwrite, origin.folder)
    config = sources.load_config(origin.where, origin.revision, "run")
    kind = (config.architectures or ["Model"])[0]
    if not kind.endswith(_BODIES):
        raise LabError(
            f"run={request.run} is a {kind}, fine-tuned for one task: its folder {origin.where} loads as it is. "
            "Exported are bodies, such as the student of a distillation"
        )
    facts = facts_of(config)
    modules = modules or origin
    pooling = read_pooling(modules.where, modules.revision)
    if request.mlm_head != "none" and not has_head(config):
        raise LabError(
            f"mlm_head={request.mlm_head}: a '{config.model_type}' model has no masked-LM head; use mlm_head=none"
        )
    if request.mlm_head == "trained" and heads.state_of_head(origin, config) in ("absent", "zero"):
        raise LabError(
            f"mlm_head=trained: {origin.title} carries no trained masked-LM head. Use mlm_head=none or zero, or "
            f"train one: minilm-lab pretrain head=mlm teacher=path teacher.path={origin.where}"
        )
    tokenizer = sources.load_tokenizer(origin.where, origin.revision, "run")
    if request.has_onnx:
        graph.check_size(facts["parameters"]["total"])
    probe = None
    if "onnx_int8" in request.to:
        if tokenizer.pad_token_id is None:
            raise LabError(
                f"to=[onnx_int8]: the tokenizer of {origin.title} has no padding token, without which int8 cannot "
                'be measured on batches of texts; set "pad_token" in its tokenizer_config.json'
            )
        quantised.check_task(task)
        probe = quantised.load_probe(task, hub, cache)
    if request.push is not None:
        check_login(request.push)
    return Export(request, origin, config, facts, tokenizer, probe, pooling, modules, section)
