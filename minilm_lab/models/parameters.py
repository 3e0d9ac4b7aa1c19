"""Count parameters as the MiniLM paper does (table 4): embeddings and Transformer apart."""

from __future__ import annotations

from torch import nn


def count_parameters(body: nn.Module) -> dict[str, int]:
    """Return {"embeddings", "transformer", "total"}; a pooler counts to none of the first two."""
    embeddings = sum(
        p.numel() for n, p in body.named_parameters() if n.startswith(("embeddings.", "embeddings_project."))
    )
    transformer = sum(p.numel() for n, p in body.named_parameters() if n.startswith("encoder."))
    return {
        "embeddings": embeddings,
        "transformer": transformer,
        "total": sum(p.numel() for p in body.parameters()),
    }
