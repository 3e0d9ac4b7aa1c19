"""Vectors of a catalogue's texts, computed once a model: the frozen tower of every method that reads them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minilm_lab.data.checksum import settings_checksum
from minilm_lab.models.encoder import Encoder
from minilm_lab.runs.files import write_atomically
from minilm_lab.runs.fingerprints import file_checksums

_ENDINGS = (".safetensors", ".bin", ".json", ".txt", ".model")


def vectors(model: Encoder, texts: list[str], folder: str | None, cache: Path | None) -> NDArray[np.float64]:
    """(texts, width) of `model`; from `cache` where its files in `folder`, its pooling and the texts are the same."""
    place = None
    if folder is not None and cache is not None and Path(folder).is_dir():
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix in _ENDINGS)
        told = hashlib.sha256("\0".join(texts).encode()).hexdigest()
        settings = [file_checksums(files, cache), repr(model.pooling), model.layer, model.length, told]
        place = cache / "vectors" / f"{settings_checksum(settings)}.npy"
        if place.is_file():
            remembered: NDArray[np.float64] = np.load(place).astype(np.float64)
            return remembered
    made: NDArray[np.float32] = model(texts).numpy()
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, made)
        write_atomically(place, buffer.getvalue())
    return made.astype(np.float64)
