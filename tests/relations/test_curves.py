"""Two hundred steps with either backend give one loss curve."""

from __future__ import annotations

import torch

from .curves import loss_curve


def test_the_curve_does_not_depend_on_the_backend() -> None:
    expected, curve = loss_curve("reference"), loss_curve("blockwise")
    assert expected[-20:].mean() < 0.8 * expected[:20].mean(), "it must learn for this to mean something"
    torch.testing.assert_close(curve, expected, rtol=1e-3, atol=0)
