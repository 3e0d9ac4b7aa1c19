"""Count parameters as the MiniLM paper does (table 4): embeddings and Transformer apart."""

from __future__ import annotations

from typing import Any

from torch import nn

from minilm_lab.models.families import family_of


def count_parameters(body: nn.Module) -> dict[str, int]:
    """Return {"embeddings", "transformer", "total"} of a bare body; a pooler counts to none of the first two."""
    model: Any = body
    family = family_of(model.config)
    words = model.get_input_embeddings()
    paths = family.embeddings if family.tapped else [n for n, m in body.named_modules() if m is words]
    inside = tuple(f"{path}." for path in paths)
    counts = {"embeddings": 0, "transformer": 0, "total": 0}
    for name, parameter in body.named_parameters():
        if not name.startswith("pooler"):
            counts["embeddings" if name.startswith(inside) else "transformer"] += parameter.numel()
        counts["total"] += parameter.numel()
    return counts
