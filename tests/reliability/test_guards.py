"""What is not finite stops a run and is named to the step and sample; spikes are written; float16's skips are counted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from objectives.helpers import bert, bind, views_of
from torch import Tensor
from training.helpers import lines
from transformers import AutoModel

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.data.loading import batches_per_epoch, epoch_order
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.tapped import Tapped
from minilm_lab.objectives.hidden_relation import HiddenRelationObjective
from minilm_lab.objectives.relations import PAIRS, RelationObjective
from minilm_lab.training import distiller, finetuner
from minilm_lab.training.checkpoints import newest_whole
from minilm_lab.training.distiller import Distiller
from minilm_lab.training.finetuner import Finetuner
from minilm_lab.training.guards import SPIKE_LEAST, SPIKE_WINDOW, Guards, samples_of
from minilm_lab.training.settings import Optim


class Spoilt(Distiller):
    """Does what `spoil` says to the losses of a micro-batch; `gradients` to the gradients of a step."""

    spoil: ClassVar[Callable[[int, Tensor], Tensor]]
    gradients: ClassVar[Callable[[int, Tensor], None]]
    seen: ClassVar[list[list[int]]]
    batches = 0

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        Spoilt.seen.append(batch["samples"].tolist())
        found = super().training_step(batch, index)
        return {**found, "loss": Spoilt.spoil(self.global_step + 1, found["loss"])}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                Spoilt.gradients(self.global_step + 1, parameter.grad)


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> type[Spoilt]:
    Spoilt.spoil = lambda step, loss: loss
    Spoilt.gradients = lambda step, gradient: None
    Spoilt.seen = []
    monkeypatch.setattr(distiller, "Distiller", Spoilt)
    return Spoilt


def run(words: list[str], *more: str) -> Path:
    ready = plan(compose_command("distill", [*words, *more]))
    ready.make()
    return ready.folder.path


def folder_of(words: list[str], *more: str) -> Path:
    return plan(compose_command("distill", [*words, *more])).folder.path


#: A line is due every 5 steps; the first bad step is in the middle of a window.
EVERY = ["trainer.log_every=5", "trainer.checkpoint_every=5", "seed=9"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_is_named(
    tiny: list[str], spoilt: type[Spoilt], value: float, accumulate: int
) -> None:
    spoilt.spoil = lambda step, loss: loss * value if step >= 8 else loss
    words = [*EVERY, f"trainer.accumulate={accumulate}"]
    with pytest.raises(LabError) as error:
        run(tiny, *words)
    folder = folder_of(tiny, *words)
    text = str(error.value)
    assert "the loss is not finite at step 8" in text and "optim.lr" in text and "seed 9" in text
    # The samples are those that the module really saw at that step.
    seen = [number for batch in spoilt.seen[7 * accumulate : 8 * accumulate] for number in batch]
    assert f"samples {seen[0]} to {seen[-1]}" in text and seen == list(range(56, 64))
    # Nothing of a bad step is kept: the last checkpoint is that of step 5, and it is the one that is named.
    whole = newest_whole(folder / "checkpoints")
    assert whole is not None and whole.name == "step-000000005.ckpt" and str(whole) in text
    assert [line["step"] for line in lines(folder) if "loss" in line] == [5]
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "FAILED" and "step 8" in status["error"]


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_is_named(tiny: list[str], spoilt: type[Spoilt], clip: float) -> None:
    """The loss of the step is finite, and without the check its checkpoint would hold NaN."""

    def spoil(step: int, gradient: Tensor) -> None:
        if step == 5:
            gradient.view(-1)[0] = float("nan")

    spoilt.gradients = spoil
    with pytest.raises(LabError, match=r"the gradient is not finite at step 5 \(norm nan, loss \d") as error:
        run(tiny, *EVERY, f"optim.clip={clip}")
    assert "samples 32 to 39" in str(error.value) and "there is no checkpoint yet" in str(error.value)


def test_a_finetuning_names_its_examples(
    tiny: list[str], tiny_tune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Bad(Finetuner):
        def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
            seen.append(batch["input_ids"])
            found = super().training_step(batch, index)
            return {"loss": found["loss"] * (float("nan") if self.global_step + 1 == 9 else 1.0)}

    monkeypatch.setattr(finetuner, "Finetuner", Bad)
    cfg = compose_command("finetune", [*tiny, *tiny_tune, "source=teacher", "tune.seed=4"])
    ready = plan_finetune(cfg)
    with pytest.raises(LabError, match="the loss is not finite at step 9") as error:
        ready.make()
    found = re.search(r"its batch: samples ([\d, ]+), with seed 4", str(error.value))
    assert found is not None
    numbers = [int(number) for number in found[1].split(", ")]
    # Step 9 is the second batch of the second epoch of 50 examples; what it saw are these examples' texts.
    assert batches_per_epoch(50, 8) == 7
    tokenizer = sources.load_tokenizer(ready.job.source, None, "source")
    features = ready.job.task.features(ready.job.splits, "train", tokenizer)
    assert numbers == epoch_order(features.lengths, seed=4, epoch=1, batch_size=8)[1].tolist()
    for row, number in zip(seen[8], numbers, strict=True):
        length = int(features.lengths[number])
        assert row[:length].tolist() == features.input_ids[number].tolist()


def test_a_spike_is_written_down_and_training_goes_on(
    tiny: list[str], spoilt: type[Spoilt], caplog: pytest.LogCaptureFixture
) -> None:
    spoilt.spoil = lambda step, loss: loss * 0 + (9.0 if step == 33 else 2.0 + 0.1 * (step % 2))
    folder = run(tiny, "scale.steps=50", "trainer.log_every=10")
    spikes = [line["spike"] for line in lines(folder) if "spike" in line]
    before = [2.0 + 0.1 * (step % 2) for step in range(1, 33)]
    mean = sum(before) / 32
    sd = (sum((x - mean) ** 2 for x in before) / 31) ** 0.5
    assert len(spikes) == 1 and spikes[0]["step"] == 33 and spikes[0]["loss"] == 9.0
    assert spikes[0]["mean"] == pytest.approx(mean) and spikes[0]["sd"] == pytest.approx(sd)
    assert "the loss jumped to 9 at step 33" in caplog.text
    assert json.loads((folder / "status.json").read_text())["state"] == "COMPLETED"


class Trainer:
    """As much of a trainer as the guard asks for."""

    def __init__(self, scaler: object = None) -> None:
        self.global_step, self.max_steps = 0, 10**9
        self.accumulate_grad_batches, self.world_size, self.global_rank = 1, 1, 0
        self.is_global_zero = True
        self.precision_plugin = SimpleNamespace(scaler=scaler)


class Written:
    """A journal that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, trainer: Any, values: dict[str, Any]) -> None:
        self.lines.append(values)


def guarded(trainer: Trainer, every: int = 10) -> tuple[Guards, Written, Callable[[float, float], None]]:
    """A guard, what it writes, and a function that does a step with a loss and a gradient norm."""
    journal = Written()
    guard = Guards(journal, lambda step, rank, world: None, Path("nowhere"), every, seed=0)  # type: ignore[arg-type]
    module = SimpleNamespace(gradient_norm=None)
    guard.on_train_start(trainer, module)  # type: ignore[arg-type]

    def step(loss: float, norm: float = 1.0) -> None:
        trainer.global_step += 1
        module.gradient_norm = torch.tensor(norm)
        guard.on_train_batch_end(trainer, module, {"loss": torch.tensor(loss)}, {}, 0)  # type: ignore[arg-type]

    return guard, journal, step


def test_skipped_steps_of_float16_are_counted_and_no_error() -> None:
    guard, journal, step = guarded(Trainer(scaler=object()))
    for number in range(40):
        step(1.0, float("inf") if number in (0, 1, 25) else 1.0)
    assert guard.skipped == 3
    assert journal.lines == [{"skipped_steps": 2}, {"skipped_steps": 3}]
    with pytest.raises(LabError, match=r"the loss is not finite at step 45 \(nan\)"):
        for number in range(10):
            step(float("nan") if number == 4 else 1.0)


def test_steps_that_no_scale_saves_stop_the_run() -> None:
    _, _, step = guarded(Trainer(scaler=object()))
    with pytest.raises(LabError, match="not finite at step 53, for 50 steps in a row"):
        for number in range(60):
            step(1.0, float("nan") if number >= 3 else 1.0)


def test_without_a_scaler_one_such_step_stops_the_run() -> None:
    _, _, step = guarded(Trainer())
    with pytest.raises(LabError, match=r"the gradient is not finite at step 3 \(norm inf, loss 1\)"):
        for number in range(10):
            step(1.0, float("inf") if number == 2 else 1.0)


def test_the_window_of_spikes_is_resumed() -> None:
    """A guard restored from its state writes what the unbroken one writes."""

    def losses(step: int) -> float:
        return 50.0 if step == 57 else 3.0 - step / 100 + 0.05 * (step % 3)

    _, whole, step = guarded(Trainer())
    for number in range(1, 81):
        step(losses(number))
    first, _, step = guarded(trainer := Trainer())
    for number in range(1, 51):
        step(losses(number))
    second, resumed, step = guarded(trainer)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for number in range(51, 81):
        step(losses(number))
    assert whole.lines == resumed.lines and len(whole.lines) == 1
    assert len(second.recent) == 80 < SPIKE_WINDOW


def test_ordinary_curves_have_no_spikes() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(4, 1000, generator=generator)
    curves = {
        "constant": [1.0] * 1000,
        "zero": [0.0] * 1000,
        "noise": [2 + 0.3 * float(x) for x in noise[0]],
        "falling": [10 * 0.99**n + 0.05 * abs(float(x)) for n, x in enumerate(noise[1])],
        "rising": [1 + n / 100 + 0.05 * float(x) for n, x in enumerate(noise[2])],
        "rounding": [1.0 + 1e-7 * float(x) for x in noise[3]],
        "short": [1.0] * (SPIKE_LEAST - 1) + [1e9],
    }
    for name, values in curves.items():
        _, journal, step = guarded(Trainer())
        for value in values:
            step(value)
        assert not journal.lines, name


def test_samples_are_told() -> None:
    assert (
        samples_of(SimpleNamespace(batch_sampler=iter([range(4, 8), range(8, 12)])), 2) == "samples 4 to 11"
    )
    assert samples_of(SimpleNamespace(sampler=iter([[5, 3], [9, 9]])), 1) == "samples 5, 3"
    assert samples_of(SimpleNamespace(sampler=iter([list(range(0, 200, 2))])), 1).endswith("126 …")
    assert samples_of(None, 1) == "samples unknown"


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_student_that_equals_its_teacher_gives_zero(pair: str, backend: str) -> None:
    """Every relation: in float64, as the objective computes it."""
    config = bert(layers=4)
    bound = bind(RelationObjective(relations=[pair], heads=6), config, config, 4)
    (loss,) = bound(views_of(bound, config, config, same=True, backend=backend)).values()
    assert abs(float(loss.detach())) < 1e-12
    other = bound(views_of(bound, config, config, backend=backend))
    assert all(float(loss) > 0.01 for loss in other.values())


@pytest.mark.parametrize(
    "words",
    [
        ["objective=minilm"],
        ["objective=minilmv2", "objective.heads=12"],
        ["objective=layer_to_layer", "objective.heads=12"],
    ],
    ids=["minilm", "minilmv2", "layer_to_layer"],
)
def test_the_teacher_as_its_own_student_has_no_loss(
    words: list[str], tiny: list[str], tiny_teacher: Path
) -> None:
    """The whole path: models, taps, objective, in float32."""
    kept = [word for word in tiny if not word.startswith(("objective", "student"))]
    ready = plan(compose_command("distill", [*kept, *words]))
    body = AutoModel.from_pretrained(tiny_teacher).eval()
    twin = AutoModel.from_pretrained(tiny_teacher).eval()
    loss = ready.job.objective.bind(body.config, body.config, 4)
    ours, theirs = loss.reads
    module = Distiller(Tapped(twin, ours), Tapped(body, theirs), loss, Optim(), 1)
    twin.eval()
    ids = torch.arange(32).reshape(2, 16) % 100 + 5
    batch = {"input_ids": ids, "mask": None, "masked": None, "labels": None, "segments": None}
    losses = module.losses(batch)
    assert losses and all(abs(float(value.detach())) < 1e-6 for value in losses.values()), losses
    # It can tell: one weight that moves gives a loss.
    with torch.no_grad():
        twin.encoder.layer[0].output.dense.weight.mul_(1.5)
    assert float(module.losses(batch)["loss"].detach()) > 1e-4


def test_hidden_relations_of_a_twin_give_zero() -> None:
    config = bert(layers=4)
    bound = bind(HiddenRelationObjective(), config, config, 4)
    losses = bound(views_of(bound, config, config, same=True))
    assert losses and all(abs(float(loss.detach())) < 1e-12 for loss in losses.values())


def test_a_good_step_begins_the_count_of_skipped_ones_anew() -> None:
    guard, _, step = guarded(Trainer(scaler=object()))
    for number in range(300):
        step(1.0, 1.0 if number % 45 == 44 else float("inf"))
    assert guard.skipped > 250
