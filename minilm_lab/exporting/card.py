"""The README of an export: what is in the folder, how to load it, what was measured, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from minilm_lab import __version__
from minilm_lab.exporting.forwards import BATCH, LENGTH, ROUNDS
from minilm_lab.exporting.graph import OUTPUT
from minilm_lab.exporting.quantised import Loss
from minilm_lab.exporting.request import Request
from minilm_lab.models.resolve import Model


@dataclass(frozen=True)
class Measured:
    """What was measured of an export with ONNX files; empty without."""

    inputs: tuple[str, ...] = ()
    """Inputs of the graph, in order."""
    difference: float | None = None
    """Largest absolute difference between the float file's and torch's hidden states."""
    loss: Loss | None = None
    """What int8 costs."""
    seconds: dict[str, float] | None = None
    """Median seconds of a forward, by form."""


def export_card(
    request: Request,
    origin: Model,
    facts: dict[str, Any],
    measured: Measured,
    embeddings: str | None,
    folder: Path,
) -> str:
    """Return the card for what lies in `folder`; `embeddings`: how the vector of a text is made, where that is set."""
    front, rows, sections = _own_card(origin)
    parts = [
        f"---\n{ModelCardData(**_front(request, origin, front)).to_yaml()}\n---",
        f"# {origin.title}",
        f"Written by minilm-lab {__version__}.",
        _table([("", ""), *_facts(facts), *rows]),
        "## What is here",
        _files(folder),
        "## How to load it",
        *_usage(request, measured, embeddings),
        *_head(request),
        *_measured(measured),
        *sections,
    ]
    return "\n\n".join(parts) + "\n"


def _front(request: Request, origin: Model, source: dict[str, Any]) -> dict[str, Any]:
    sentences = "sentence_transformers" in request.to
    front: dict[str, Any] = {
        "license": source.get("license", "other"),
        "library_name": "sentence-transformers" if sentences else "transformers",
        "pipeline_tag": "sentence-similarity" if sentences else "feature-extraction",
        "tags": ["minilm-lab", *(["onnx"] if request.has_onnx else [])],
    }
    if request.mlm_head == "trained":
        front["pipeline_tag"] = "fill-mask"
    if origin.folder is None:
        front["base_model"] = origin.where
    return front


def _own_card(origin: Model) -> tuple[dict[str, Any], list[tuple[str, str]], list[str]]:
    """Of the card that came with the model: front matter; if the lab wrote it, rows of its table and sections too."""
    file = None if origin.folder is None else origin.folder / "README.md"
    if file is None or not file.is_file():
        return {}, [], []
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        front = ModelCard(text, ignore_metadata_errors=True).data.to_dict()
    except Exception:  # a foreign card may hold anything; it must not stop the export
        return {}, [], []
    if "minilm-lab" not in (front.get("tags") or []):
        return front, [], []
    head, *sections = re.split(r"\n(?=## )", text)
    rows = [(a, b) for a, b in re.findall(r"^\| (.+?) \| (.+?) \|$", head, re.MULTILINE)]
    return front, rows, [section.strip() for section in sections]


def _facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    counted = facts["parameters"]
    yield "family", facts["family"]
    yield (
        "shape",
        f"{facts['layers']} layers, hidden size {facts['hidden_size']}, {facts['attention_heads']} heads, "
        f"feed-forward size {facts['ffn_size']}",
    )
    yield (
        "parameters",
        f"{counted['total'] / 1e6:.1f} M (embeddings {counted['embeddings'] / 1e6:.1f} M, "
        f"Transformer {counted['transformer'] / 1e6:.1f} M)",
    )
    yield "longest input", f"{facts['longest_input']} tokens"


def _files(folder: Path) -> str:
    rows = [("file", "size")]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        rows.append((f"`{path.relative_to(folder)}`", _size(path.stat().st_size)))
    return _table(rows)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _usage(request: Request, measured: Measured, embeddings: str | None) -> Iterator[str]:
    if request.has_weights:
        kind = "AutoModel" if request.mlm_head == "none" else "AutoModelForMaskedLM"
        yield f"""```python
from transformers import {kind}, AutoTokenizer

model, tokenizer = {kind}.from_pretrained("."), AutoTokenizer.from_pretrained(".")
```"""
    if embeddings is not None:
        yield f"Embeddings are {embeddings}."
    if "sentence_transformers" in request.to:
        yield """```python
from sentence_transformers import SentenceTransformer

embeddings = SentenceTransformer(".").encode(["a text", "another text"])
```"""
    if request.has_onnx:
        file = "model.onnx" if "onnx" in request.to else "model_int8.onnx"
        yield f"""ONNX: inputs {", ".join(f"`{name}`" for name in measured.inputs)}, int64 (batch, length), both of any \
size; output `{OUTPUT}`, float32 (batch, length, hidden size):

```python
import numpy, onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
session = onnxruntime.InferenceSession("onnx/{file}")
batch = tokenizer(["a text", "another text"], padding=True, return_tensors="np")
names = [entry.name for entry in session.get_inputs()]
(hidden,) = session.run(None, {{name: batch[name].astype(numpy.int64) for name in names}})
```"""


def _head(request: Request) -> Iterator[str]:
    if request.mlm_head == "zero":
        yield (
            "## Masked-LM head\n\n**Not trained.** Its logits are all 0, so that every token is predicted with "
            "1 / vocabulary. It is there for programs that want one, and as a start for training."
        )
    elif request.mlm_head == "trained":
        yield "## Masked-LM head\n\nThat of the checkpoint, as it was trained."


def _measured(measured: Measured) -> Iterator[str]:
    if measured.difference is None:
        return
    yield "## Measured"
    yield (
        f"ONNX against torch, float32, on padded batches of several sizes and lengths: hidden states differ by "
        f"{measured.difference:.1e} at most."
    )
    if measured.loss is not None:
        loss = measured.loss
        rows = [("int8 against float", ""), ("data", loss.data)]
        if loss.spearman is not None:
            before, after = loss.spearman
            change = f"{before:.2f} -> {after:.2f} ({after - before:+.2f})"
            rows.append(("100 x Spearman of the cosine of embeddings", change))
        rows += [
            (
                "cosine of the two embeddings of a text",
                f"mean {loss.cosine_mean:.4f}, smallest {loss.cosine_min:.4f}",
            ),
            (
                "hidden states, root mean square of the difference",
                f"{100 * loss.relative:.1f} % of their own",
            ),
            ("hidden states, largest difference", f"{loss.largest:.2f}"),
        ]
        yield _table(rows)
    if measured.seconds is not None:
        slowest = measured.seconds["torch"]
        rows = [
            (
                f"forward of {BATCH} x {LENGTH} tokens, one thread, median of {ROUNDS}",
                "ms, and times as fast as torch",
            )
        ]
        rows += [(form, f"{1e3 * s:.1f} ({slowest / s:.2f}x)") for form, s in measured.seconds.items()]
        yield _table(rows)


def _table(rows: list[tuple[str, str]]) -> str:
    head, *body = [f"| {a} | {b} |" for a, b in rows]
    return "\n".join([head, "|---|---|", *body])
