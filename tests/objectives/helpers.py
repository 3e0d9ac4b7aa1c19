"""What a forward pass would answer, drawn at random, and the losses as float64 loops that share no code with the lab."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, GPT2Config, MPNetConfig, PretrainedConfig

from minilm_lab.models.taps import Needs, Projections, Seen
from minilm_lab.objectives.base import Loss, Objective, Views

BATCH, LENGTH, VOCABULARY = 3, 6, 11
#: Padding on the right, on the left, and a sequence of padding alone.
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
#: In row-major order, as true tokens at the masked positions.
LABELS = torch.tensor([3, 0, 10, 7, 7])


def bert(hidden: int = 24, heads: int = 3, layers: int = 4, **settings: Any) -> PretrainedConfig:
    return BertConfig(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        vocab_size=settings.pop("vocab_size", VOCABULARY),
        **settings,
    )


def mpnet(hidden: int = 24, heads: int = 3, layers: int = 4) -> PretrainedConfig:
    return MPNetConfig(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers)


def gpt2(hidden: int = 24, heads: int = 3, layers: int = 4) -> PretrainedConfig:
    return GPT2Config(n_embd=hidden, n_head=heads, n_layer=layers)


def draw(
    needs: Needs,
    config: PretrainedConfig,
    seed: int,
    *,
    causal: bool = False,
    positions: int = len(LABELS),
    dtype: torch.dtype = torch.float64,
) -> Seen:
    """Exactly what is needed: an objective that reads anything else fails."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    scores = {layer: 2 * normal(BATCH, heads, LENGTH, LENGTH) for layer in sorted(needs.scores)}
    if causal:
        later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        scores = {layer: x.masked_fill(later, -torch.inf) for layer, x in scores.items()}
    return Seen(
        projections={
            layer: Projections(*(normal(BATCH, LENGTH, width) for _ in range(3)))
            for layer in sorted(needs.projections)
        },
        scores=scores,
        hidden={layer: normal(BATCH, LENGTH, width) for layer in sorted(needs.hidden)},
        logits=3 * normal(positions, int(config.vocab_size)) if needs.logits else None,
    )


def bind(
    objective: Objective,
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    distilled: int = 4,
    **settings: Any,
) -> Loss:
    """The loss of a pair, its lifts drawn from one seed, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return objective.bind(student, teacher, distilled, **settings).double()


def views_of(
    loss: Loss,
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    mask: Tensor | None = None,
    *,
    same: bool = False,
    backend: str = "reference",
    **settings: Any,
) -> Views:
    """What a loss gets; same: the student shows what the teacher does (one configuration for both)."""
    of_student, of_teacher = loss.reads
    theirs = draw(of_teacher, teacher, 2, **settings)
    if same:
        assert of_student == of_teacher
        ours = draw(of_student, student, 2, **settings)
    else:
        ours = draw(of_student, student, 1, **settings)
    return Views(ours, theirs, mask, LABELS if loss.masked_share else None, backend)


def leaves(seen: Seen) -> list[Tensor]:
    """Every tensor of `seen`, made to want a gradient."""
    tensors = [x for projections in seen.projections.values() for x in projections]
    tensors += [*seen.scores.values(), *seen.hidden.values()]
    if seen.logits is not None:
        tensors.append(seen.logits)
    return [x.requires_grad_() for x in tensors]


def real_tokens(mask: Tensor | None, row: int) -> list[int]:
    return [i for i in range(LENGTH) if mask is None or bool(mask[row, i])]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def divergence(t: Tensor, s: Tensor) -> float:
    """KL(softmax t ‖ softmax s) of two rows of finite scores."""
    p, q = t.softmax(0).tolist(), s.softmax(0).tolist()
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def loop_scores(student: Tensor, teacher: Tensor, mask: Tensor | None) -> float:
    """Eq. 6 of MiniLM from scores (batch, heads, query, key), over what is not −inf in the teacher's."""
    sequences = []
    for row in range(BATCH):
        real = real_tokens(mask, row)
        queries = []
        for i in real:
            for head in range(student.shape[1]):
                keys = [j for j in real if teacher[row, head, i, j] > -math.inf]
                queries.append(divergence(teacher[row, head, i, keys], student[row, head, i, keys]))
        if real:
            sequences.append(mean(queries))
    return mean(sequences)


def loop_relation(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    heads: int,
    mask: Tensor | None,
    causal: bool = False,
) -> float:
    """Eq. 6 and 9 of MiniLM from (left, right), each (batch, length, width)."""

    def scores(pair: tuple[Tensor, Tensor]) -> Tensor:
        size = pair[0].shape[2] // heads
        found = torch.full((BATCH, heads, LENGTH, LENGTH), -math.inf, dtype=torch.float64)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(LENGTH):
                for j in range(i + 1 if causal else LENGTH):
                    for row in range(BATCH):
                        dot = (pair[0][row, i, part] * pair[1][row, j, part]).sum()
                        found[row, head, i, j] = dot / math.sqrt(size)
        return found

    return loop_scores(scores(student), scores(teacher), mask)


def loop_mse(student: Tensor, teacher: Tensor, mask: Tensor | None) -> float:
    """Mean over real tokens and dimensions of (batch, length, width)."""
    squares = [
        (float(a) - float(b)) ** 2
        for row in range(BATCH)
        for i in real_tokens(mask, row)
        for a, b in zip(student[row, i], teacher[row, i], strict=True)
    ]
    return mean(squares)


def loop_score_mse(student: Tensor, teacher: Tensor, mask: Tensor | None) -> float:
    """Mean over heads, real queries and the real keys that they see."""
    squares = []
    for row in range(BATCH):
        real = real_tokens(mask, row)
        for head in range(student.shape[1]):
            for i in real:
                for j in real:
                    s, t = float(student[row, head, i, j]), float(teacher[row, head, i, j])
                    if s > -math.inf and t > -math.inf:
                        squares.append((s - t) ** 2)
    return mean(squares)


def loop_cosine(student: Tensor, teacher: Tensor, mask: Tensor | None) -> float:
    """Mean over real tokens of 1 − cosine."""
    found = []
    for row in range(BATCH):
        for i in real_tokens(mask, row):
            s, t = student[row, i].tolist(), teacher[row, i].tolist()
            dot = sum(a * b for a, b in zip(s, t, strict=True))
            found.append(1 - dot / math.sqrt(sum(a * a for a in s) * sum(b * b for b in t)))
    return mean(found)


def loop_soft(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T² times the mean over positions of KL at temperature T."""
    rows = [divergence(t / temperature, s / temperature) for s, t in zip(student, teacher, strict=True)]
    return temperature**2 * mean(rows)


def loop_mlm(student: Tensor, labels: Tensor) -> float:
    """Mean over positions of −log of the true token's probability."""
    return mean([-math.log(float(row.softmax(0)[int(n)])) for row, n in zip(student, labels, strict=True)])
