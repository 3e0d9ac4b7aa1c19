"""What makes a Hugging Face folder one of sentence-transformers: modules.json and what it names.

Of a source that has them they are copied as they are; else mean pooling is written, by hand in the form that every
version since 2.0 reads (the library's own writer names modules that only its newest version has).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from minilm_lab import hub_access
from minilm_lab.models.pooling import Normalise, Pooling
from minilm_lab.models.resolve import Model
from minilm_lab.runs.files import write_json

_SETTINGS = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json")
WORDS = {
    "cls": "the state of the first token",
    "max": "the largest values over the tokens",
    "mean": "the mean over the tokens",
    "mean_sqrt_len_tokens": "the sum over the tokens, divided by the root of their number",
    "weightedmean": "the mean over the tokens, weighted by their place",
    "lasttoken": "the state of the last token",
}


def is_normalised(pooling: Pooling) -> bool:
    """Whether the vectors have length 1."""
    return bool(pooling.after) and isinstance(pooling.after[-1], Normalise)


def describe(pooling: Pooling, normalize: bool) -> str:
    """How the vector of a text comes from the states of its tokens, for the card."""
    parts = [", joined with ".join(WORDS[mode] for mode in pooling.modes) + " of a text"]
    for module in pooling.after[: len(pooling.after) - is_normalised(pooling)]:
        if isinstance(module, Normalise):
            parts.append("scaled to length 1")
        else:
            linear, activation = module.children()
            parts.append(
                f"then a linear map to {linear.out_features} numbers and {type(activation).__name__}"
            )
    parts += ["scaled to length 1"] * normalize
    if pooling.prompt:
        parts.append(f"behind the prompt {json.dumps(pooling.prompt, ensure_ascii=False)}")
    return ", ".join(parts)


def copy_modules(folder: Path, source: Model, pooling: Pooling, normalize: bool) -> None:
    """Copy modules.json of `source`, and what it names, to `folder`; its last module becomes, or stays, as `normalize`
    says.

    pooling: what `read_pooling` says of the source.
    """
    paths = [str(entry.get("path") or "") for entry in pooling.entries]
    files = [*_SETTINGS, *(f"{path}/*" for path in paths if path)]
    place = source.folder or Path(
        snapshot_download(
            source.where,
            revision=source.revision,
            allow_patterns=files,
            local_files_only=hub_access.offline() or not hub_access.answers(source.where, "model"),
        )
    )
    for file in {file for pattern in files for file in place.glob(pattern) if file.is_file()}:
        target = folder / file.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if normalize != is_normalised(pooling):
        entries = [dict(entry) for entry in pooling.entries]
        if normalize:
            entries.append(_entry(len(entries), "Normalize"))
        else:
            while str(entries[-1]["type"]).endswith("Normalize"):
                entries.pop()
        write_json(folder / "modules.json", entries)


def write_modules(folder: Path, width: int, longest: int, normalize: bool) -> None:
    """Write mean pooling.

    width: hidden size; longest: tokens after which a text is cut; normalize: scale embeddings to length 1.
    """
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    write_json(folder / "modules.json", [_entry(number, kind) for number, kind in enumerate(kinds)])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})


def _entry(number: int, kind: str) -> dict[str, Any]:
    path = "" if kind == "Transformer" else f"{number}_{kind}"
    return {
        "idx": number,
        "name": str(number),
        "path": path,
        "type": f"sentence_transformers.models.{kind}",
    }
