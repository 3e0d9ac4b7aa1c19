"""Distillation: what is trained and what is not, against the libraries' own models and plain formulas."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.data import held_out_batches
from minilm_lab.models.student import build_student
from minilm_lab.training import distiller
from minilm_lab.training.callbacks import RandomnessByStep
from minilm_lab.training.distiller import Distiller
from minilm_lab.training.optimizer import configure
from minilm_lab.training.settings import Optim
from minilm_lab.training.stream import open_stream

from .helpers import column, record


class Watched(Distiller):
    """Remembers what happens to the models during the fit."""

    last: ClassVar[Watched]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        Watched.last = self
        self.start = copied(self.student.state_dict())
        self.teacher_start = copied(self._hidden[0].state_dict())
        self.teacher_modes: set[bool] = set()
        self.student_modes: set[bool] = set()
        self.norms: list[float] = []

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        self.teacher_modes |= {m.training for m in self._hidden[0].modules()}
        self.student_modes |= {m.training for m in self.student.modules()}
        return super().training_step(batch, index)

    def configure_gradient_clipping(self, optimizer: Any, *rest: Any, **options: Any) -> None:
        super().configure_gradient_clipping(optimizer, *rest, **options)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.norms.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distiller, "Distiller", Watched)


def run(words: Sequence[str], *more: str) -> tuple[Any, Path, Watched]:
    """Distil in this process; the plan, the run's folder and the module that was trained."""
    ready = plan(compose_command("distill", [*words, *more]))
    ready.make()
    return ready, ready.folder.path, Watched.last


def test_the_teacher_stays_as_it_was_and_the_student_trains(tiny: list[str], tiny_teacher: Path) -> None:
    _, folder, module = run(tiny, "student.dropout=0.1")
    assert module.teacher_modes == {False}
    assert module.student_modes == {True}
    teacher = module._hidden[0]
    assert not any(p.requires_grad for p in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, module.teacher_start[name]), name
    assert not [name for name, _ in module.named_parameters() if not name.startswith("student.")]

    untrained = set(record(folder)["untrained"])
    ours = {f"encoder.layer.1.{part}" for part in ("attention.output", "intermediate", "output")} | {"pooler"}
    kinds = {name.rpartition(".dense.")[0] or name.rpartition(".LayerNorm.")[0] for name in untrained}
    assert kinds == ours
    saved = load_file(folder / "student" / "model.safetensors")
    assert saved.keys() == module.start.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, module.start[name]) == (name in untrained), name


def test_the_student_starts_as_the_same_student_without_distillation_does(tiny: list[str]) -> None:
    _, _, module = run(tiny)
    words = [word for word in tiny if not word.startswith("objective.")]
    ready = plan(compose_command("distill", [*words, "objective=none"]))
    ready.make()
    control = load_file(ready.folder.path / "student" / "model.safetensors")
    assert control.keys() == module.start.keys()
    for name, tensor in control.items():
        assert torch.equal(tensor, module.start[name]), name


def test_decay_spares_biases_and_layer_norms(tiny: list[str]) -> None:
    _, _, module = run(tiny, "scale.steps=1")
    names = {id(p): name for name, p in module.named_parameters()}
    optim = Optim(lr=1e-3, weight_decay=0.3)
    decayed, spared = configure(module, optim, 10, fused=True)["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.3 and spared["weight_decay"] == 0
    for group, plain in ((decayed, False), (spared, True)):
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert (name.endswith("bias") or "LayerNorm" in name) == plain, name
    held = {id(p) for group in (decayed, spared) for p in group["params"]}
    assert held == {id(p) for p in module.parameters() if p.requires_grad}


def test_muon_takes_the_matrices_of_layers_and_adamw_the_rest(tiny: list[str], tmp_path: Path) -> None:
    """Against the library's two optimizers, each on its parameters; and a killed run goes on to the bit."""
    _, folder, module = run(tiny, "optim=muon", "scale.steps=8", "student.dropout=0.0", "optim.lr=1e-3")
    names = {name for name, p in module.student.named_parameters() if p.requires_grad}
    layers = {n for n in names if n.endswith("weight") and "LayerNorm" not in n and "embeddings" not in n}
    optim = Optim(optimizer="muon", lr=1e-2, weight_decay=0.3)
    optimizer = configure(module, optim, 10, fused=False)["optimizer"]
    parameters = dict(module.student.named_parameters())
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(parameters[name]) for name in layers}
    draw = torch.Generator().manual_seed(4)
    twins = {name: parameters[name].detach().clone().requires_grad_() for name in names}
    plain = [
        torch.optim.Muon(
            [twins[n] for n in sorted(layers)], lr=1e-2, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [
                {"params": [twins[n] for n in names - layers if twins[n].ndim > 1], "weight_decay": 0.3},
                {"params": [twins[n] for n in names if twins[n].ndim < 2], "weight_decay": 0.0},
            ],
            lr=1e-2,
            eps=optim.eps,
        ),
    ]
    for step in range(3):
        for name in sorted(names):
            twins[name].grad = torch.randn(twins[name].shape, generator=draw)
            parameters[name].grad = twins[name].grad.clone()
        if step == 1:  # what a checkpoint holds goes into a new one
            state = optimizer.state_dict()
            optimizer = configure(module, optim, 10, fused=False)["optimizer"]
            optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        for each in (*plain, optimizer):
            each.step()
    for name in names:
        assert torch.allclose(parameters[name], twins[name], atol=1e-7), name
    losses = record(folder)["held_out_loss"]
    assert losses["last"] < losses["first"]


def test_the_rate_rises_and_falls_linearly(tiny: list[str]) -> None:
    _, folder, _ = run(tiny, "scale.steps=20", "optim.warmup=0.2", "optim.lr=1e-3")
    after = [step / 4 if step < 4 else (20 - step) / 16 for step in range(1, 21)]
    assert column(folder, "lr") == pytest.approx([1e-3 * share for share in after])


def test_gradients_are_clipped_under_bf16_with_fused_adamw(tiny: list[str]) -> None:
    _, folder, module = run(tiny, "impl.precision=bf16", "optim.clip=0.01")
    assert record(folder)["precision"] == "bf16-mixed"
    assert module.trainer.optimizers[0].defaults["fused"]
    assert module.norms == pytest.approx([0.01] * 16, rel=1e-3)
    free = run(tiny, "optim.clip=0")[2].norms
    assert min(free) > 0.02


def losses(words: Sequence[str], runs: Path, *more: str) -> list[float]:
    _, folder, _ = run(words, "student.dropout=0", f"paths.runs={runs}", *more)
    return column(folder, "loss")


def test_accumulation_and_backend_change_no_loss_beyond_rounding(tiny: list[str], tmp_path: Path) -> None:
    first = losses(tiny, tmp_path / "first", "impl.backend=blockwise")
    assert first[-1] < 0.9 * first[0]
    for number, how in enumerate(
        (["trainer.accumulate=2"], ["trainer.accumulate=8"], ["impl.backend=reference"], ["impl.workers=1"])
    ):
        other = losses(tiny, tmp_path / str(number), *how)
        assert other == pytest.approx(first, rel=2e-4), how
    assert losses(tiny, tmp_path / "other", "seed=1") != pytest.approx(first, rel=1e-2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_changes_no_loss_and_leaves_no_trace(tiny: list[str], tmp_path: Path) -> None:
    plain = losses(tiny, tmp_path / "plain", "scale.steps=4")
    assert losses(tiny, tmp_path / "compiled", "scale.steps=4", "impl.compile=true") == pytest.approx(
        plain, rel=1e-4
    )
    (student,) = (tmp_path / "compiled" / "distill").glob("*/student/model.safetensors")
    assert not [name for name in load_file(student) if "_orig_mod" in name]


def projections(model: Any, layer: int, ids: Tensor) -> list[Tensor]:
    """Query, key and value of a layer (from 1) in the library's own forward, in float64."""
    attention = model.encoder.layer[layer - 1].attention.self
    found: dict[str, Tensor] = {}
    hooks = [
        getattr(attention, name).register_forward_hook(
            lambda _m, _i, output, name=name: found.__setitem__(name, output.double())
        )
        for name in ("query", "key", "value")
    ]
    with torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return [found[name] for name in ("query", "key", "value")]


def relation_loss(student: list[Tensor], teacher: list[Tensor], heads: int) -> Tensor:
    """Sum over QQ, KK, VV of the mean over (sequence, head, query) of KL(teacher || student)."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        logs = []
        for x in (s, t):
            batch, length, width = x.shape
            x = x.view(batch, length, heads, width // heads).transpose(1, 2)
            logs.append((x @ x.transpose(-1, -2) / (width // heads) ** 0.5).log_softmax(-1))
        total += (logs[1].exp() * (logs[1] - logs[0])).sum(-1).mean()
    return total


@pytest.mark.parametrize(
    "batch", [8, 3]
)  # four blocks are held out: in one batch, or in two of three and one
def test_the_held_out_losses_are_those_of_the_saved_models(
    batch: int, tiny: list[str], tiny_teacher: Path
) -> None:
    more = ["student.dropout=0.1", "teacher.layer=3", "trainer.held_out_every=5", f"scale.batch_size={batch}"]
    ready, folder, _ = run(tiny, *more)
    job = ready.job
    teacher = AutoModel.from_pretrained(tiny_teacher).eval()
    tokenizer = job.teacher.tokenizer(job.how.cache)
    blocks = open_stream(job.corpus, tokenizer, job.scale, 0, job.how).blocks
    ids = torch.cat([batch["input_ids"] for batch in held_out_batches(blocks, 8, 256)])
    assert len(ids) == len(blocks.held_out) > 0
    target = projections(teacher, 3, ids)

    first = build_student(job.student, teacher, 3, seed=0).eval()
    last = AutoModel.from_pretrained(folder / "student").eval()
    expected = [float(relation_loss(projections(m, 2, ids), target, 12)) for m in (first, last)]
    told = record(folder)["held_out_loss"]
    assert [told["first"], told["last"]] == pytest.approx(expected, rel=1e-4)
    assert told["last"] < told["first"]
    measured = [
        (line, value) for line, value in zip(steps_of(folder), column(folder, "held_out_loss"), strict=True)
    ]
    assert [step for step, _ in measured] == [0, 5, 10, 15, 16]
    assert (measured[0][1], measured[-1][1]) == (told["first"], told["last"])


def test_pairs_reach_both_models_with_their_segments(tiny: list[str], tiny_teacher: Path) -> None:
    """The held-out loss, against the library's models on the same tokens with their segment ids."""
    words = [word for word in tiny if not word.startswith("objective")]
    ready, folder, _ = run(words, "objective=embedding", "corpus.packing=pairs", "scale.length=24")
    job = ready.job
    blocks = open_stream(job.corpus, job.teacher.tokenizer(job.how.cache), job.scale, 0, job.how).blocks
    [batch] = held_out_batches(blocks, 256)
    assert 0 < int(batch["segments"].sum()) < int(batch["mask"].sum())
    given = {"input_ids": batch["input_ids"], "attention_mask": batch["mask"].long()}

    def vectors(model: Any, **more: Tensor) -> Tensor:
        states, mask = model.eval()(**given, **more).last_hidden_state, batch["mask"][..., None]
        return (states * mask).sum(1) / mask.sum(1)

    def loss(**more: Tensor) -> float:
        models = (AutoModel.from_pretrained(path) for path in (folder / "student", tiny_teacher))
        student, teacher = (vectors(model, **more) for model in models)
        return float((1 - torch.cosine_similarity(student, teacher)).mean().detach())

    told = record(folder)["held_out_loss"]
    assert told["last"] == pytest.approx(loss(token_type_ids=batch["segments"]), rel=1e-4)
    assert told["last"] != pytest.approx(loss(), rel=1e-2)
    assert told["last"] < told["first"]


def steps_of(folder: Path) -> list[int]:
    from .helpers import lines

    return [line["step"] for line in lines(folder) if "held_out_loss" in line]


def test_a_copy_of_the_teacher_has_nothing_to_learn(tiny: list[str]) -> None:
    _, folder, _ = run(
        tiny,
        "scale.steps=1",
        "student.depth_ratio=1.0",
        "student.init.layers=first",
        "student.init.embeddings=teacher",
        "student.dropout=0",
    )
    assert abs(record(folder)["held_out_loss"]["first"]) < 1e-6
    assert abs(column(folder, "loss")[0]) < 1e-6


def test_recomputed_activations_change_nothing(tiny: list[str], tmp_path: Path) -> None:
    _, plain, _ = run(tiny, "student.dropout=0.1")
    words = [*tiny, f"paths.runs={tmp_path / 'again'}", "impl.checkpointing=true"]
    _, again, module = run(words, "student.dropout=0.1")
    assert column(again, "loss") == column(plain, "loss")
    layers = [m for m in module.student.modules() if hasattr(m, "gradient_checkpointing")]
    assert layers and any(layer.gradient_checkpointing for layer in layers)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_teacher_runs_in_the_type_it_is_told(precision: str, tiny: list[str], tmp_path: Path) -> None:
    _, plain, _ = run(tiny)
    words = [*tiny, f"paths.runs={tmp_path / 'again'}", f"impl.teacher_precision={precision}"]
    _, again, module = run(words)
    wanted = {"32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert {p.dtype for p in module._hidden[0].parameters()} == {wanted}
    assert {p.dtype for p in module.student.parameters()} == {torch.float32}
    assert column(again, "loss") == pytest.approx(column(plain, "loss"), rel=2e-2)
    assert column(again, "loss") != column(plain, "loss") or precision == "32"


def test_each_micro_batch_draws_its_own_dropout() -> None:
    """What is drawn is a function of seed, step, micro-batch and rank, and differs in each of them."""
    drawn = {}
    for seed, step, index, rank in [
        (0, 0, 0, 0),
        (0, 0, 1, 0),
        (0, 1, 2, 0),
        (0, 1, 3, 0),
        (0, 0, 0, 1),
        (1, 0, 0, 0),
    ]:
        trainer = SimpleNamespace(accumulate_grad_batches=2, global_step=step, global_rank=rank)
        for _ in range(2):
            RandomnessByStep(seed).on_train_batch_start(trainer, None, None, index)  # type: ignore[arg-type]
            drawn.setdefault((seed, step, index, rank), []).append(torch.rand(4).tolist())
    assert all(first == again for first, again in drawn.values())
    assert len({tuple(first) for first, _ in drawn.values()}) == 6
