"""The embedded corpus: docstrings as `ast` sees them, in an order of their own, and sentences."""

from __future__ import annotations

import ast
import json
import types
from pathlib import Path

import pytest

from minilm_lab.data import docstrings as module
from minilm_lab.data import rated_sentences
from minilm_lab.data.docstrings import docstrings, docstrings_of_source, versions
from minilm_lab.data.embedded import EmbeddedCorpus
from minilm_lab.errors import LabError

CACHE = Path("unused")
FILES = [*sorted(Path(json.__file__).parent.glob("*.py")), Path(ast.__file__), Path(types.__file__)]


@pytest.fixture
def few_files(monkeypatch) -> None:
    monkeypatch.setattr(module, "_source_files", lambda: [(f"x/{file.name}", file) for file in FILES])


def all_docstrings(source: str) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [text for text in found if text and len(text) > 200]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_docstrings_are_those_that_ast_finds(file: Path) -> None:
    assert sorted(docstrings_of_source(file.read_bytes())) == sorted(all_docstrings(file.read_text()))


def test_files_that_do_not_parse_are_left_out() -> None:
    long = '"""' + "x" * 300 + '"""\n'
    assert docstrings_of_source(long.encode()) == ["x" * 300]
    assert docstrings_of_source((long + "def f(:\n").encode()) == []
    assert docstrings_of_source((long + "\0").encode()) == []


def test_the_order_is_not_that_of_the_file_system(few_files, monkeypatch) -> None:
    expected = list(docstrings(10**9))
    monkeypatch.setattr(
        module, "_source_files", lambda: [(f"x/{file.name}", file) for file in FILES[::-1] * 2]
    )
    assert list(docstrings(10**9)) == expected  # and every one once
    assert sorted(expected) == sorted({text for file in FILES for text in all_docstrings(file.read_text())})


def test_the_number_of_characters_is_kept(few_files) -> None:
    whole = list(docstrings(10**9))
    part = list(docstrings(3000))
    assert part == whole[: len(part)]
    assert sum(map(len, part)) >= 3000 > sum(map(len, part[:-1]))


def test_real_packages_have_text() -> None:
    text = list(docstrings(200_000))
    assert 200_000 <= sum(map(len, text)) < 300_000
    assert "absent" not in versions().values()


@pytest.fixture
def sentences(monkeypatch) -> list[str]:
    found = ["a fine film .", "a dull film ."]
    monkeypatch.setattr(rated_sentences, "unlabelled", lambda cache: found)
    return found


def test_documents(few_files, sentences: list[str]) -> None:
    long = list(docstrings(2000))
    assert list(EmbeddedCorpus(docstring_characters=2000).documents(None, CACHE)) == long + sentences
    assert list(EmbeddedCorpus(docstring_characters=2000, sentences=False).documents(None, CACHE)) == long
    assert list(EmbeddedCorpus(docstring_characters=0).documents(None, CACHE)) == sentences


def test_fingerprint(sentences: list[str], monkeypatch) -> None:
    def fingerprint(**fields) -> str:
        return EmbeddedCorpus(**fields).fingerprint(None, CACHE)

    settings = [{}, {"docstring_characters": 5000}, {"docstring_characters": 0}, {"sentences": False}]
    before = [fingerprint(**fields) for fields in settings]
    assert len(set(before)) == 4
    monkeypatch.setitem(module.PACKAGES, "torch", "numpy")  # another version of a package
    after = [fingerprint(**fields) for fields in settings]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, False]
    sentences.append("new")
    assert [fingerprint(**fields) == a for fields, a in zip(settings, after, strict=True)] == [
        False,
        False,
        False,
        True,
    ]


def test_no_text_at_all_is_refused() -> None:
    with pytest.raises(LabError, match="leave no text"):
        EmbeddedCorpus(docstring_characters=0, sentences=False)
    with pytest.raises(LabError, match=r"corpus\.docstring_characters=-1 is negative"):
        EmbeddedCorpus(docstring_characters=-1)
