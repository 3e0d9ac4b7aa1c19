"""Find a model: a folder, a model of the hub, or one that comes inside a package of the package registry."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minilm_lab import hub_access
from minilm_lab.errors import LabError, first_line
from minilm_lab.paths import is_there
from minilm_lab.runs.fingerprints import file_checksums

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZERS = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model", "vocab.json")
#: Files beside the weights that decide what a model computes from a text.
DECIDING = {
    "config.json",
    "tokenizer_config.json",
    "merges.txt",
    *(n for n in TOKENIZERS if not n.endswith(".model")),
}


def check_folder(folder: Path, what: str) -> Path:
    """Return `folder` if it holds a config, weights and a tokenizer; LabError naming what is missing."""
    if not (is_there(folder) and folder.is_dir()):
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


def folder_checksum(folder: Path, cache: Path) -> str:
    """Checksum (blake2b) of a model folder's config, weights and tokenizer: what a student could learn from.

    cache: folder that remembers the files' checksums (``paths.cache``).
    """
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and (file.suffix in {".safetensors", ".bin", ".model"} or file.name in DECIDING)
    ]
    parts = [f"{file.name}:{sum_}" for file, sum_ in zip(files, file_checksums(files, cache), strict=True)]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def load_config(where: str, revision: str | None, what: str, **settings: Any) -> PretrainedConfig:
    """Read a model's configuration from a folder or the hub."""
    return _load(AutoConfig, where, revision, what, **settings)


def load_tokenizer(where: str, revision: str | None, what: str, **settings: Any) -> PreTrainedTokenizerBase:
    """Load a model's fast tokenizer from a folder or the hub."""
    return _load(AutoTokenizer, where, revision, what, **settings)


def load_body(where: str, revision: str | None, what: str, **settings: Any) -> PreTrainedModel:
    """Load a model without a task head, in float32; `settings` go to from_pretrained.

    LabError if the weights cannot be read, or lack a parameter (other than the pooler's, which many
    checkpoints are saved without): the library would draw it at random and only warn.
    """
    model, missing = load_with_report(AutoModel, where, revision, what, **settings)
    check_complete([name for name in missing if not name.startswith("pooler.")], model, where, what)
    return model


def load_with_report(
    loader: Any, where: str, revision: str | None, what: str, **settings: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Load a model in float32; also name the parameters that its weights lack, which were drawn at random."""
    model, found = _load(
        loader, where, revision, what, dtype=torch.float32, output_loading_info=True, **settings
    )
    return model, sorted(found["missing_keys"])


def check_complete(missing: Sequence[str], model: PreTrainedModel, where: str, what: str) -> None:
    """LabError if a parameter is `missing` in the weights that `model` was loaded from."""
    if missing:
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise LabError(
            f"{what}: the weights of {where} lack {len(missing)} parameters of a '{model.config.model_type}' "
            f"model ({shown}); save config and weights together with save_pretrained"
        )


def load_classifier(where: str, revision: str | None, what: str, outputs: int) -> PreTrainedModel:
    """Load a model in float32 under a new head of `outputs` scores; the head is drawn at random."""
    return _load(
        AutoModelForSequenceClassification, where, revision, what, dtype=torch.float32, num_labels=outputs
    )


def load_token_classifier(where: str, revision: str | None, what: str, outputs: int) -> PreTrainedModel:
    """Load a model in float32 under a new head of `outputs` scores a token; the head is drawn at random."""
    return _load(
        AutoModelForTokenClassification, where, revision, what, dtype=torch.float32, num_labels=outputs
    )


def load_question_answerer(where: str, revision: str | None, what: str) -> PreTrainedModel:
    """Load a model in float32 with start and end scores a token; a new head is drawn at random."""
    return _load(AutoModelForQuestionAnswering, where, revision, what, dtype=torch.float32, num_labels=2)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Raise LabError if a tokenizer cannot read a text, or gives ids that the model of `config` does not embed."""
    try:
        tokenizer("a text, \u00e9\u732b")
        largest = max(tokenizer.get_vocab().values())
    except Exception as error:  # the reader of tokenizer.json takes what the tokenizer cannot work with
        raise LabError(
            f"the tokenizer of {name} cannot read a text ({first_line(error)}); is it whole?"
        ) from error
    if largest >= config.vocab_size:
        raise LabError(
            f"the tokenizer of {name} has tokens up to id {largest} ({len(tokenizer)} tokens), the model embeds "
            f"{config.vocab_size}: they do not belong together"
        )


def _load(loader: Any, where: str, revision: str | None, what: str, **settings: Any) -> Any:
    local = is_there(Path(where)) and Path(where).is_dir()
    try:
        # Without an answer from the hub, what was downloaded before is used, at once.
        cached = not local and (hub_access.offline() or not hub_access.answers(where, "model"))
        # Code that comes with a model runs only where a caller says so.
        settings = {"trust_remote_code": False, **settings}
        return loader.from_pretrained(where, revision=revision, local_files_only=local or cached, **settings)
    except pickle.UnpicklingError as error:
        raise LabError(
            f"{what}: the weights of {where} are a pickle file that holds more than numbers; it was not opened, since "
            "opening it would run code. Get them as model.safetensors"
        ) from error
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if local:
            raise LabError(f"{what}: {where} cannot be read ({first_line(error)})") from error
        raise LabError(
            f"{what}: '{where}' cannot be loaded from the hub ({first_line(error)}). Without a network, "
            "point to a folder: teacher=path teacher.path=<folder with model and tokenizer>, "
            "or use a teacher that comes as a package: teacher=all_minilm_l6"
        ) from error
