"""Nearest titles among a million vectors: exact and by an index of faiss; time, memory, recall of the exact ten.

    python experiments/merrec_speed/neighbours.py [items=1000000] [width=64] [queries=200] [threads=1]

Vectors are drawn around 2,000 centres, so recall is easier than on real titles; build times and bytes are what is measured. Of
80 M vectors: multiply bytes by 80; flat search is linear in items.
"""

from __future__ import annotations

import sys
import time

import faiss
import numpy as np


def main(items: int = 1_000_000, width: int = 64, queries: int = 200, threads: int = 1) -> None:
    faiss.omp_set_num_threads(threads)
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(2000, width)).astype(np.float32)
    vectors = centres[draw.integers(0, 2000, items)] + draw.normal(size=(items, width)).astype(np.float32)
    faiss.normalize_L2(vectors)
    asked = vectors[draw.integers(0, items, queries)] + 0.05 * draw.normal(size=(queries, width)).astype(
        np.float32
    )
    exact: np.ndarray | None = None
    kinds = {
        "flat (exact)": "Flat",
        "IVF1024, 16 probes": "IVF1024,Flat",
        "IVF1024 + PQ16, 16 probes": "IVF1024,PQ16",
    }
    for name, factory in kinds.items():
        begin = time.perf_counter()
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[: min(items, 100_000)])
        index.add(vectors)
        built = time.perf_counter() - begin
        if hasattr(index, "nprobe"):
            index.nprobe = 16
        begin = time.perf_counter()
        nearest = index.search(asked, 10)[1]
        took = 1000 * (time.perf_counter() - begin) / queries
        exact = nearest if exact is None else exact
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, nearest, strict=True)])
        size = len(faiss.serialize_index(index)) / 2**20
        print(
            f"{name}: built in {built:.1f} s, {size:,.0f} MiB, {took:.2f} ms a query, recall of the exact ten {recall:.3f}"
        )


if __name__ == "__main__":
    main(**{name: int(value) for name, value in (word.split("=", 1) for word in sys.argv[1:])})
