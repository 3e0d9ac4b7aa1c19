"""The part of gpu.sh that needs torch, triton and transformers alone: kernels, steps, minutes of training.

python experiments/speed/gpu.py FOLDER MINUTES
"""

from __future__ import annotations

import copy
import json
import sys
import sysconfig
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertModel

from minilm_lab.relations import relation_kls
from minilm_lab.relations.api import available_backends

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BACKENDS = [name for name in ("reference", "blockwise", "triton") if name in available_backends(DEVICE)]
#: Largest deviation of loss and gradient from float64, relative to the largest value of either.
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 3e-2}
BYTES = 256
"""Tokens of the text: bytes, and after them [MASK]."""


def seconds(work: Any, rounds: int) -> float:
    times = []
    for _ in range(rounds + 2):
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[2:])[rounds // 2]


def kernels() -> list[dict[str, Any]]:
    """Loss and gradient of every backend against the reference in float64."""
    rows = []
    lengths = (128, 200, 512) if DEVICE.type == "cuda" else (64, 100)
    for length, heads, dtype in product(lengths, (12, 48), TOLERANCE):
        draw = torch.Generator().manual_seed(length + heads)
        student, teacher = (torch.randn(2, length, width, generator=draw) for width in (384, 768))

        def value(backend: str, kind: torch.dtype) -> tuple[Tensor, Tensor]:
            own = student.to(dtype).to(DEVICE, kind, copy=True).requires_grad_()  # noqa: B023
            theirs = teacher.to(dtype).to(DEVICE, kind)  # noqa: B023
            loss = relation_kls([((own, own), (theirs, theirs), heads)], backend=backend).sum()  # noqa: B023
            loss.backward()
            assert own.grad is not None
            return loss.detach().double(), own.grad.double()

        right, slope = value("reference", torch.float64)
        for backend in BACKENDS:
            loss, gradient = value(backend, dtype)
            off = float((loss - right).abs() / right.abs())
            tilt = float((gradient - slope).abs().max() / slope.abs().max())
            name = str(dtype).removeprefix("torch.")
            rows.append(
                {
                    "backend": backend,
                    "length": length,
                    "heads": heads,
                    "dtype": name,
                    "loss": off,
                    "gradient": tilt,
                }
            )
            print(
                f"{backend:9} {length:4} x {heads:2} {name:8} loss {off:.1e} gradient {tilt:.1e}", flush=True
            )
            if max(off, tilt) > TOLERANCE[dtype]:
                raise SystemExit(f"{backend} is further from float64 than {TOLERANCE[dtype]}: {rows[-1]}")
    return rows


def bert(layers: int, width: int, kind: Any = BertModel, vocabulary: int = 30522) -> Any:
    """A random model."""
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 32}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return kind(BertConfig(vocab_size=vocabulary, num_hidden_layers=layers, **sizes, **still)).to(DEVICE)


def projections(model: Any, ids: Tensor) -> list[Tensor]:
    """Q, K and V of the last layer, (batch, length, width) each."""
    attention, found = model.encoder.layer[-1].attention.self, []
    hooks = [
        getattr(attention, name).register_forward_hook(lambda _, __, output: found.append(output))
        for name in ("query", "key", "value")
    ]
    try:
        model(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def loss_of(student: Any, teacher: Any, ids: Tensor, heads: int, backend: str) -> Tensor:
    """The MiniLMv2 loss."""
    with torch.no_grad():
        theirs = projections(teacher, ids)
    pairs = [((s, s), (t, t), heads) for s, t in zip(projections(student, ids), theirs, strict=True)]
    return relation_kls(pairs, backend=backend).sum()


def steps() -> list[dict[str, Any]]:
    """Seconds of a whole distillation step, teacher 12 x 768, student 6 x 384 (on a processor: smaller)."""
    big = DEVICE.type == "cuda"
    teacher = bert(*((12, 768) if big else (2, 96))).eval()
    student, rows = bert(*((6, 384) if big else (1, 96))), []
    for (batch, length), heads in product([(256, 128), (64, 512)] if big else [(2, 32)], (12, 48)):
        ids = torch.randint(5, 30522, (batch, length), device=DEVICE)
        for backend, bf16 in product(BACKENDS, (False, True)):
            model = copy.deepcopy(student)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

            def step() -> None:
                with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):  # noqa: B023
                    loss = loss_of(model, teacher, ids, heads, backend)  # noqa: B023
                loss.backward()
                optimizer.step()  # noqa: B023
                optimizer.zero_grad()  # noqa: B023

            row = {"batch": batch, "length": length, "heads": heads, "backend": backend, "bf16": bf16}
            try:
                taken = seconds(step, 5 if big else 1)
            except torch.cuda.OutOfMemoryError:
                rows.append(row | {"seconds": None})
                print(row, "out of memory", flush=True)
                continue
            peak = torch.cuda.max_memory_allocated() if big else None
            rows.append(
                row | {"seconds": taken, "tokens_per_second": batch * length / taken, "peak_bytes": peak}
            )
            print(rows[-1], flush=True)
            if big:
                torch.cuda.reset_peak_memory_stats()
    return rows


def training(minutes: float) -> dict[str, Any]:
    """A byte-level teacher learns Python's standard library by masked bytes; then a student of half its layers its relations."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = torch.frombuffer(
        bytearray(b"\n".join(file.read_bytes() for file in files)), dtype=torch.uint8
    ).long()
    held, text = text[: len(text) // 20], text[len(text) // 20 :]
    big = DEVICE.type == "cuda"
    length, batch = (256, 64) if big else (64, 8)
    teacher = bert(*((6, 384) if big else (2, 96)), BertForMaskedLM, BYTES + 1)
    draw = torch.Generator().manual_seed(0)

    def blocks(source: Tensor, count: int) -> Tensor:
        starts = torch.randint(0, len(source) - length, (count, 1), generator=draw)
        return source[starts + torch.arange(length)].to(DEVICE)

    def masked(ids: Tensor) -> Tensor:
        hidden = (torch.rand(ids.shape, generator=draw) < 0.15).to(DEVICE)
        labels = torch.where(hidden, ids, -100)
        loss: Tensor = teacher(torch.where(hidden, BYTES, ids), labels=labels).loss
        return loss

    def run(model: Any, loss: Any, share: float) -> int:
        optimizer, count = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True), 0
        end = time.monotonic() + 60 * minutes * share
        while time.monotonic() < end:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=big):
                value = loss(blocks(text, batch))
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            count += 1
            if count % 200 == 0:
                print(f"step {count} loss {float(value):.4f}", flush=True)
        return count

    taught = run(teacher, masked, 1 / 3)
    teacher.eval()
    student = bert(*((3, 384) if big else (1, 96)), vocabulary=BYTES + 1)
    backend, heads = BACKENDS[-1], 12
    fixed = blocks(held, 32)

    def distance() -> dict[str, float]:
        with torch.no_grad():
            return {name: float(loss_of(student, teacher.bert, fixed, heads, name)) for name in BACKENDS}

    before = distance()
    made = run(student, lambda ids: loss_of(student, teacher.bert, ids, heads, backend), 2 / 3)
    after = distance()
    found = {"teacher_steps": taught, "student_steps": made, "backend": backend, "held_out": [before, after]}
    print(found, flush=True)
    if not after[backend] < before[backend]:
        raise SystemExit("the held-out loss did not fall")
    return found


def main() -> None:
    out, minutes = Path(sys.argv[1]), float(sys.argv[2])
    gpu = torch.cuda.get_device_name() if DEVICE.type == "cuda" else None
    print(
        f"torch {torch.__version__}, {gpu or 'no GPU: everything smaller'}, backends: {', '.join(BACKENDS)}",
        flush=True,
    )
    report: dict[str, Any] = {"torch": torch.__version__, "gpu": gpu}
    for name, part in (("kernels", kernels), ("steps", steps), ("training", lambda: training(minutes))):
        report[name] = part()
        (out / "gpu.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
