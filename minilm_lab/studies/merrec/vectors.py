"""Vectors of titles, each distinct title once, kept by what made them: the model's weights, its tokenizer and the titles."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minilm_lab.data.kept import kept
from minilm_lab.models.encoder import Encoder
from minilm_lab.runs.identity import identity_of

log = logging.getLogger(__name__)
Floats = NDArray[np.float32]
STEP = 8192
"""Titles between two writes: a catalogue's vectors need not fit in memory."""


def of_titles(encoder: Encoder, titles: Sequence[str], cache: Path) -> NDArray[np.float16]:
    """(titles, width) float16, mapped from a file in `cache`; made first where they are not there.

    83 M titles × 384 take 64 GB on the disk; nothing of it is held in memory.
    """
    name = identity_of(
        "merrec_vectors",
        {
            "encoder": weights_of(encoder),
            "pooling": repr(encoder.pooling),
            "layer": encoder.layer,
            "length": encoder.length,
            "titles": texts_of(titles),
        },
    )

    def write(folder: Path) -> None:
        file = np.lib.format.open_memmap(
            folder / "vectors.npy", mode="w+", dtype=np.float16, shape=(len(titles), encoder.width)
        )
        for start in range(0, len(titles), STEP):
            file[start : start + STEP] = encoder(titles[start : start + STEP]).numpy()
        file.flush()

    return kept(
        cache / "merrec" / f"vectors-{name}",
        lambda folder: np.load(folder / "vectors.npy", mmap_mode="r"),
        write,
        (OSError, ValueError),
        "another process encodes the titles",
    )


def hashed_words(titles: Sequence[str], width: int = 384) -> Floats:
    """(titles, width) float32: counts of words by the hash of each, signed, of norm 1: what needs no encoder."""
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=width, alternate_sign=True, norm="l2", dtype=np.float32)
    return np.asarray(words.transform(titles).todense(), dtype=np.float32)


def weights_of(encoder: Encoder) -> str:
    """Checksum of the weights that a vector depends on, and of the tokenizer."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(encoder.body.state_dict().items()):
        if name.startswith(
            "pooler."
        ):  # no pooling here reads it, and where a checkpoint lacks it, it is drawn
            continue
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().float().numpy()).data)
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    digest.update((backend.to_str() if backend is not None else repr(encoder.tokenizer)).encode())
    return digest.hexdigest()


def texts_of(titles: Sequence[str]) -> str:
    """Checksum of texts in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for title in titles:
        digest.update(title.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()
