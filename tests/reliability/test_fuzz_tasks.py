"""Task files that are damaged, ragged or contradict themselves: examples that are right, or one message."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tasks.helpers import pairs_of

from minilm_lab.data.splits import Splits
from minilm_lab.errors import LabError
from minilm_lab.tasks.hub import HubTask

from .fuzzing import Count, cases

ROWS = [(f"the cat sat on mat {n}", "cat" if n % 3 else "dog", n / 10) for n in range(12)]
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def encoded(
    suffix: str, rows: list[tuple[Any, ...]] = ROWS, names: tuple[str, ...] = ("text", "label", "score")
) -> bytes:
    """The rows as a file of this kind."""
    if suffix == ".parquet":
        buffer = io.BytesIO()
        columns = {name: [row[n] for row in rows] for n, name in enumerate(names)}
        pyarrow.parquet.write_table(pyarrow.table(columns), buffer)
        return buffer.getvalue()
    if suffix == ".jsonl":
        return "".join(json.dumps(dict(zip(names, row, strict=False))) + "\n" for row in rows).encode()
    separator = SEPARATORS[suffix]
    return "".join(separator.join(map(str, row)) + "\n" for row in [names, *rows]).encode()


def load(folder: Path, suffix: str, data: bytes, **fields: Any) -> Splits:
    """The splits of a task whose training file is `data` and whose dev file is whole."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / f"train{suffix}").write_bytes(data)
    (folder / f"validation{suffix}").write_bytes(encoded(suffix))
    cache = folder.with_name("cache")  # it goes with the case, or it would fill the disk
    shutil.rmtree(cache, ignore_errors=True)
    return HubTask(name="t", path=str(folder), **fields).load(None, cache)


def is_right(splits: Splits) -> None:
    """No example without a label, no label without a class, no number that is none."""
    for examples in (splits.train, splits.dev):
        assert len(pairs_of(examples)) == len(examples["label"][:]) == len(set(examples["id"][:])) > 0
        assert all(isinstance(text, str) for text, _ in pairs_of(examples))
        if splits.labels is None:
            assert all(math.isfinite(label) for label in examples["label"][:])
        else:
            assert all(0 <= label < len(splits.labels) for label in examples["label"][:])


DAMAGE = [b"\0", b"\xff", b'"', b"'", b",", b"\t", b"\n", b"\r", b"\xef\xbb\xbf", b"nan", b"{", b"}", b"[", b"1e999", b"\\u0000", b'""', b"\xed\xa0\x80"]  # fmt: skip
CHANGE = st.tuples(st.integers(0, 10**6), st.sampled_from(["cut", "flip", "insert", "repeat", "drop"]), st.sampled_from(DAMAGE))  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_any_damage(suffix: str, count: Count, tmp_path: Path) -> None:
    """Bytes cut, flipped, put in and repeated."""
    whole = encoded(suffix)

    @given(st.lists(CHANGE, min_size=1, max_size=3))
    @example([(0, "cut", b"")])
    @example([(0, "insert", b"\xef\xbb\xbf")])
    @cases(40)
    def try_it(changes: list[tuple[int, str, bytes]]) -> None:
        count.case()
        data = whole
        for where, how, extra in changes:
            at = where % (len(data) + 1)
            if how == "cut":
                data = data[:at]
            elif how == "flip":
                data = data[:at] + bytes(b ^ 0x55 for b in data[at : at + 1]) + data[at + 1 :]
            elif how == "insert":
                data = data[:at] + extra + data[at:]
            elif how == "repeat":
                data = data[:at] + data[max(0, at - 40) :]
            else:
                data = data[:at] + data[at + 7 :]
        try:
            is_right(load(tmp_path / "data", suffix, data))
        except LabError as error:
            count.refuse()
            assert "task." in str(error) and len(str(error)) < 1500, error

    try_it()


CELLS = st.sampled_from(["cat", "dog", "bird", "", " ", "-1", "0", "1", "nan", "None", "true", "a,b", "é\u202e", "x" * 500, None, 0, 1, -1, 5, 1.5, True, math.nan, math.inf, 2**70, ["a"], {"a": 1}])  # fmt: skip


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_any_cells(suffix: str, kind: str, count: Count, tmp_path: Path) -> None:
    """Rows of any texts and labels: ragged, mixed, outside the set, missing."""
    fields: dict[str, Any] = {"kind": kind, "labels": None}
    if kind == "regression":
        fields |= {"metrics": ["pearson"], "score": "pearson", "label": "score", "bounds": [0.0, 5.0]}

    rows_of = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6)
    if suffix == ".parquet":  # a column has one type there
        text, number = (
            st.sampled_from(["cat", "", "\0", None]),
            st.sampled_from([0.5, math.nan, math.inf, None, 7.0]),
        )
        rows_of = st.lists(st.tuples(text, text, number), min_size=1, max_size=6)

    @given(rows_of)
    @cases(25)
    def try_it(rows: list[tuple[Any, ...]]) -> None:
        try:
            data = encoded(suffix, [*ROWS[:2], *rows])
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            return  # no file can hold these
        count.case()
        try:
            is_right(load(tmp_path / "data", suffix, data, **fields))
        except LabError as error:
            count.refuse()
            assert "task." in str(error), error

    try_it()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize("dress", ["bom", "crlf", "both", "no last newline", "blank lines"])
def test_how_a_file_is_dressed_changes_nothing(suffix: str, dress: str, count: Count, tmp_path: Path) -> None:
    """Byte order marks and line ends of other systems."""
    count.case()
    plain, data = load(tmp_path / "plain", suffix, encoded(suffix)), encoded(suffix)
    if dress in ("crlf", "both"):
        data = data.replace(b"\n", b"\r\n")
    if dress in ("bom", "both"):
        data = b"\xef\xbb\xbf" + data
    if dress == "no last newline":
        data = data.rstrip(b"\n")
    if dress == "blank lines":
        data += b"\n\n"
    assert load(tmp_path / "dressed", suffix, data).checksum() == plain.checksum()


@pytest.mark.parametrize(
    ("suffix", "content", "says"),
    [
        (".csv", b"", "task.path"),
        (".csv", b"text,label\n", "train.csv has no examples"),
        (".csv", b"txt,label\na,cat\nb,dog\n", "task"),
        (".csv", b"text,label\na,cat,1,2,3\nb,dog\n", "task"),
        (".tsv", b"text\tlabel\na\tcat\tmore\nb\tdog\n", "task"),
        (".csv", b"text,label,score\n" + b"a,cat,1.5\n" * 9, "distinct labels"),
        (".csv", b"text,label,score\n" + b"a,cat,1\n" * 9, "distinct labels"),
        (".jsonl", b"", "train.jsonl has no examples"),
        (".jsonl", b'{"text": "a", "label": ["x"], "score": 1.5}\n' * 3, "task"),
        (".jsonl", b'{"text": "a", "label": 0}\n{"text": "b", "label": "cat"}\n', "task"),
        (".jsonl", b"[1, 2]\n", "task"),
        (".parquet", b"PAR1PAR1", "task.path"),
        (".parquet", b"not parquet", "task.path"),
        (".csv", b"\xff\xfet\0e\0x\0t\0", "task.path"),
    ],
)
def test_what_is_wrong_is_said(suffix: str, content: bytes, says: str, count: Count, tmp_path: Path) -> None:
    count.case()
    with pytest.raises(LabError, match=says):
        load(tmp_path / "data", suffix, content)
    count.refuse()


def test_labels_outside_the_set_and_examples_twice(count: Count, tmp_path: Path) -> None:
    """A declared set is the whole set; examples that are there twice are kept, each under its own id."""
    count.case()
    rows = [*ROWS, ("the bird", "bird", 0.0)]
    with pytest.raises(LabError, match=r"outside the declared classes .*'bird' \(1 times\)"):
        load(tmp_path / "data", ".csv", encoded(".csv", rows), labels=["cat", "dog"])
    twice = load(tmp_path / "data", ".csv", encoded(".csv", [*ROWS, *ROWS]))
    assert len(twice.train) == 24 and len(set(twice.train["id"][:])) == 24
    count.refuse()
