"""A model as an ONNX file with dynamic batch and length, checked against torch before it is called done."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError, first_line
from minilm_lab.exporting.forwards import of_onnx, of_torch

OUTPUT = "last_hidden_state"
#: Largest difference of hidden states that may be called rounding, relative to the largest hidden state or 1.
TOLERANCE = 1e-4
#: (batch, length) of the check; lengths are cut to what the model takes. None of them is the one of the export.
SHAPES = ((1, 1), (1, 7), (2, 16), (3, 33), (8, 64), (2, 512))
#: A single ONNX file holds less than this many bytes (protobuf).
_LARGEST = 2**31 - 2**20


class _HiddenStates(nn.Module):
    """A body with named inputs in a fixed order and one output."""

    def __init__(self, body: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.body, self.names = body, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.body(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def input_names(body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The inputs of the graph: token ids, mask, and token types where both tokenizer and model have them."""
    takes = inspect.signature(body.forward).parameters
    types = "token_type_ids" in takes and "token_type_ids" in tokenizer.model_input_names
    return ["input_ids", "attention_mask"] + ["token_type_ids"] * types


def check_size(parameters: int) -> None:
    """Raise LabError if a model of so many float32 parameters does not fit into one ONNX file."""
    if 4 * parameters > _LARGEST:
        raise LabError(
            f"to=[onnx]: {parameters / 1e6:.0f} M parameters make a file of {4 * parameters / 1e9:.1f} GB, "
            "more than the 2 GB that one ONNX file may hold"
        )


def write_onnx(body: PreTrainedModel, names: list[str], file: Path) -> None:
    """Export `body` to `file`: inputs `names`, int64 (batch, length); output float32 (batch, length, hidden)."""
    vocabulary = int(body.config.vocab_size)
    ids = torch.arange(2 * 11).reshape(2, 11) % vocabulary
    values = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    file.parent.mkdir(parents=True, exist_ok=True)
    attention, caches = body.config._attn_implementation, getattr(body.config, "use_cache", None)
    # Plain attention makes a smaller and faster graph: the fused one is spelt out with tests for NaN.
    body.set_attn_implementation("eager")
    if caches is not None:  # decoders
        body.config.use_cache = False
    try:
        with _quiet():
            torch.onnx.export(
                _HiddenStates(body, names).eval(),
                tuple(values[name] for name in names),
                file,
                dynamo=True,
                external_data=False,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes={"inputs": tuple(shape for _ in names)},
                verbose=False,
            )
    except Exception as error:  # the exporter wraps whatever goes wrong in types of its own
        raise LabError(
            f"to=[onnx]: torch cannot export a '{body.config.model_type}' model ({first_line(error)})"
        ) from error
    finally:
        body.set_attn_implementation(attention)
        if caches is not None:
            body.config.use_cache = caches


def check_onnx(body: PreTrainedModel, names: list[str], file: Path, longest: int) -> float:
    """Compare `file` with torch on batches of many shapes, with padding on both sides.

    Returns the largest absolute difference of hidden states at real tokens; LabError if one is more than rounding.
    """
    expected, found = of_torch(body, names), of_onnx(file, names)
    random = np.random.default_rng(0)
    worst = 0.0
    for size, length in dict.fromkeys((size, min(length, longest)) for size, length in SHAPES):
        ids = random.integers(0, int(body.config.vocab_size), (size, length))
        mask = np.ones_like(ids)
        for row in range(1, size):  # the first row of each batch is full
            padding = int(random.integers(0, length))
            mask[row, slice(0, padding) if row % 3 == 0 else slice(length - padding, length)] = 0
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        theirs, ours = expected(batch)[mask == 1], found(batch)[mask == 1]
        difference = float(np.abs(ours - theirs).max())
        # A comparison with NaN is false.
        if not difference <= TOLERANCE * max(1.0, float(np.abs(theirs).max())):
            raise LabError(
                f"to=[onnx]: the ONNX file differs from torch by {difference:.1e} on a batch of {size} x {length} "
                f"tokens (allowed: {TOLERANCE:.0e}), so nothing was written. Another version of torch, onnxscript "
                "or transformers may export this model right"
            )
        worst = max(worst, difference)
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress, and warns of things that the check settles."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
