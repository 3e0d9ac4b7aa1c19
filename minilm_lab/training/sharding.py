"""trainer.strategy=fsdp: each process keeps its share of the weights, gradients and optimizer's state of what is trained.

Lightning's strategy, with what the lab needs beside it: processors as well as GPUs; checkpoints in the same form as those of
one process, so that a run goes on on any number of them, and read by the same careful reader; whole weights for evaluations
and for what is saved. The weights are whole on each device while a step runs; the frozen teacher is never shared out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

NAME = "fsdp"
"""The value of trainer.strategy."""


class Sharded(FSDPStrategy):
    """FSDP over the whole module; checkpoints are those of one process."""

    def _setup_model(self, model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            model,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            # Lightning gives the index of a GPU, and torch then refuses a machine without one.
            device_id=self.root_device,
            **self.kwargs,
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What the module itself says, with whole weights, in the processor's memory."""
        assert self.lightning_module is not None
        with self.whole():
            state = self.lightning_module.state_dict()
            return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Whole, as a plain optimizer's, in the first process; in the others without the tensors.

        Not by torch's own optim_state_dict: of processors it gives the second moment as the first too (one buffer for
        both, torch 2.13).
        """
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        state = optimizer.state_dict()
        mine, shapes = _to_cpu(state["state"]), self._shapes(optimizer)
        shares: list[Any] | None = [None] * self.world_size if self.global_rank == 0 else None
        torch.distributed.gather_object(mine, shares)
        if shares is None:
            return {"state": {}, "param_groups": state["param_groups"]}
        whole = {
            number: _joined([s.get(number, {}) for s in shares], shape) for number, shape in enumerate(shapes)
        }
        return {
            "state": {n: values for n, values in whole.items() if values},
            "param_groups": state["param_groups"],
        }

    def _shapes(self, optimizer: torch.optim.Optimizer) -> list[torch.Size]:
        """Of the whole parameters, in the optimizer's order."""
        with self.whole():
            return [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read by the run's own reader, in each process; weights and optimizer go to their places."""
        assert self.lightning_module is not None
        checkpoint = self.checkpoint_io.load_checkpoint(checkpoint_path)
        with self.whole(writeback=True):
            self.lightning_module.load_state_dict(checkpoint["state_dict"])
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            self._load_optimizer(optimizer, state)
        return checkpoint

    def _load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        sizes = [parameter.numel() for parameter in parameters]
        everyones: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(everyones, sizes)
        shares = {}
        for number, values in state["state"].items():
            first = sum(sizes[number] for sizes in everyones[: self.global_rank])
            shares[number] = {
                name: value.flatten()[first : first + sizes[number]].clone() if value.ndim else value
                for name, value in values.items()
            }
        optimizer.load_state_dict({"state": shares, "param_groups": state["param_groups"]})

    @contextmanager
    def whole(self, writeback: bool = False) -> Iterator[None]:
        """While it is open every process has the whole weights; all of them must open it."""
        assert self.model is not None
        with FullyShardedDataParallel.summon_full_params(self.model, writeback=writeback):
            yield


def _to_cpu(state: Mapping[int, Mapping[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
    return {n: {name: value.detach().cpu() for name, value in values.items()} for n, values in state.items()}


def _joined(shares: Sequence[Mapping[str, Tensor]], shape: torch.Size) -> dict[str, Tensor]:
    """The state of one parameter, of the shares of the processes in order; a process without a share has none."""
    names = next((list(share) for share in shares if share), [])
    joined = {}
    for name in names:
        parts = [share[name] for share in shares if name in share]
        # The number of steps is a scalar, and the same everywhere.
        joined[name] = (
            torch.cat([part.flatten() for part in parts]).reshape(shape) if parts[0].ndim else parts[0]
        )
    return joined


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether what is trained is shared out over the processes of this run."""
    return isinstance(trainer.strategy, Sharded)


class WholeAgain(pl.Callback):
    """At the end of training the module has plain, whole weights again: it can be saved by one process."""

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """In every process."""
        if not isinstance(trainer.strategy, Sharded):
            return
        copies: dict[int, nn.Parameter] = {}
        places: list[tuple[nn.Module, str, nn.Parameter]] = []
        with trainer.strategy.whole():
            for part in module.modules():
                for name, parameter in part._parameters.items():
                    if parameter is not None:
                        if id(parameter) not in copies:  # a matrix may have two places
                            plain = parameter.detach().clone()
                            copies[id(parameter)] = nn.Parameter(plain, parameter.requires_grad)
                        places.append((part, name, copies[id(parameter)]))
        for part, name, parameter in places:
            part._parameters[name] = parameter


@contextmanager
def whole_weights(trainer: pl.Trainer) -> Iterator[None]:
    """The weights are whole while it is open, whatever the strategy; every process of the run must open it."""
    strategy = trainer.strategy
    if isinstance(strategy, Sharded) and isinstance(strategy.model, FullyShardedDataParallel):
        with strategy.whole():
            yield
    else:
        yield


def whole_state(trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
    """The module's own state, with whole weights; every process of the run must ask for it."""
    return trainer.strategy.lightning_module_state_dict() if is_sharded(trainer) else module.state_dict()


def clipped(module: pl.LightningModule, norm: float) -> Tensor | None:
    """Clip the gradient that is shared out over processes to `norm`; its norm before, or None: it is not shared out."""
    strategy = module.trainer.strategy
    if not isinstance(strategy, Sharded):
        return None
    sharded: Any = strategy.model
    before: Tensor = sharded.clip_grad_norm_(norm)
    return before
