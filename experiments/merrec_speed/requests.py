"""Quality against milliseconds a request: blocks that are left out, an early exit, the half-depth student, the same in int8.

    python experiments/merrec_speed/requests.py [users=1000] [turns=200] [cache=.cache]

A request is a session of up to 20 events whose next item is wanted among all; one at a time, one thread, settings in turns, medians. Two
costs are apart: the session model (a SASRec of four blocks, trained whole; blocks are left out in use alone) and a title that nobody has
encoded yet. int8: dynamic quantisation of all linear layers by torch. Generated: measures the machinery and claims nothing about Mercari.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from minilm_lab.models.encoder import Encoder
from minilm_lab.models.resolve import resolve
from minilm_lab.studies.merrec import GENERATED, log, training, vectors
from minilm_lab.studies.merrec.dated import _day
from minilm_lab.studies.merrec.next_item import NextItem
from minilm_lab.studies.recommendation.blocks import hits, mid_rank

POLICIES = {
    "all four": [0, 1, 2, 3],
    "exit after 3": [0, 1, 2],
    "exit after 2": [0, 1],
    "exit after 1": [0],
    "every second": [0, 2],
}


def times(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median milliseconds of each, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            taken[name].append(1000 * (time.perf_counter() - begin))
    return {name: statistics.median(values[turns // 10 :]) for name, values in taken.items()}


def shown(name: str, scores: dict[str, float], milliseconds: float, more: str = "") -> None:
    print(
        f"| {name} | {scores['ndcg']:.2f} [{scores['ndcg_low']:.2f}, {scores['ndcg_high']:.2f}] | {scores['fresh']:.2f} | "
        f"{milliseconds:.2f} |{more}"
    )


def main(users: int, turns: int, cache: Path) -> None:
    torch.set_num_threads(1)
    of = NextItem(users=users, blocks=4)
    of.prepare(None, cache)
    data = of._log
    parts = log.cut(data, _day("x", of.judged_from), _day("x", of.judged_before), length=20, most=of.most)
    judged, count = parts.judged, len(parts.known)

    def judge(model: training.Sequence, blocks: list[int] | None = None) -> dict[str, float]:
        out = training.states(model, judged.history, blocks)
        with torch.no_grad():
            every = model.items(torch.arange(count))
        ranks = mid_rank(
            lambda rows, items: out[rows] @ every[items].T, torch.from_numpy(judged.target), count
        )
        fresh = hits(ranks[judged.fresh], judged.user[judged.fresh])["recall"]
        return {**hits(ranks, judged.user), "fresh": fresh}

    print(
        f"{GENERATED}. {len(judged.target)} events of {parts.facts['judged_users']} users, {count} items.\n"
    )
    encoders: dict[str, Encoder] = {}
    for name in ("all_minilm_l6", "paraphrase_minilm_l3"):
        where = resolve(name, runs=Path("runs"), cache=cache, key="source")
        encoders[name] = of.open(where.where, where.revision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = of.open(where.where, where.revision)
        body = torch.ao.quantization.quantize_dynamic(small.body, {torch.nn.Linear}, dtype=torch.qint8)
        small.model = small.body = body
    encoders["paraphrase_minilm_l3, int8"] = small
    tables = {}
    for name, encoder in encoders.items():
        if "int8" in name:  # packed weights have no plain checksum: not kept
            tables[name] = encoder(data.titles)
        else:
            tables[name] = torch.from_numpy(vectors.of_titles(encoder, data.titles, cache).astype("float32"))

    settings = of._settings()
    model = training.train(data, parts, tables["all_minilm_l6"], True, settings, 0)
    with torch.no_grad():
        every = model.items(torch.arange(count))
    session = torch.from_numpy(judged.history[:1])
    ways = {
        name: lambda b=blocks: (model.next(session, b) @ every.T).topk(20)
        for name, blocks in POLICIES.items()
    }
    took = times(ways, turns)
    print(
        "| blocks of the session model | NDCG@20, % | fresh Recall@20 | ms a request |\n|---|---:|---:|---:|"
    )
    for name, blocks in POLICIES.items():
        shown(name, judge(model, blocks), took[name])

    took = times({name: lambda e=encoder: e([data.titles[0]]) for name, encoder in encoders.items()}, turns)
    print(
        "\n| title encoder (two blocks on titles alone) | NDCG@20, % | fresh Recall@20 | ms a title |\n|---|---:|---:|---:|"
    )
    for name, table in tables.items():
        trained = training.train(data, parts, table, False, replace(settings, blocks=2), 0)
        shown(name, judge(trained), took[name])
    near = torch.nn.functional.cosine_similarity(
        tables["paraphrase_minilm_l3"], tables["paraphrase_minilm_l3, int8"]
    )
    print(
        f"\nCosine of a title's vector in int8 with its own in float32: mean {near.mean():.4f}, least {near.min():.4f}."
    )


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    main(int(words.get("users", "1000")), int(words.get("turns", "200")), Path(words.get("cache", ".cache")))
