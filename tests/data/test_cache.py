"""The cache of blocks: nothing lost, nothing half-made used, nothing built twice."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from minilm_lab.data import Blocks, Packing, build
from minilm_lab.data import cache as cache_module
from minilm_lab.data.blocks import BrokenCache, held_out_count
from minilm_lab.errors import LabError

from .helpers import ListCorpus, many_texts, wordpiece


def built(corpus: ListCorpus, tokenizer, cache: Path, *, length: int = 16, key: str = "bert") -> Blocks:
    return build(corpus, tokenizer, key, length=length, hub=None, cache=cache, progress=False)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt"])
def test_blocks_hold_the_whole_text_in_order(request, kind: str, tmp_path: Path) -> None:
    tokenizer = request.getfixturevalue(kind)
    texts = many_texts(60)
    blocks = built(ListCorpus(texts=texts), tokenizer, tmp_path)
    edge = 0 if kind == "gpt" else 1
    if edge:  # the tokenizer's own frame: that of an empty text
        assert (blocks.tokens[:, [0, -1]] == tokenizer("")["input_ids"]).all()
    stream = blocks.tokens[:, edge : 16 - edge].reshape(-1).tolist()
    separator = {"bert": 3, "roberta": 2, "gpt": 0}[kind]
    expected: list[int] = []
    for text in texts:
        expected += ([separator] if expected else []) + tokenizer(text, add_special_tokens=False)["input_ids"]
    assert stream == expected[: len(stream)]
    assert len(expected) - len(stream) == blocks.index.dropped < 16
    assert blocks.index.tokens == blocks.count * 16
    assert (blocks.index.documents, blocks.index.characters) == (60, sum(map(len, texts)))


def test_a_second_build_reads_nothing(bert, tmp_path: Path) -> None:
    corpus = ListCorpus(texts=many_texts(60))
    first = built(corpus, bert, tmp_path)
    again = built(corpus, None, tmp_path)
    assert corpus.reads == 1
    assert again.index == first.index and np.array_equal(again.tokens, first.tokens)
    assert [file.name for file in (tmp_path / "corpora").iterdir() if file.suffix == ".tmp"] == []


def test_everything_that_changes_the_blocks_changes_their_folder(bert, tmp_path: Path) -> None:
    texts = many_texts(60)
    variants = [
        built(ListCorpus(texts=texts), bert, tmp_path),
        built(ListCorpus(texts=texts[:-1]), bert, tmp_path),
        built(ListCorpus(texts=texts), bert, tmp_path, length=17),
        built(ListCorpus(texts=texts), bert, tmp_path, key="other"),
        built(ListCorpus(texts=texts, packing=Packing.sentences), bert, tmp_path),
    ]
    assert len({blocks.folder for blocks in variants}) == len(variants)
    assert built(ListCorpus(texts=texts, name="renamed"), bert, tmp_path).folder == variants[0].folder


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": lambda folder: flip(folder / "tokens.bin"),
    "a cut file": lambda folder: os.truncate(folder / "tokens.bin", 100),
    "a flipped length": lambda folder: flip(folder / "lengths.bin"),
    "no tokens": lambda folder: (folder / "tokens.bin").unlink(),
    "no index": lambda folder: (folder / "index.json").unlink(),
    "half an index": lambda folder: (folder / "index.json").write_text('{"corpus": '),
    "another index": lambda folder: (folder / "index.json").write_text('{"corpus": "x"}'),
    "no checksums": lambda folder: (folder / "index.json").write_text(
        json.dumps({**json.loads((folder / "index.json").read_text()), "checksums": {}})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_cache_is_noticed_and_built_again(damage: str, bert, tmp_path: Path, caplog) -> None:
    corpus = ListCorpus(texts=many_texts(60), packing=Packing.sentences)
    blocks = built(corpus, bert, tmp_path)
    good = np.array(blocks.tokens)
    DAMAGE[damage](blocks.folder)
    with pytest.raises(BrokenCache):
        Blocks.open(blocks.folder)
    with caplog.at_level(logging.WARNING):
        again = built(corpus, bert, tmp_path)
    assert "broken" in caplog.text and "made again" in caplog.text
    assert corpus.reads == 2
    assert np.array_equal(again.tokens, good)


class Slow(ListCorpus):
    """Says that it is being read, and takes its time."""

    def documents(self, hub, cache):
        with (Path(cache) / "reads").open("a") as log:
            log.write("x")
        for text in super().documents(hub, cache):
            time.sleep(0.005)
            yield text


def _build_slowly(cache: Path) -> None:
    # Batches of one document: blocks are on the disk long before the end.
    tokenise = cache_module.tokenise
    cache_module.tokenise = lambda *texts, **how: tokenise(*texts, batch=1, **how)
    built(Slow(texts=many_texts(120)), wordpiece(), cache)


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"no {file} after a minute"
        time.sleep(0.01)


def test_a_killed_build_is_never_used(bert, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_build_slowly, args=(tmp_path,))
    process.start()
    _wait_for(tmp_path / "reads")
    time.sleep(0.1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list((tmp_path / "corpora").glob("*.tmp")), "it was not killed in the middle"
    assert not [found for found in (tmp_path / "corpora").iterdir() if found.is_dir() and not found.suffix]
    corpus = ListCorpus(texts=many_texts(120))
    blocks = built(corpus, bert, tmp_path)
    assert corpus.reads == 1 and blocks.index.documents == 120
    assert not list((tmp_path / "corpora").glob("*.tmp"))


def test_of_two_processes_one_builds_and_the_other_waits(bert, tmp_path: Path, caplog) -> None:
    process = multiprocessing.get_context("fork").Process(target=_build_slowly, args=(tmp_path,))
    process.start()
    _wait_for(tmp_path / "reads")
    corpus = ListCorpus(texts=many_texts(120))
    with caplog.at_level(logging.WARNING):
        blocks = built(corpus, bert, tmp_path)
    process.join()
    assert process.exitcode == 0
    assert corpus.reads == 0 and (tmp_path / "reads").read_text() == "x"
    assert "waiting" in caplog.text
    assert blocks.index.documents == 120


def test_a_full_disk_is_said_and_leaves_nothing(bert, tmp_path: Path, monkeypatch) -> None:
    def full(folder, index):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "write_index", full)
    with pytest.raises(LabError, match=r"disk is full.*paths\.cache"):
        built(ListCorpus(texts=many_texts(60)), bert, tmp_path)
    assert [found for found in (tmp_path / "corpora").iterdir() if found.is_dir()] == []


@pytest.mark.parametrize(
    "texts, length, message",
    [
        ([], 16, "gives no document"),
        (["the cat"], 16, r"too small: 2 tokens make 0 block\(s\) of 16"),
        (many_texts(60), 7, "7 tokens is too short; use 8"),
    ],
)
def test_too_little_is_said(texts: list[str], length: int, message: str, bert, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=message):
        built(ListCorpus(texts=texts), bert, tmp_path, length=length)


def test_held_out_share() -> None:
    assert [held_out_count(n) for n in (2, 20, 100, 1280, 6400, 10_000, 51_200, 10**7)] == [
        1,
        1,
        5,
        64,
        64,
        100,
        512,
        512,
    ]


def test_held_out_blocks_are_spread(bert, tmp_path: Path) -> None:
    blocks = built(ListCorpus(texts=many_texts(1200)), bert, tmp_path)
    chosen = blocks.held_out
    assert len(set(chosen.tolist())) == len(chosen) == held_out_count(blocks.count)
    halves = (chosen < blocks.count / 2).mean()
    assert 0.3 < halves < 0.7


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    tokenizer = wordpiece()
    tokenizer.add_tokens([f"word{n}" for n in range(66_000)])
    texts = [*many_texts(30), "word65999 word65000"] * 2
    blocks = built(ListCorpus(texts=texts), tokenizer, tmp_path)
    assert blocks.tokens.dtype == np.uint32
    assert tokenizer.convert_tokens_to_ids("word65999") in blocks.tokens
