"""The user's own text: what is a document, and what is refused."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from minilm_lab.data import Packing
from minilm_lab.data.path import PathCorpus
from minilm_lab.errors import LabError

CACHE = Path("unused")


def read(path: Path, **fields) -> list[str]:
    corpus = PathCorpus(path=str(path), **fields)
    corpus.fingerprint(None, CACHE)
    return list(corpus.documents(None, CACHE))


def fingerprint(path: Path, **fields) -> str:
    return PathCorpus(path=str(path), **fields).fingerprint(None, CACHE)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_parquet(path: Path, **columns: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    "content, documents",
    [
        ("one\ntwo\nthree", ["one", "two", "three"]),
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("\n\none\ntwo\n\n\n", ["one", "two"]),  # blank lines, but none between documents
        ("one\r\n\r\ntwo\r\nthree\r\n", ["one", "two\nthree"]),
        ("\ufeffone\n  two  \n", ["one", "two"]),
    ],
)
def test_documents_of_a_text_file(content: str, documents: list[str], tmp_path: Path) -> None:
    assert read(write(tmp_path / "notes.md", content)) == documents


def test_with_sentences_each_line_is_a_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "one\ntwo\n\nthree\n")
    assert read(file, packing=Packing.sentences) == ["one", "two", "three"]


def test_a_paragraph_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    lines = ["word " * 200] * 3000
    documents = read(write(tmp_path / "a.txt", "title\n\n" + "\n".join(lines)))
    assert max(map(len, documents)) < 1_010_000
    assert " ".join(documents).split() == " ".join(["title", *lines]).split()


def test_json_lines_and_parquet(tmp_path: Path) -> None:
    rows = [{"text": "one", "n": 1}, {"text": None}, {"text": " "}, {"text": "two\nlines"}]
    json_file = write(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, rows)))
    parquet_file = write_parquet(tmp_path / "a.parquet", n=[1, 2, 3], body=["one", None, "two\nlines"])
    assert read(json_file) == read(parquet_file, text="body") == ["one", "two\nlines"]
    assert read(json_file, max_documents=1) == ["one"]


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "third")
    write(tmp_path / "a" / "2.jsonl", '{"text": "second"}')
    write_parquet(tmp_path / "a" / "1.parquet", text=["first"])
    write(tmp_path / ".git" / "c.txt", "hidden")
    write(tmp_path / "picture.png", b"\x89PNG\0")
    assert read(tmp_path) == ["first", "second", "third"]


def test_a_folder_in_the_hubs_layout(tmp_path: Path) -> None:
    write(
        tmp_path / "README.md",
        "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/train-*\n"
        "  - split: test\n    path: en/test-*\n- config_name: de\n  data_files:\n"
        "  - split: train\n    path: de/train-*\n---\n",
    )
    write_parquet(tmp_path / "en" / "train-1.parquet", text=["a", "b"])
    write_parquet(tmp_path / "en" / "test-1.parquet", text=["c"])
    write_parquet(tmp_path / "de" / "train-1.parquet", text=["d"])
    assert read(tmp_path, config="en") == ["a", "b"]
    assert read(tmp_path, config="en", split="test") == ["c"]
    assert read(tmp_path, config="de") == ["d"]
    assert len({fingerprint(tmp_path, config=c) for c in ("en", "de")}) == 2
    with pytest.raises(LabError, match="it has: en, de"):
        fingerprint(tmp_path)
    with pytest.raises(LabError, match="no split 'dev'; it has: train, test"):
        fingerprint(tmp_path, config="en", split="dev")
    with pytest.raises(LabError, match=r"no text column 'txt'.*it has: text.*Did you mean 'text'"):
        read(tmp_path, config="en", text="txt")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", "", "is empty"),
        ("a.txt", " \n\n ", "is empty"),
        ("a.jsonl", "", "is empty"),
        ("a.bin", bytes(range(256)) * 20, "is binary"),
        ("a.txt", b"text " * 500_000 + b"\0", "is binary"),  # far behind the start
        ("a.jsonl", b'{"text": "a\0"}', "is binary"),
        ("a.txt", "Ёлка зелёная".encode("cp1251") * 9, "another encoding.*iconv"),
        ("a.parquet", "text", "no Parquet file"),
        ("a.parquet", b"PAR1 but broken", "broken Parquet file"),
        ("a.jsonl", '{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("a.json", '["a"]', "entry 1 is JSON, but no object"),
        ("a.jsonl", '{"txt": "a", "n": 1}', r"no text column 'text'; it has: txt, n\..*corpus\.text="),
        ("a.jsonl", '{"text": 5}', "holds int, not text"),
    ],
)
def test_bad_files_are_refused(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(LabError, match=message) as error:
        read(file)
    assert str(file) in str(error.value)


def test_bad_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"corpus\.path=.*nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(LabError, match=r"holds no text: looked for \.csv"):
        read(tmp_path)
    with pytest.raises(LabError, match=r"corpus\.config=en needs a folder in the hub's layout"):
        read(tmp_path, config="en")
    with pytest.raises(LabError, match=r"corpus\.max_documents=0"):
        PathCorpus(path="x", max_documents=0)


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path, caplog) -> None:
    file = write(tmp_path / "a.txt", b"one\ncaf\xe9 au lait\nna\xefve\nfour\n" + b"plain text\n" * 9)
    with caplog.at_level(logging.WARNING):
        documents = read(file)
    assert documents[:4] == ["one", "caf\ufffd au lait", "na\ufffdve", "four"]
    assert "2 lines are not valid UTF-8" in caplog.text


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    here = fingerprint(write(tmp_path / "a.txt", "one\ntwo"))
    assert (
        here
        == fingerprint(write(tmp_path / "moved" / "b.txt", "one\ntwo"))
        == fingerprint(tmp_path / "moved")
    )
    changed = [
        fingerprint(write(tmp_path / "c.txt", "one\ntoo")),
        fingerprint(tmp_path / "a.txt", max_documents=1),
        fingerprint(tmp_path / "a.txt", text="body"),
    ]
    assert len({here, *changed}) == 4


CASES = [("a.csv", "text,label\n\"well, one\",pos\ntwo,neg\n"), ("a.tsv", "id\ttext\n0\twell, one\n1\ttwo\n"),
         ("a.json", '[{"text": "well, one"}, {"text": "two"}]'), ("a.TXT", "well, one\ntwo"), ("a.md", "well, one\ntwo")]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), CASES)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_kind_of_file(name: str, content: str, compressed: bool, tmp_path: Path) -> None:
    raw = content.encode()
    file = write(tmp_path / f"{name}{'.gz' * compressed}", gzip.compress(raw) if compressed else raw)
    assert read(file) == read(tmp_path) == ["well, one", "two"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings(encoding: str, tmp_path: Path, caplog) -> None:
    file = write(tmp_path / "a.txt", "été\n\nnaïve\nnoël".encode(encoding))
    assert read(file, encoding=encoding) == ["été", "naïve\nnoël"]
    with pytest.raises(LabError, match=r"(UTF-16|another encoding).*corpus\.encoding="):
        read(file)


def test_copies_and_files_of_other_kinds_are_said(tmp_path: Path, caplog) -> None:
    for name in ("a.txt", "a (1).txt", "old/a.txt", "old/b.txt", ".ipynb_checkpoints/a.txt", "c.pdf"):
        write(tmp_path / name, name)
    assert read(tmp_path) == ["a.txt", "old/b.txt"]
    assert "2 copies of files that are there too are passed over: a (1).txt, old/a.txt" in caplog.text
    assert "1 files of other kinds are passed over: 1 .pdf" in caplog.text


def test_what_datasets_saved(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"text": "one"}, {"text": "two"}])
    datasets.DatasetDict(train=rows, test=rows.select([1])).save_to_disk(tmp_path / "all")
    rows.save_to_disk(tmp_path / "single")
    assert read(tmp_path / "all") == read(tmp_path / "single") == ["one", "two"]
    assert read(tmp_path / "all", split="test") == ["two"]
