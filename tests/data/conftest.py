"""Tokenizers and blocks that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.data import Blocks, Packing, build

from .helpers import ListCorpus, byte_bpe, many_texts, wordpiece


@pytest.fixture(scope="session")
def bert():
    return wordpiece()


@pytest.fixture(scope="session")
def roberta():
    return byte_bpe()


@pytest.fixture(scope="session")
def gpt():
    return byte_bpe(specials=False)


@pytest.fixture(scope="session")
def packed_blocks(bert, tmp_path_factory: pytest.TempPathFactory) -> Blocks:
    """About 180 full blocks of 16 tokens."""
    return _build(Packing.packed, bert, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="session")
def sentence_blocks(bert, tmp_path_factory: pytest.TempPathFactory) -> Blocks:
    """173 blocks of up to 32 tokens."""
    return _build(Packing.sentences, bert, tmp_path_factory.mktemp("sentences"))


def _build(packing: Packing, tokenizer, cache: Path) -> Blocks:
    corpus = ListCorpus(packing=packing, texts=many_texts(173))
    length = 16 if packing is Packing.packed else 32
    return build(corpus, tokenizer, "bert", length=length, hub=None, cache=cache, progress=False)
