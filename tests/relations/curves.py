"""A student trained for 200 steps with one backend, for comparison with another."""

from __future__ import annotations

import torch
from torch import Tensor

from minilm_lab.relations import relation_kls


def loss_curve(backend: str, device: str = "cpu", steps: int = 200) -> Tensor:
    """The losses of a fused Q, K, V projection of random tokens that learns a wider teacher's relations."""
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(50, 8).to(device)
    projection = torch.nn.Linear(8, 3 * 8).to(device)
    teacher_table = torch.randn(50, 3 * 12).to(device)
    optimizer = torch.optim.AdamW([*embedding.parameters(), *projection.parameters()], lr=3e-3)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(0, 50, (4, 12)).to(device)
        mask = (torch.arange(12) < torch.randint(4, 13, (4, 1))).to(device)
        students = projection(embedding(tokens)).chunk(3, dim=-1)
        teachers = teacher_table[tokens].chunk(3, dim=-1)
        pairs = [((s, s), (t, t), 2) for s, t in zip(students, teachers, strict=True)]
        loss = relation_kls(pairs, mask=mask, backend=backend).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().cpu())
    return torch.stack(losses)
