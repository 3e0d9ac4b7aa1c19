"""Every file of conf/corpus fits its dataclass and names all of its settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from minilm_lab.commands.composing import compose_command
from minilm_lab.config import build, locate

FILES = sorted((Path(__file__).parents[2] / "conf" / "corpus").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_corpus_file_builds_its_corpus(file: Path) -> None:
    # As Hydra composes it: a corpus may hold another one.
    node = compose_command("distill", [f"corpus={file.stem}"]).corpus
    schema = locate(node["_target_"], "x")
    assert {field.name for field in dataclasses.fields(schema)} == set(node) - {"_target_"}
    for open_setting in ("path", "source"):
        if OmegaConf.is_missing(node, open_setting):
            node[open_setting] = "somewhere"
    corpus = build(node, "corpus")
    assert type(corpus) is schema
    assert corpus.name == file.stem.replace("_", "-")
