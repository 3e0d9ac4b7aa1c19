"""Text that nobody should train on: documents and blocks that are right, a counted warning, or one message."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from data.helpers import byte_bpe, wordpiece
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.data import Packing, build
from minilm_lab.data.path import PathCorpus
from minilm_lab.data.sentences import sentences
from minilm_lab.errors import LabError

from .fuzzing import Count, cases

#: Scripts from right to left, combining and invisible characters, surrogates' neighbours, separators of all kinds.
PIECES = [
    "the cat sat on a mat ", "ש\u05c1\u05b8ל\u05d5\u05b9ם ", "مرحبا بالعالم ", "e\u0301\u0323\u0302\u0334" * 5, "\u202e\u2066\u200f", "\ufeff",
    "\u2028", "\u0085", "\x1c", "\x0b", "\x0c", "\r", "\r\n", "\n", "\n\n", " ", "\t", "\u3000", "👩\u200d👩\u200d👧", "\U0010ffff", "\ue000",
    "猫が座った", "a" * 3000, "[CLS] [SEP] [MASK] </s> <|endoftext|>", '{"text": "x"}', "\\u0000", "0", "ﷺ" * 40, "\u0300" * 200, "Ǆ", "ß",
]  # fmt: skip
BYTES = [
    b"\0",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\x80" * 9,
    b"PAR1",
    b"\x1a",
    b"\xef\xbb\xbf",
]
#: So that there are blocks.
ENOUGH = "\nthe cat sat on a mat and saw two dogs running" * 3
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=20), min_size=1, max_size=40).map(
    lambda parts: "".join(parts) + ENOUGH
)
TOKENIZERS = {"wordpiece": wordpiece(), "bytes": byte_bpe()}


def documents_of(text: str, packing: Packing) -> list[str]:
    """The definition, in other words: lines, or paragraphs where a blank line stands between two that are not."""
    lines = [line.strip() for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    if packing is Packing.sentences or all(lines):
        return [line for line in lines if line]
    found: list[list[str]] = [[]]
    for line in lines:
        if line:
            found[-1].append(line)
        else:
            found.append([])
    return ["\n".join(part) for part in found if part]


def blocks_are_right(corpus: PathCorpus, documents: list[str], name: str, cache: Path) -> None:
    """Every token of the blocks is one of the tokenizer's, in the order of the documents, and none is lost uncounted."""
    tokenizer = TOKENIZERS[name]
    if corpus.packing is Packing.pairs:  # of sentences, which lose nothing but white space
        whole = ["".join(document.split()) for document in documents]
        cut = [list(sentences(document)) for document in documents]
        assert ["".join("".join(parts).split()) for parts in cut] == whole
        documents = [sentence for parts in cut for sentence in parts]
    blocks = build(corpus, tokenizer, name, length=12, hub=None, cache=cache, progress=False)
    tokens = np.asarray(blocks.tokens)
    assert tokens.max() < len(tokenizer) and blocks.index.documents == len(documents)
    assert blocks.index.characters == sum(map(len, documents))
    plainly = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    ids = [i for d in documents for i in tokenizer(d, **plainly)["input_ids"]]
    specials = set(tokenizer.all_special_ids)
    shown = [
        i
        for row, n in zip(tokens, _lengths(blocks), strict=True)
        for i in row[:n].tolist()
        if i not in specials
    ]
    plain = [i for i in ids if i not in specials]
    if corpus.packing is Packing.packed:  # sentences are cut to the block
        assert shown == plain[: len(shown)] and len(plain) - len(shown) <= blocks.index.dropped


def _lengths(blocks: object) -> list[int]:
    lengths = blocks.lengths  # type: ignore[attr-defined]
    return [blocks.length] * blocks.count if lengths is None else lengths.tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("name", TOKENIZERS)
def test_any_text(name: str, packing: Packing, count: Count, tmp_path: Path) -> None:
    """Valid UTF-8 of any kind: the documents are those of the definition, the blocks hold their tokens."""
    file = tmp_path / "a.txt"

    @given(TEXT)
    @cases(60)
    def try_it(text: str) -> None:
        count.case()
        file.write_bytes(text.encode(errors="replace"))
        corpus = PathCorpus(path=str(file), packing=packing)
        try:
            corpus.fingerprint(None, tmp_path)
            documents = list(corpus.documents(None, tmp_path))
            assert documents == documents_of(text.encode(errors="replace").decode(), packing)
            blocks_are_right(corpus, documents, name, tmp_path / "cache")
        except LabError as error:
            count.refuse()
            assert str(file) in str(error) or "corpus" in str(error), error

    try_it()


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_any_bytes(suffix: str, count: Count, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damaged files of each kind: read with a warning that counts, or refused by name."""
    caplog.set_level(logging.WARNING, "minilm_lab")
    whole = tmp_path / "whole.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [f"the cat sat {n}" for n in range(50)], "n": list(range(50))}), whole
    )
    rows = [
        {"text": "the cat"},
        {"text": None},
        {"text": 5},
        {"text": ["a"]},
        {"txt": "x"},
        [],
        "x",
        {},
        {"text": "\0\ud800"},
    ]
    good = [json.dumps({"text": text}, ensure_ascii=False).encode(errors="replace") for text in PIECES]
    lines = [json.dumps(row).encode() for row in rows] + [b"{", b"nan", b"\xff", b"[" * 5000, b""]
    starts = {
        ".txt": st.lists(st.sampled_from([p.encode(errors="replace") for p in PIECES] + BYTES), max_size=20).map(b"".join),
        ".jsonl": st.tuples(st.lists(st.sampled_from(good)), st.lists(st.sampled_from(lines), max_size=1)).map(lambda x: b"\n".join([*x[0], *x[1]])),
        ".parquet": st.just(whole.read_bytes()),
    }  # fmt: skip
    change = st.tuples(
        st.integers(0, 10**6), st.sampled_from(["cut", "flip", "insert", "none"]), st.sampled_from(BYTES)
    )
    file = tmp_path / f"a{suffix}"

    @given(starts[suffix], st.lists(change, max_size=3))
    @cases(80)
    def try_it(data: bytes, changes: list[tuple[int, str, bytes]]) -> None:
        count.case()
        caplog.clear()
        for where, how, extra in changes:
            at = where % (len(data) + 1)
            if how == "cut":
                data = data[:at]
            elif how == "flip" and at < len(data):
                data = data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
            elif how == "insert":
                data = data[:at] + extra + data[at:]
        file.write_bytes(data)
        corpus = PathCorpus(path=str(file))
        try:
            corpus.fingerprint(None, tmp_path)
            documents = list(corpus.documents(None, tmp_path))
            if len(documents) > 2:
                blocks_are_right(corpus, documents, "bytes", tmp_path / "cache")
        except LabError as error:
            count.refuse()
            assert str(file) in str(error) or "block" in str(error), error
        else:
            if suffix == ".txt":
                damaged = sum(_is_damaged(line) for line in data.split(b"\n"))
                assert (f"{damaged} lines are not valid UTF-8" in caplog.text) == (damaged > 0)
            assert all(isinstance(d, str) and d.strip() for d in documents)

    try_it()


def _is_damaged(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


@pytest.mark.parametrize("character", ["a", "猫", "\u3000a"])
def test_a_line_of_ten_megabytes(character: str, count: Count, tmp_path: Path) -> None:
    """One document, none of it lost: a token for a token as in short pieces."""
    count.case()
    size = 10_000_000 // len(character.encode())
    file = tmp_path / "long.txt"
    file.write_text(character * size, encoding="utf-8")
    corpus = PathCorpus(path=str(file))
    (document,) = corpus.documents(None, tmp_path)
    assert document == (character * size).strip()
    blocks = build(corpus, TOKENIZERS["bytes"], "bytes", length=128, hub=None, cache=tmp_path, progress=False)
    assert blocks.index.documents == 1 and blocks.index.characters == len(document)
    # Bytes are tokens here, or pairs of them: what is in the blocks spells the document.
    text = TOKENIZERS["bytes"].decode(
        np.asarray(blocks.tokens)[:3].reshape(-1).tolist(), skip_special_tokens=True
    )
    assert document.startswith(text.rstrip("\ufffd")) and len(text) > 30


def test_halves_of_characters_are_counted(
    count: Count, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON can write them, tokenizers stop at them."""
    count.case()
    file = tmp_path / "a.jsonl"
    line = '{"text": "the cat \\ud800 sat on a mat and saw two dogs \\ud83d\\ude00"}\n'
    file.write_text(line * 9 + '{"text": "the mat"}\n')
    corpus = PathCorpus(path=str(file))
    documents = list(corpus.documents(None, tmp_path))
    assert documents[0] == "the cat ? sat on a mat and saw two dogs \U0001f600" and documents[9] == "the mat"
    assert "9 texts in 'text' hold halves of characters" in caplog.text
    blocks_are_right(corpus, documents, "bytes", tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b" \n\t\r\n\x0b", "empty"),
        ("\u3000\u2003\n".encode(), None),
        (b"text\0text\n" * 9, "NUL"),
        (b"\xff\xfet\0e\0", "UTF-16"),
        ("caf\xe9 ".encode("latin-1") * 9, "not UTF-8"),
        ("\u200f\u202e\u2066".encode() * 50, None),
    ],
)
def test_what_is_no_text_is_said(content: bytes, says: str | None, count: Count, tmp_path: Path) -> None:
    count.case()
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    corpus = PathCorpus(path=str(file))
    with pytest.raises(LabError, match=says or "block|documents|text|tokens") as error:
        corpus.fingerprint(None, tmp_path)
        build(corpus, TOKENIZERS["wordpiece"], "w", length=8, hub=None, cache=tmp_path, progress=False)
    count.refuse()
    assert "a.txt" in str(error.value) or "path" in str(error.value)
