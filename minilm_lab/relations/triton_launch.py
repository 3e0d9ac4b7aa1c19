"""Launches of the Triton kernels: block sizes, grids, arguments."""

import contextlib
from typing import Any

import torch
import triton
from torch import Tensor

from minilm_lab.relations import triton_kernels

LOG2_E = 1.4426950408889634


def block_sizes(size: int, their_size: int, itemsize: int, masked: bool) -> dict[str, int]:
    """Rows of a program (OWN), rows it walks over (OTHER), and head sizes padded as `tl.dot` needs.

    Two tiles of float32 logits, or four of exponentials in the backward, live in registers at once. Compiled for
    sm_90 these sizes leave next to nothing of a tile in memory (a test looks), but for float32 heads of more than
    64: TF32 in three parts triples the operands.
    """
    s_block, t_block = (max(16, triton.next_power_of_2(n)) for n in (size, their_size))
    wide = max(s_block, t_block) > 64
    if itemsize == 4:
        other, stages = 16 if wide or masked else 32, 1 if wide else 2
    else:
        other, stages = 32 if wide or masked else 64, 2
    return {
        "OWN": 64,
        "OTHER": other,
        "S_BLOCK": s_block,
        "T_BLOCK": t_block,
        "num_warps": 4,
        "num_stages": stages,
    }


def precision(device: torch.device) -> str:
    """How float32 is multiplied; half-precision inputs do not ask.

    Plain TF32 loses digits from the fourth on. Three TF32 products keep float32's and still use the tensor
    cores, which "ieee" does not: it fills the registers and spills.
    """
    nvidia = device.type == "cuda" and torch.version.hip is None
    return "tf32x3" if nvidia and torch.cuda.get_device_capability(device)[0] >= 8 else "ieee"


class Launch:
    """What the forward and the backward of some relations have in common."""

    def __init__(
        self,
        lefts: list[Tensor],
        their_lefts: list[Tensor],
        heads: int,
        mask: Tensor | None,
        causal: bool,
    ) -> None:
        self.lefts, self.their_lefts, self.heads = lefts, their_lefts, heads
        s, t = lefts[0], their_lefts[0]
        self.batch, self.length, width = s.shape
        size, their_size = width // heads, t.shape[2] // heads
        self.scale = size**-0.5
        itemsize = max(s.itemsize, t.itemsize)
        sizes = block_sizes(size, their_size, itemsize, mask is not None)
        self.blocks = triton.cdiv(self.length, sizes["OWN"])
        self.grid = (self.blocks * self.batch * heads, len(lefts))
        # A kernel that reads no mask is still given a pointer.
        self.mask = mask.view(torch.uint8) if mask is not None else s
        self.shape = (
            self.length, heads, self.blocks,
            s.stride(0), s.stride(1), t.stride(0), t.stride(1),
            size, their_size, self.scale * LOG2_E, their_size**-0.5 * LOG2_E,
        )  # fmt: skip
        self.constants: dict[str, Any] = {
            "CAUSAL": causal, "MASK": mask is not None,
            "PRECISION": precision(s.device), **sizes,
        }  # fmt: skip

    def forward(
        self, rights: list[Tensor], their_rights: list[Tensor], weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        lse_shape = (len(self.lefts), self.batch, self.heads, self.length)
        s_lse, t_lse = weights.new_empty(lse_shape), weights.new_empty(lse_shape)
        partial = weights.new_empty(len(self.lefts), self.grid[0])
        sides = (self.lefts, rights or self.lefts, self.their_lefts, their_rights or self.their_lefts)
        with _on(weights.device):
            triton_kernels.forward[self.grid](
                *map(tuple, sides), self.mask, weights, s_lse, t_lse, partial, *self.shape, **self.constants
            )
        return partial.sum(dim=1), s_lse, t_lse

    def backward(
        self,
        grad_losses: Tensor,
        rights: list[Tensor],
        their_rights: list[Tensor],
        weights: Tensor,
        s_lse: Tensor,
        t_lse: Tensor,
    ) -> Tensor:
        ours, theirs = (
            (self.lefts, rights or self.lefts),
            (self.their_lefts, their_rights or self.their_lefts),
        )
        sides = 2 if rights else 1
        gradients = self.lefts[0].new_empty(sides, len(self.lefts), *self.lefts[0].shape)
        for side in range(sides):
            own, other = side, 1 - side
            roles = {"OWN_ASKS": side == 0, "OTHER_ASKS": side == 1 or sides == 1}
            with _on(weights.device):
                triton_kernels.backward[self.grid](
                    *map(tuple, (ours[own], ours[other], theirs[own], theirs[other])),
                    self.mask, weights, grad_losses, s_lse, t_lse, gradients[side],
                    *self.shape, self.scale, **roles, **self.constants,
                )  # fmt: skip
        return gradients


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current GPU, which need not be the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
