"""What this machine can do: devices and precision."""

from __future__ import annotations

import torch

from minilm_lab.errors import LabError, nearest
from minilm_lab.relations.api import available_backends
from minilm_lab.training.settings import Impl, TrainerSettings

USUAL_STRATEGIES = ("auto", "ddp", "fsdp")
"""Strategies that are known without asking Lightning, which takes seconds to import."""


def uses_gpu(accelerator: str) -> bool:
    """Whether trainer.accelerator means a GPU on this machine."""
    return accelerator in ("auto", "gpu") and torch.cuda.is_available()


def precision_of(impl: Impl, accelerator: str) -> str:
    """Lightning's name for impl.precision; "auto" is bf16 where the hardware multiplies it natively."""
    wanted = impl.precision
    if wanted == "auto":
        cuda = uses_gpu(accelerator)
        native = torch.cuda.is_bf16_supported() if cuda else _cpu_multiplies_bf16()
        wanted = "bf16" if native else "16" if cuda else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]


def _cpu_multiplies_bf16() -> bool:
    # AMX tiles: four and more times the float32 rate. Without them bf16 on a CPU is slower than float32.
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check()) if check is not None else False


def check_device(impl: Impl, trainer: TrainerSettings) -> None:
    """Refuse what this machine cannot do, before anything is loaded."""
    gpus = torch.cuda.device_count()
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise LabError(f"trainer.accelerator={trainer.accelerator}: torch sees no GPU here; use auto or cpu")
    on_gpu = uses_gpu(trainer.accelerator)
    if on_gpu and trainer.devices > gpus:
        raise LabError(f"trainer.devices={trainer.devices}: torch sees {gpus} GPUs here")
    if trainer.strategy not in USUAL_STRATEGIES:
        _check_strategy(trainer.strategy)
    for name in ("precision", "teacher_precision"):
        if getattr(impl, name) == "16" and not on_gpu:
            raise LabError(f"impl.{name}=16 needs a GPU (float16); use bf16 or 32")
    if impl.backend == "triton" and not (on_gpu and "triton" in available_backends(torch.device("cuda"))):
        where = "this GPU" if on_gpu else "a CPU"
        raise LabError(f"impl.backend=triton does not run on {where}; use auto, blockwise or reference")


def _check_strategy(strategy: str) -> None:
    from pytorch_lightning.strategies import StrategyRegistry

    known = ("auto", *StrategyRegistry.available_strategies())
    if strategy not in known:
        raise LabError(
            f"trainer.strategy={strategy} is unknown.{nearest(strategy, known)} There are: {', '.join(known)}"
        )
