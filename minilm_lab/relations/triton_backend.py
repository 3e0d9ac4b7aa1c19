"""The relation loss in Triton (to come)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from minilm_lab.relations.checks import Pair


def runs_on(device: torch.device) -> bool:
    return False


def relation_kls(
    pairs: Sequence[tuple[Pair, Pair, int]], mask: Tensor | None, causal: bool, segments: Tensor | None
) -> Tensor:
    raise NotImplementedError
