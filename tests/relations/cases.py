"""Random cases, and the comparison of a backend with the loops."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minilm_lab.relations import relation_kl

from .loops import loop_loss_and_gradients


@dataclass(frozen=True)
class Case:
    """What to draw. `pair` names the projections: "qq", "qk" …; `masked`: none, left, right, both or holes."""

    batch: int = 2
    length: int = 9
    heads: int = 2
    size: int = 8
    their_size: int = 8
    pair: str = "qq"
    masked: str = "none"
    causal: bool = False
    scale: float = 1.0
    seed: int = 0
    dtype: torch.dtype = torch.float64

    def draw(
        self, device: str = "cpu"
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], dict[str, Any]]:
        """Student pair (leaves that want a gradient), teacher pair, and the other arguments."""
        generator = torch.Generator().manual_seed(self.seed)

        def projections(width: int) -> dict[str, Tensor]:
            whole = torch.randn(self.batch, self.length, 3 * width, generator=generator, dtype=torch.float64)
            whole = (whole * self.scale**0.5).to(device, self.dtype)
            return dict(
                zip("qkv", whole.chunk(3, dim=-1), strict=True)
            )  # Strided, as a fused projection gives.

        ours, theirs = projections(self.heads * self.size), projections(self.heads * self.their_size)
        for x in ours.values():
            x.requires_grad_()
        mask = self._mask(generator)
        left, right = self.pair
        settings = {
            "mask": None if mask is None else mask.to(device),
            "causal": self.causal,
        }
        return (ours[left], ours[right]), (theirs[left], theirs[right]), settings

    def _mask(self, generator: torch.Generator) -> Tensor | None:
        if self.masked == "none":
            return None
        position = torch.arange(self.length)
        tokens = torch.randint(1, self.length + 1, (self.batch, 1), generator=generator)
        left = {"left": self.length - tokens, "both": (self.length - tokens) // 2}.get(
            self.masked, 0 * tokens
        )
        mask = (position >= left) & (position < left + tokens)
        if self.masked == "holes":
            mask = torch.rand(self.batch, self.length, generator=generator) < 0.6
        return mask


def check(case: Case, backend: str, tolerance: float, device: str = "cpu") -> None:
    """Value and gradients agree with the loops, relative to their size."""
    student, teacher, settings = case.draw(device)
    loss = relation_kl(student, teacher, heads=case.heads, backend=backend, **settings)
    leaves = list({id(x): x for x in student}.values())
    gradients = torch.autograd.grad(loss, leaves)
    on_cpu = {name: x.cpu() if isinstance(x, Tensor) else x for name, x in settings.items()}
    exact = {id(x): x.detach().cpu() for x in (*student, *teacher)}
    expected, expected_gradients = loop_loss_and_gradients(
        (exact[id(student[0])], exact[id(student[1])]),
        (exact[id(teacher[0])], exact[id(teacher[1])]),
        case.heads,
        **on_cpu,
    )
    assert loss.dtype == (torch.float64 if case.dtype == torch.float64 else torch.float32)
    close(loss, expected, tolerance, "loss", case.scale)
    for gradient, leaf, want in zip(gradients, leaves, expected_gradients, strict=True):
        assert gradient.dtype == leaf.dtype
        close(gradient, want, tolerance, "gradient", case.scale)


def close(got: Tensor, want: Tensor, tolerance: float, what: str, scale: float = 1.0) -> None:
    """Within `tolerance` of the norm; what is all but zero is held to the size of one logit's rounding instead."""
    got = got.detach().double().cpu()
    error = float((got - want).norm())
    assert error <= tolerance * max(float(want.norm()), 0.02 * scale), (
        f"{what}: off by {error} of {want.norm()}"
    )


PAIRS = ["qq", "kk", "vv", "qk", "qv", "kv"]

# One thing at a time from a plain case, and a few of everything together.
PLAIN = Case()
CASES: dict[str, Case] = (
    {f"pair {pair}": replace(PLAIN, pair=pair) for pair in PAIRS}
    | {f"head size {size}": replace(PLAIN, size=size, their_size=size) for size in (4, 16, 32, 64)}
    | {
        f"{heads} heads": replace(PLAIN, heads=heads, size=4, their_size=4, length=6)
        for heads in (1, 3, 12, 64)
    }
    | {
        f"masked {masked}": replace(PLAIN, masked=masked, batch=4)
        for masked in ("left", "right", "both", "holes")
    }
    | {
        "teacher wider": replace(PLAIN, their_size=20),
        "teacher narrower": replace(PLAIN, size=20),
        "odd head size": replace(PLAIN, size=5, their_size=7, pair="qk"),
        "one token": replace(PLAIN, length=1),
        "one token qk": replace(PLAIN, length=1, pair="qk"),
        "one sequence": replace(PLAIN, batch=1),
        "causal": replace(PLAIN, causal=True),
        "causal qk": replace(PLAIN, causal=True, pair="qk"),
        "causal, padded left": replace(PLAIN, causal=True, masked="left", pair="qk"),
        "everything": replace(
            PLAIN, batch=3, length=12, pair="qv", masked="holes", causal=True, their_size=12
        ),
        "everything, symmetric": replace(PLAIN, batch=3, length=12, masked="both", causal=True),
    }
)
