"""What grows how (docs/speed.md): `python -m tests.benchmarks.growth records|corpus|reading|step` from the checkout, by hand."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from minilm_lab import config
from minilm_lab.commands.composing import compose_command


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The fastest of some rounds: others on the machine only ever add to it."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def records(counts: list[int], rounds: int) -> None:
    """Seconds of `minilm-lab runs` (imports and all) and of reading and listing alone, of records of a real size."""
    print("| records | `minilm-lab runs`, s | processor, s |\n|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        runs, made = Path(folder) / "runs", 0
        settings = {f"setting_{n}": {"value": n, "name": "x" * 40} for n in range(60)}
        for count in counts:
            for number in range(made, count):
                run = runs / "finetune" / f"student-task-{number:010x}"
                run.mkdir(parents=True)
                about = {"command": "finetune", "name": "student-task", "identity": f"{number:010x}"}
                score = {"name": "accuracy", "value": 50 + number % 50}
                (run / "result.json").write_text(json.dumps(about | {"score": score, "config": settings}))
                status = {"state": "COMPLETED", "updated": "2026-01-01T00:00:00+00:00"}
                (run / "status.json").write_text(json.dumps(status))
            made = count
            command = [sys.executable, "-m", "minilm_lab", "runs", f"paths.runs={runs}", "sort=score"]
            before = os.times()
            taken = seconds(lambda: subprocess.run(command, check=True, capture_output=True), rounds)  # noqa: B023
            after = os.times()
            used = sum(after[2:4]) - sum(before[2:4])
            print(f"| {count:,} | {taken:.1f} | {used / rounds:.1f} |")


def corpus(megabytes: list[float], rounds: int) -> None:
    """Tokens a second of the lab (text to blocks) and of `datasets.map` on the same text, in turns."""
    import datasets

    from minilm_lab.data import build

    datasets.disable_progress_bars()
    cache = Path(os.environ.get("MINILM_LAB_CACHE", ".cache"))
    words = ["teacher=all_minilm_l6", "corpus=embedded", f"paths.cache={cache}"]
    cfg = compose_command("distill", words)
    tokenizer = config.section(cfg, "teacher").tokenizer(cache)
    source = [" ".join(text.split()) for text in config.section(cfg, "corpus").documents(None, cache)]
    print("| text, MB | tokens, M | lab, M tokens/s | datasets.map | ratio |\n|---:|---:|---:|---:|---:|")
    for size in megabytes:
        with tempfile.TemporaryDirectory() as folder:
            file, written = Path(folder) / "text.txt", 0
            with file.open("w", encoding="utf-8") as stream:
                while written < size * 1e6:
                    for text in source:
                        written += stream.write(text + "\n")
                        if written >= size * 1e6:
                            break
            path = config.section(
                compose_command("distill", ["corpus=path", f"corpus.path={file}"]), "corpus"
            )
            ours, theirs, tokens = [], [], 0
            for number in range(rounds):
                start = time.perf_counter()
                place = Path(folder) / f"cache{number}"
                blocks = build(path, tokenizer, "k", length=128, hub=None, cache=place, progress=False)
                ours.append(time.perf_counter() - start)
                tokens = blocks.index.tokens
                start = time.perf_counter()
                rows = datasets.load_dataset(
                    "text", data_files=str(file), cache_dir=str(place), split="train"
                )
                rows.map(
                    lambda batch: tokenizer(
                        batch["text"], add_special_tokens=False, return_attention_mask=False
                    ),
                    batched=True,
                    remove_columns="text",
                )
                theirs.append(time.perf_counter() - start)
        lab, other = tokens / min(ours) / 1e6, tokens / min(theirs) / 1e6
        print(f"| {size:g} | {tokens / 1e6:.2f} | {lab:.2f} | {other:.2f} | {lab / other:.2f} |")


def reading(megabytes: list[float], rounds: int) -> None:
    """Tokens a second of random blocks out of the memory map."""
    import numpy as np

    from minilm_lab.data.blocks import TOKENS

    print("| tokens, M | read at random, M tokens/s |\n|---:|---:|")
    for size in megabytes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / TOKENS
            count = int(size * 1e6 / 128)
            np.memmap(file, np.uint16, "w+", shape=(count, 128))[:] = 7
            blocks, draw = np.memmap(file, np.uint16, "r", shape=(count, 128)), np.random.default_rng(0)
            chosen = draw.integers(0, count, 64 * 200).reshape(200, 64)
            taken = seconds(lambda: [blocks[rows].astype(np.int64).sum() for rows in chosen], rounds)  # noqa: B023
            print(f"| {size:g} | {64 * 200 * 128 / taken / 1e6:.0f} |")


def step(rounds: int) -> None:
    """A distillation step of random models on one thread: processor time (others on the machine do not count), memory."""
    import torch
    from transformers import BertConfig, BertModel

    from minilm_lab.benchmarks import measure
    from minilm_lab.benchmarks.machine import peak_bytes
    from minilm_lab.benchmarks.step import Shape, Step, Variant

    def model(layers: int, width: int) -> BertModel:
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 12}
        return BertModel(BertConfig(num_hidden_layers=layers, max_position_embeddings=512, **sizes))

    torch.set_num_threads(1)
    device = torch.device("cpu")
    base = {"length": 128, "heads": 12, "depth": 3, "width": 384}
    cases = [base]
    for name, values in (("length", (256, 512)), ("heads", (24, 48)), ("depth", (6, 12)), ("width", (768,))):
        cases += [{**base, name: value} for value in values]
    print("| length | heads | student's layers | width | operations, G | processor, s | memory, MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for case in cases:
        teacher, student = model(2 * case["depth"], case["width"]), model(case["depth"], case["width"])
        shape = Shape(4, case["length"], case["heads"])
        models = measure.Models(teacher, student, 2 * case["depth"], 30522)
        operations = measure.useful_operations(models, shape)
        work = Step(Variant("blockwise"), teacher, student, models.layer, shape, device)
        ids = torch.randint(5, 30522, (shape.batch, shape.length), generator=torch.Generator().manual_seed(0))
        taken = []
        for _ in range(rounds + 1):
            start = time.process_time()
            work.run(ids)
            taken.append(time.process_time() - start)
        memory = peak_bytes(lambda: work.run(ids), device)  # noqa: B023
        numbers = " | ".join(str(case[name]) for name in ("length", "heads", "depth", "width"))
        print(
            f"| {numbers} | {operations / 1e9:.0f} | {min(taken[1:]):.2f} | {memory / 1e6:.0f} |", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["records", "corpus", "reading", "step"])
    parser.add_argument("sizes", nargs="*", type=float)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "records":
        records([int(size) for size in asked.sizes or [1000, 10_000]], asked.rounds)
    elif asked.what == "corpus":
        corpus(asked.sizes or [3, 30], asked.rounds)
    elif asked.what == "step":
        step(asked.rounds)
    else:
        reading(asked.sizes or [10, 300], asked.rounds)
