"""The files that make a Hugging Face folder one of sentence-transformers: mean pooling, then length 1.

Written by hand in the form that every version since 2.0 reads, so that exporting needs no further package.
"""

from __future__ import annotations

from pathlib import Path

from minilm_lab.runs.files import write_json


def write_pooling(folder: Path, width: int, longest: int, normalize: bool) -> None:
    """Add modules.json and what it names to `folder`.

    width: hidden size; longest: tokens after which a text is cut; normalize: scale embeddings to length 1.
    """
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling")] + [("Normalize", "2_Normalize")] * normalize
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
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
