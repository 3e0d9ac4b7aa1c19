"""Ways to get a hundred answers out of a model. Each takes an `Asker` and prompts, and gives a list of replies a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.contexts import Context, extend, read
from minilm_lab.models.decoding import Answer, Beams, Decoding, ranked
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.prompts import Asker, Reply

TOGETHER = 16
"""Prompts whose lists grow side by side; more would only take memory."""
_QUOTED = re.compile(r'([^"\n]*)"')


@dataclass
class Found:
    """What a method found."""

    replies: list[list[Reply]]
    """In the order in which they were found, a list a prompt."""
    navigability: list[float] = field(default_factory=list)
    """A prompt: median rank of its explored first tokens under the last query / under the first. Of navigation alone.

    Tokens are explored because they rank high behind some list, which pulls it below 1; where the list is another
    prompt's they are not in it, and it is what to compare with."""


def by_rank(asker: Asker, prompts: list[list[int]], golds: list[GoldList], answers: int) -> Found:
    """The first tokens in the order of their probability, each continued greedily."""
    return Found(_forced(asker, prompts, golds, asker.first_tokens(prompts, answers).tolist()))


def round_robin(
    asker: Asker, prompts: list[list[int]], golds: list[GoldList], answers: int, labels: Tensor
) -> Found:
    """The best token of each cluster in turn, clusters by their best token; then the second of each; and so on.

    labels: int64 (V,), −1 for tokens that are no key, which are left out.
    """
    chosen = []
    for order in ranked(asker.model.next_logits(prompts)).cpu():
        order = order[labels[order] >= 0]
        turns = np.zeros(int(labels.max()) + 1, dtype=int)
        turn = np.empty(len(order), dtype=int)
        for place, cluster in enumerate(labels[order].tolist()):
            turn[place] = turns[cluster]
            turns[cluster] += 1
        chosen.append(order[torch.from_numpy(np.argsort(turn, kind="stable")[:answers])].tolist())
    return Found(_forced(asker, prompts, golds, chosen))


def sampled(
    asker: Asker, prompts: list[list[int]], golds: list[GoldList], answers: int, decoding: Decoding
) -> Found:
    """As many samples, answer by answer; what is drawn is a function of (seed, prompt, number of the answer)."""
    rows = [row for row in range(len(prompts)) for _ in range(answers)]
    replies = asker.ask(
        [prompts[row] for row in rows],
        [golds[row] for row in rows],
        decoding=decoding,
        rows=list(range(len(rows))),
    )
    return Found(_cut(replies, answers))


def by_beams(asker: Asker, prompts: list[list[int]], golds: list[GoldList], answers: int) -> Found:
    """All hypotheses of a beam search as wide as there are answers to give, best first."""
    decoding = Decoding(method="beam", length=asker.length + 1, beams=answers)
    found = []
    for prompt, gold in zip(prompts, golds, strict=True):
        search = Beams(1, decoding, lambda _, tokens: asker.closed(tokens) or tokens[-1] in asker.model.ends)
        with torch.no_grad():
            context = read(asker.model.model, [prompt])
            while True:
                parents, new = search.step(context.logits)
                if not parents:
                    break
                context = extend(asker.model.model, new, context.take(parents))
        found.append([asker.reply(Answer(t, e, s), gold) for _, t, s, e in search.done[0]])
    return Found(found)


def as_list(
    asker: Asker, prompts: list[list[int]], golds: list[GoldList], answers: int, tokens_each: int = 8
) -> Found:
    """One long list, written greedily until it has all answers, the model ends, or tokens_each × answers tokens."""

    def over(tokens: list[int]) -> bool:
        return asker.closed(tokens) and sum(asker.quotes[token] for token in tokens) >= 2 * answers - 1

    decoding = Decoding(length=tokens_each * answers)
    written = asker.model.generate(prompts, decoding, until=over)
    found = []
    for answer, gold in zip(written, golds, strict=True):
        # The first item begins in the prompt; behind it every other piece between quotes is one.
        pieces = _QUOTED.findall(asker.model.text(answer.tokens))[::2][:answers]
        found.append([Reply(-1, text, (), True, gold.judge(text)) for text in pieces])
    return Found(found)


def navigated(
    asker: Asker,
    prompts: list[list[int]],
    golds: list[GoldList],
    answers: int,
    *,
    rounds: int,
    explored: str = "own",
    decode_from: str = "initial",
) -> Found:
    """In-context navigation: what was answered goes into the list of the prompt, and the next first tokens are read there.

    explored: own: the answers so far; other: those of another prompt, the control for what any list does; none: an empty
    list, which is rank order. decode_from: initial: navigation chooses first tokens alone, as in the paper; navigated:
    answers are written behind the list. No token is explored twice.
    """
    found = Found([])
    groups = np.array_split(np.arange(len(prompts)), -(-len(prompts) // TOGETHER))
    for group in groups:
        rows = group.tolist()
        part = _navigate(
            asker,
            [prompts[n] for n in rows],
            [golds[n] for n in rows],
            answers,
            rounds,
            explored,
            decode_from,
        )
        found.replies += part.replies
        found.navigability += part.navigability
    return found


def _navigate(
    asker: Asker,
    prompts: list[list[int]],
    golds: list[GoldList],
    answers: int,
    rounds: int,
    explored: str,
    decode_from: str,
) -> Found:
    model, count = asker.model, len(prompts)
    start = context = model.read(prompts)
    found: list[list[Reply]] = [[] for _ in prompts]
    behind = [list(prompt) for prompt in prompts]
    for share in shares(answers, rounds):
        chosen = []
        for row, order in enumerate(ranked(context.logits).tolist()):
            probed = {reply.first for reply in found[row]}
            chosen.append([token for token in order if token not in probed][:share])
        texts = prompts if decode_from == "initial" else behind
        new = _forced(asker, texts, golds, chosen)
        for row in range(count):
            found[row] += new[row]
        if explored == "none" or len(found[0]) == answers:
            continue
        items = []
        for row in range(count):
            source = row if explored == "own" else (row + 1) % count
            first = len(found[row]) - share + 2
            items.append([i for n, reply in enumerate(new[source], first) for i in asker.item(reply, n)])
            behind[row] += items[-1]
        _check_room(asker, behind, answers)
        context = model.read(items, after=context)
    if explored == "none" or rounds == 1:
        return Found(found)
    in_list = [replies[: len(replies) - share] for replies in found]
    return Found(found, _navigability(start, context, in_list))


def shares(answers: int, rounds: int) -> Iterator[int]:
    """Answers of each round, as equal as can be; the larger first."""
    for number in range(rounds):
        size = answers // rounds + (number < answers % rounds)
        if size:
            yield size


def _navigability(start: Context, last: Context, found: list[list[Reply]]) -> list[float]:
    ratios = []
    for row, replies in enumerate(found):
        tokens = torch.tensor([reply.first for reply in replies])
        before, after = (
            (context.logits[row].cpu()[None] > context.logits[row].cpu()[tokens][:, None]).sum(dim=1) + 1
            for context in (start, last)
        )
        ratios.append(float(after.double().median() / before.double().median()))
    return ratios


def _check_room(asker: Asker, texts: Sequence[Sequence[int]], answers: int) -> None:
    limit = getattr(asker.model.model.config, "max_position_embeddings", None)
    longest = max(map(len, texts)) + asker.length + 1
    if limit and longest > limit:
        raise LabError(
            f"evaluator.answers={answers}: their list takes {longest} tokens, and this model reads {limit}; ask for fewer."
        )


def _forced(
    asker: Asker, prompts: list[list[int]], golds: list[GoldList], tokens: list[list[int]]
) -> list[list[Reply]]:
    """Each prompt's first tokens continued, all at once."""
    rows = [row for row, some in enumerate(tokens) for _ in some]
    replies = iter(
        asker.ask(
            [prompts[row] for row in rows],
            [golds[row] for row in rows],
            [[token] for some in tokens for token in some],
        )
    )
    return [[next(replies) for _ in some] for some in tokens]


def _cut(replies: list[Reply], size: int) -> list[list[Reply]]:
    return [replies[n : n + size] for n in range(0, len(replies), size)]
