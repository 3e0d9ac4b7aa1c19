"""Find a model: a folder, a model of the hub, or one that comes inside a package of the package registry."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from minilm_lab.errors import LabError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "vocab.json")


def check_folder(folder: Path, what: str) -> Path:
    """Return `folder` if it holds a config, weights and a tokenizer; LabError naming what is missing."""
    if not folder.is_dir():
        raise LabError(f"{what}: {folder} is not a folder; give a folder that save_pretrained wrote")
    for needed, names in (
        ("config.json", ("config.json",)),
        ("weights", WEIGHTS),
        ("a tokenizer", TOKENIZERS),
    ):
        if not any((folder / name).is_file() for name in names):
            raise LabError(
                f"{what}: {folder} has no {needed} (none of {', '.join(names)}). "
                "Save it there with save_pretrained, model and tokenizer both"
            )
    return folder


def folder_checksum(folder: Path) -> str:
    """Checksum (blake2b) of a model folder's config, weights and tokenizer: what a student could learn from."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        if file.is_file() and (
            file.suffix in {".safetensors", ".bin", ".model"}
            or file.name in {"config.json", "tokenizer.json", "vocab.txt", "vocab.json"}
        ):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while piece := stream.read(1 << 22):
                    digest.update(piece)
    return digest.hexdigest()


def load_config(where: str, revision: str | None, what: str) -> PretrainedConfig:
    """Read a model's configuration from a folder or the hub."""
    return _from_hub(AutoConfig, where, revision, what)


def load_tokenizer(where: str, revision: str | None, what: str) -> PreTrainedTokenizerBase:
    """Load a model's fast tokenizer from a folder or the hub."""
    return _from_hub(AutoTokenizer, where, revision, what)


def _from_hub(loader: Any, where: str, revision: str | None, what: str) -> Any:
    try:
        return loader.from_pretrained(where, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if Path(where).is_dir():
            raise LabError(f"{what}: {where} cannot be read ({_first_line(error)})") from error
        raise LabError(
            f"{what}: '{where}' cannot be loaded from the hub ({_first_line(error)}). Without a network, "
            "point to a folder: teacher=path teacher.path=<folder with model and tokenizer>, "
            "or use a teacher that comes as a package: teacher=all_minilm_l6"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
