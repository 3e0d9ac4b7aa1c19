"""A model's folder: whether it is whole, where in a cache of the hub it lies, and a checksum of what decides a result."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from minilm_lab.errors import LabError
from minilm_lab.paths import is_there
from minilm_lab.runs.files import read_json
from minilm_lab.runs.fingerprints import file_checksums

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
#: Folder of paths.cache with models into which an adapter was merged, each named by the checksum of both.
MERGED = "merged"
#: Files that no loader of models or tokenizers reads, whatever their place.
_OTHER = re.compile(
    r"\..*|readme.*|licen[cs]e.*|notice.*|use_policy.*|.*\.(md|rst|pdf|png|jpe?g|gif|svg|webp|mp4|log|csv|tsv|h5|"
    r"msgpack|ot|onnx|onnx_data|tflite|mlmodel|ckpt|lock|part|tmp)|events\.out.*|training_args\..*|optimizer\..*|"
    r"scheduler\..*|scaler\..*|rng_state.*|trainer_state\.json|(all|train|eval|test|predict)_results\.(json|txt)",
    re.IGNORECASE,
)


def model_folder(folder: Path, what: str) -> Path:
    """Return `folder`, or the snapshot in it where it is one of a hub cache (models--<owner>--<name>).

    LabError, naming the setting `what` and what is missing, unless there are a config, weights and a tokenizer.
    """
    if not (is_there(folder) and folder.is_dir()):
        raise LabError(f"{what}: {folder} is not a folder; give a folder that save_pretrained wrote")
    folder = snapshot(folder, what)
    for needed, names in (
        ("config.json", ("config.json",)),
        ("weights", WEIGHTS),
        ("tokenizer", TOKENIZERS),
    ):
        if not any((folder / name).is_file() for name in names):
            raise LabError(
                f"{what}: {folder} has no {needed} (none of {', '.join(names)}). "
                "Save it there with save_pretrained, model and tokenizer both"
            )
    return folder


def snapshot(folder: Path, what: str) -> Path:
    """The downloaded version in a folder of a hub cache: that of `main`, else the only one; another folder as it is."""
    snapshots = folder / "snapshots"
    if not (folder.name.startswith("models--") and snapshots.is_dir()):
        return folder
    main = folder / "refs" / "main"
    versions = sorted(path for path in snapshots.iterdir() if path.is_dir())
    if main.is_file() and (version := snapshots / main.read_text().strip()).is_dir():
        return version
    if len(versions) != 1:
        names = ", ".join(version.name for version in versions) or "none"
        raise LabError(
            f"{what}: {folder} holds {len(versions)} versions ({names}); give one of {snapshots}/…"
        )
    return versions[0]


def folder_checksum(folder: Path, cache: Path | None = None) -> str:
    """Checksum (blake2b) of everything in a model's folder that loading a model or a tokenizer could read: all files
    but documentation, pictures, logs, training state and other libraries' weights.

    Of a model that an adapter was merged into it is that of both: sums of weights may differ in their last bit.

    cache: folder that remembers the files' checksums (``paths.cache``).
    """
    if folder.parent.name == MERGED:
        return folder.name
    files = sorted(_read(folder))
    sums = file_checksums(files, cache)
    parts = [f"{file.relative_to(folder).as_posix()}:{sum_}" for file, sum_ in zip(files, sums, strict=True)]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _read(folder: Path) -> Iterator[Path]:
    modules = read_json(folder / "modules.json")
    named = [str(entry.get("path", "")) for entry in modules] if isinstance(modules, list) else []
    for place in (folder, folder / "additional_chat_templates", *(folder / name for name in named if name)):
        for file in place.iterdir() if place.is_dir() else ():
            if file.is_file() and not _OTHER.fullmatch(file.name):
                yield file
