"""AdamW, Muon and the linear schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from transformers import get_linear_schedule_with_warmup

from minilm_lab.errors import LabError
from minilm_lab.training.settings import Optim
from minilm_lab.training.sharding import NAME, clipped, is_sharded


def configure(
    module: nn.Module, optim: Optim, steps: int, fused: bool, dimensions: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return Lightning's optimizer dictionary for the trainable parameters of `module`.

    Biases and LayerNorm (every parameter with fewer than two dimensions) have no weight decay. dimensions: of the
    parameters by name, where they are shared out over processes by now (a share has one); None: as they are.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    trained = [p for _, p in named]
    whole = {name: p.ndim for name, p in named} | dict(dimensions or {})
    flat = {p for name, p in named if whole[name] < 2}
    matrices = _matrices_of_layers(module) if optim.optimizer == "muon" else set()
    groups = [
        {
            "params": [p for p in trained if p not in flat and p not in matrices],
            "weight_decay": optim.weight_decay,
        },
        {"params": [p for p in trained if p in flat], "weight_decay": 0.0},
    ]
    first, second = optim.betas
    adamw = torch.optim.AdamW(groups, lr=optim.lr, betas=(first, second), eps=optim.eps, fused=fused)
    optimizer: torch.optim.Optimizer = adamw
    if optim.optimizer == "muon":
        by_muon = [p for p in trained if p in matrices]
        muon = torch.optim.Muon(
            by_muon, lr=optim.lr, weight_decay=optim.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        optimizer = Together([muon, adamw])
    warmup = round(optim.warmup * steps)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _matrices_of_layers(module: nn.Module) -> set[nn.Parameter]:
    """Parameters of two dimensions that are no embedding (nor a head that shares its matrix)."""
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return {p for p in module.parameters() if p.ndim == 2 and id(p) not in embeddings}


class Together(torch.optim.Optimizer):
    """Optimizers of different parameters as one: one schedule, one state in a checkpoint."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def _share(self) -> None:
        """The parts work on this optimizer's groups and state."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def step(self, closure: Any = None) -> Any:
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        """Restore groups and state."""
        super().load_state_dict(state_dict)
        self._share()


class Optimised(pl.LightningModule, ABC):
    """A module trained on the linear schedule, with its gradient clipped to a norm.

    Its state is what is trained (and buffers): what is frozen is made again as it was, and is in no checkpoint.
    """

    def __init__(self, optim: Optim, steps: int, fused: bool) -> None:
        super().__init__()
        self.optim, self.steps, self.fused = optim, steps, fused
        self.gradient_norm: Tensor | None = None
        """Of the present step, before clipping; on the device."""
        self.dimensions: dict[str, int] = {}

    def setup(self, stage: str) -> None:
        """Called before a strategy takes the weights apart."""
        self.dimensions = {name: parameter.ndim for name, parameter in self.named_parameters()}
        if self.optim.optimizer == "muon" and is_sharded(self.trainer):
            raise LabError(
                f"trainer.strategy={NAME} gives each process a part of a matrix, and optimizer=muon needs all of it: "
                "use trainer.strategy=ddp, or optimizer=adamw"
            )

    @abstractmethod
    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Named, weighted scalars of one micro-batch, whose sum is minimised."""

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """{"loss": the sum, and its terms by their names}."""
        terms = self.terms(batch)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        return self.losses(batch)

    def state_dict(self, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """Of what is trained, and the buffers."""
        state, frozen = super().state_dict(**options), self._frozen()
        return {name: tensor for name, tensor in state.items() if name not in frozen}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Restore it; what is frozen stays as it is."""
        return super().load_state_dict({**self._frozen(), **state_dict}, strict, assign)

    def _frozen(self) -> dict[str, Tensor]:
        named = self.named_parameters(remove_duplicate=False)
        return {name: parameter.data for name, parameter in named if not parameter.requires_grad}

    def configure_optimizers(self) -> Any:
        """The optimizer and the linear schedule over `steps`."""
        return configure(self, self.optim, self.steps, self.fused, self.dimensions)

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip here: Lightning refuses a fused optimizer under autocast, although bf16 needs no unscaling."""
        trained = [p for p in self.parameters() if p.requires_grad]
        shared = clipped(self, self.optim.clip or math.inf)
        if shared is not None:
            self.gradient_norm = shared
        elif self.optim.clip:
            self.gradient_norm = torch.nn.utils.clip_grad_norm_(trained, self.optim.clip)
        else:  # for the guards: what is not finite is found before it is in a checkpoint
            self.gradient_norm = torch.nn.utils.get_total_norm(
                [p.grad for p in trained if p.grad is not None]
            )
