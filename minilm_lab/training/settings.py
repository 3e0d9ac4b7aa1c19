"""The settings of training, as typed schemas of the groups optim, tune, scale, impl, trainer and paths."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Optional

from minilm_lab.config import plain
from minilm_lab.errors import LabError

PRECISIONS = ("auto", "32", "bf16", "16")
ACCELERATORS = ("auto", "cpu", "gpu")


def _positive(group: str, thing: object, *names: str) -> None:
    for name in names:
        value = getattr(thing, name)
        if value is not None and not value > 0:
            raise LabError(f"{group}.{name}={value} must be more than 0")


@dataclass
class Optim:
    """AdamW or Muon, without decay on biases and LayerNorm; the rate rises linearly, then falls linearly to 0."""

    optimizer: str = "adamw"
    """adamw; muon: matrices of layers are updated by the orthogonalised momentum of their gradient (torch.optim.Muon, scaled
    to AdamW's root mean square, so that lr means the same), embeddings, biases and norms by AdamW."""
    lr: float = 5e-4
    """Peak learning rate."""
    warmup: float = 0.01
    """Share of the steps in which the rate rises (the papers: 4,000 of 400,000)."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    """Adam's decay rates of the two moments."""
    eps: float = 1e-6
    """Adam's epsilon."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 = no clipping."""

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon"):
            raise LabError(f"optim.optimizer={self.optimizer}: allowed are adamw, muon")
        _positive("optim", self, "lr", "eps")
        if not 0 <= self.warmup < 1:
            raise LabError(f"optim.warmup={self.warmup} is a share of the steps: give 0 <= warmup < 1")
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise LabError(f"optim.betas={self.betas}: give two numbers in [0, 1)")
        if self.weight_decay < 0 or self.clip < 0:
            raise LabError(
                f"optim: weight_decay={self.weight_decay} and clip={self.clip} must not be negative"
            )

    def identity(self) -> dict[str, Any]:
        """What decides a result; the usual optimizer goes without saying."""
        left_out = {"optimizer"} if self.optimizer == "adamw" else set()
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}


@dataclass
class Tune(Optim):
    """Fine-tuning: the optimizer and what goes with it."""

    lr: float = 5e-5
    """Peak learning rate (the papers search 2e-5 to 5e-5)."""
    warmup: float = 0.1
    """Share of the steps in which the rate rises."""
    batch_size: int = 32
    """Sentences (or pairs) a step."""
    select: str = "last"
    """last: score of the last epoch; best: of the best epoch on dev (said in the record: it is chosen on dev)."""
    evaluate_every: Optional[int] = None
    """Steps between two evaluations on dev; null = once an epoch (a task may take too long for that: at the end)."""
    seed: int = 0
    """Seed of the task head, the order of samples and dropout."""
    save_model: bool = False
    """Also save the fine-tuned model (predictions are always saved)."""
    pooling: str = "cls"
    """cls: the library's head, on the first token; mean: a head on the mean over the tokens, as sentence encoders are
    trained. Tasks of one label a text."""
    pairs: str = "cross"
    """cross: the two texts of a pair are read together; bi: apart, and their vectors are compared."""
    teacher: Optional[str] = None
    """A model that is fine-tuned on the task first and then teaches it: "teacher", or any source; null = labels alone."""
    teacher_weight: float = 0.5
    """Share of the teacher's scores in the loss; the labels have the rest."""
    temperature: float = 1.0
    """Softens the teacher's and the student's scores."""
    augment: int = 0
    """Copies of each training row with words replaced by similar ones; an epoch is as many times as long. For small tasks,
    with a teacher."""
    teacher_lr: Optional[float] = None
    """The learning rate of the teacher's own fine-tuning; null = that of the student."""
    teacher_adapter: Optional[str] = None
    """Whether the teacher trains adapters: none or lora, by the settings of `adapter`; null = as the student does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive("tune", self, "batch_size", "evaluate_every")
        if self.augment < 0:
            raise LabError(f"tune.augment={self.augment} must be a whole number of copies, 0 or more")
        if self.seed < 0:
            raise LabError(f"tune.seed={self.seed} must be a whole number, 0 or more")
        if self.select not in ("last", "best"):
            raise LabError(f"tune.select={self.select}: allowed are last, best")
        for name, allowed in (("pooling", ("cls", "mean")), ("pairs", ("cross", "bi"))):
            if getattr(self, name) not in allowed:
                raise LabError(f"tune.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")
        if not 0 < self.teacher_weight <= 1:
            raise LabError(
                f"tune.teacher_weight={self.teacher_weight} is a share: give 0 < teacher_weight <= 1"
            )
        _positive("tune", self, "temperature", "teacher_lr")
        if self.teacher_adapter not in (None, "none", "lora"):
            raise LabError(f"tune.teacher_adapter={self.teacher_adapter}: allowed are none, lora, or null")

    def identity(self) -> dict[str, Any]:
        """What decides a result, without the seed and the teacher; what only a teacher needs is left out without one."""
        left_out = {"save_model", "seed", "teacher", "teacher_lr", "teacher_adapter"}
        if self.teacher is None:
            left_out |= {"teacher_weight", "temperature"}
        if not self.augment:
            left_out.add("augment")
        return {name: value for name, value in super().identity().items() if name not in left_out}


@dataclass
class Head:
    """Training of a masked-LM head on the frozen teacher (corpus, batch and length are those of distillation)."""

    train: bool = False
    """Whether objectives that read the teacher's logits get a head trained here, not the checkpoint's."""
    steps: Optional[int] = None
    """Optimizer steps; null = scale.steps."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: float = 0.05
    """Share of the steps in which the rate rises."""
    mask_probability: float = 0.15
    """Share of the tokens that are hidden."""

    def __post_init__(self) -> None:
        _positive("head", self, "steps", "lr")
        if not 0 <= self.warmup < 1:
            raise LabError(f"head.warmup={self.warmup} is a share of the steps: give 0 <= warmup < 1")
        if not 0 < self.mask_probability < 1:
            raise LabError(f"head.mask_probability={self.mask_probability} must be between 0 and 1")


@dataclass
class Scale:
    """How much: one experiment runs as demo, laptop, gpu or paper."""

    name: str = ""
    """Name of the scale; captions say it. Not part of a run's identity."""
    steps: int = 1000
    """Optimizer steps of distillation."""
    batch_size: int = 64
    """Blocks a step, over all devices and accumulation."""
    length: int = 128
    """Tokens a block."""
    epochs: int = 3
    """Epochs of fine-tuning."""
    seeds: int = 2
    """Fine-tuning seeds a cell of a table."""

    def __post_init__(self) -> None:
        _positive("scale", self, "steps", "batch_size", "length", "epochs", "seeds")
        if self.length < 8:
            raise LabError(f"scale.length={self.length}: blocks need at least 8 tokens")


@dataclass
class Impl:
    """How fast; never changes a result beyond rounding."""

    backend: str = "auto"
    """Of the relation loss: auto, reference, blockwise or triton."""
    precision: str = "auto"
    """32, bf16, 16 (mixed), or auto: bf16 where the hardware multiplies it natively, else 32."""
    teacher_precision: str = "same"
    """same: the teacher runs in the student's mixed precision; 32, bf16 or 16: its weights are held in that type,
    and it runs in it."""
    compile: bool = False
    """torch.compile both stopped models (static shapes)."""
    checkpointing: bool = False
    """Recompute the student's activations in the backward: less memory, about a third more time."""
    workers: int = 0
    """Processes that load batches; the data is memory-mapped, so 0 is usually fastest."""
    threads: Optional[int] = None
    """Threads of torch on the CPU; null = all cores."""

    def __post_init__(self) -> None:
        from minilm_lab.relations import BACKENDS  # it imports torch

        teachers = ("same", *PRECISIONS[1:])
        choices = (("backend", BACKENDS), ("precision", PRECISIONS), ("teacher_precision", teachers))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise LabError(f"impl.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")
        if self.workers < 0:
            raise LabError(f"impl.workers={self.workers} must not be negative")
        _positive("impl", self, "threads")


@dataclass
class TrainerSettings:
    """Where: devices and strategy, and how often something is written."""

    accelerator: str = "auto"
    """auto, cpu, gpu."""
    devices: int = 1
    """Devices of one run."""
    strategy: str = "auto"
    """auto, ddp, fsdp (shares out gradients and the optimizer's state), or another strategy of Lightning."""
    accumulate: int = 1
    """Micro-batches a step; scale.batch_size is shared out among them."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    held_out_every: Optional[int] = None
    """Steps between two measurements of the held-out loss; null = ten in a run."""
    held_out_blocks: int = 256
    """Blocks of the held-out loss, at most."""
    checkpoint_every: int = 200
    """Steps between two checkpoints (rounded up to a multiple of log_every)."""

    def __post_init__(self) -> None:
        names = (
            "devices",
            "accumulate",
            "log_every",
            "held_out_every",
            "held_out_blocks",
            "checkpoint_every",
        )
        _positive("trainer", self, *names)
        if self.accelerator not in ACCELERATORS:
            raise LabError(f"trainer.accelerator={self.accelerator}: allowed are {', '.join(ACCELERATORS)}")


def micro_batch(batch_size: int, trainer: TrainerSettings, setting: str) -> int:
    """Samples a device sees at a time; LabError if the batch (of `setting`) cannot be shared out."""
    shares = trainer.devices * trainer.accumulate
    if batch_size % shares:
        raise LabError(
            f"{setting}={batch_size} cannot be shared out over trainer.devices={trainer.devices} x "
            f"trainer.accumulate={trainer.accumulate}; make it a multiple of {shares}"
        )
    return batch_size // shares


@dataclass
class Paths:
    """Where things lie on this machine."""

    runs: str = "runs"
    """Folder of all runs."""
    hub: Optional[str] = None
    """A local copy of hub data sets (<hub>/<owner>/<name>); null = load from the hub."""
    cache: str = ".cache"
    """Packaged models and data, tokenised corpora."""


@dataclass(frozen=True)
class How:
    """How, where and how fast: nothing of it changes a result beyond rounding."""

    impl: Impl
    trainer: TrainerSettings
    logger: Any
    paths: Paths
    experiment: str
    asked: dict[str, Any] = field(default_factory=dict)
    """The composed config of the command, interpolations as written: `minilm-lab rerun` starts from it."""

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return Path(self.paths.runs)

    @property
    def cache(self) -> Path:
        """Packaged models and data, tokenised corpora."""
        return Path(self.paths.cache)

    def plain(self) -> dict[str, Any]:
        """For config.yaml of the run."""
        return {name: plain(getattr(self, name)) for name in ("impl", "trainer", "logger", "paths", "asked")}
