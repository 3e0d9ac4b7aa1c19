"""Rows of one file, as they stand in it: nothing is guessed, and what does not fit is said with its line.

Cells of CSV and TSV files are texts; only an empty cell is missing, so that a class may be called None or NA. JSON has
types of its own. What reads a column makes numbers of it where it wants numbers.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from minilm_lab.data.glue import COLA_COLUMNS, Layout, layout_of
from minilm_lab.errors import LabError, first_line

log = logging.getLogger(__name__)

Row = dict[str, Any]

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
}
"""Ending of a file, in lower case, before that of a compression -> what it holds."""
TABLES = tuple(ending for ending, kind in KINDS.items() if kind not in ("text", "arrow"))
"""Endings of files that have columns."""


def _zstandard(file: Path) -> Any:
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(file), compression="zstd"))


COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}


@dataclass(frozen=True)
class Reading:
    """How files are read."""

    encoding: str | None = None
    """Of text files; None = UTF-8, where a byte order mark is allowed."""
    quotes: bool = True
    """Whether quotation marks around a cell of CSV and TSV files belong to the file and not to the text."""
    group: str = "task"
    """The group whose settings these are, for messages."""

    def __post_init__(self) -> None:
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError as error:
            raise LabError(
                f"{self.group}.encoding={self.encoding}: there is no such encoding; for example utf-16 or latin-1."
            ) from error


def kind_of(file: Path) -> str | None:
    """Return "csv", "tsv", "json", "parquet" or "text", by the ending; None where it says nothing."""
    endings = [ending.lower() for ending in file.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return KINDS.get(endings[-1]) if endings else None


def plain_name(file: Path) -> str:
    """The name without the endings of its kind and compression."""
    name = file.name
    for ending in (*COMPRESSIONS, *KINDS):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def open_bytes(file: Path) -> IO[bytes]:
    """Open for reading what the file holds, uncompressed."""
    compressed = COMPRESSIONS.get(file.suffix.lower())
    return file.open("rb") if compressed is None else cast("IO[bytes]", compressed(file))


def lines(file: Path, reading: Reading) -> Iterator[str]:
    """Yield the lines of a text file with their ends; LabError where it is no text of this encoding."""
    damage = (OSError, EOFError, lzma.LZMAError) if file.suffix.lower() in COMPRESSIONS else ()
    try:
        with io.TextIOWrapper(open_bytes(file), reading.encoding or "utf-8-sig", newline="") as stream:
            for line in stream:
                if "\0" in line:
                    raise no_text(file, reading)
                yield line
    except UnicodeError as error:
        raise no_text(file, reading) from error
    except damage as error:
        raise LabError(
            f"{file} is no whole {file.suffix} file ({first_line(error)}). Copy it again."
        ) from error


def no_text(file: Path, reading: Reading) -> LabError:
    """The error that says what the bytes of `file` look like, and which setting reads them."""
    with open_bytes(file) as stream:
        start = stream.read(1 << 16)
        stream.seek(0)
        setting = f"{reading.group}.encoding"
        if reading.encoding is not None:
            return LabError(f"{setting}={reading.encoding}: {file} is not written in it; null = UTF-8.")
        if (
            start[:2] in (b"\xff\xfe", b"\xfe\xff")
            or start[1:200:2].count(0) > start[:200].count(0) * 0.9 > 9
        ):
            return LabError(
                f"{file} looks like UTF-16, not UTF-8. Set {setting}=utf-16, or convert it with `iconv`."
            )
        if b"\0" in start:
            return LabError(
                f"{file} is binary (it holds NUL bytes), not UTF-8 text, .csv, .jsonl or .parquet."
            )
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return LabError(
                    f"{file}, line {number}: bytes that are not UTF-8 ({error.reason}). If it is an older file of "
                    f"Western Europe, set {setting}=latin-1 (or cp1252); else name its encoding there."
                )
            if b"\0" in line:
                return LabError(
                    f"{file} is binary (it holds NUL bytes), not UTF-8 text, .csv, .jsonl or .parquet."
                )
    return LabError(f"{file} is not UTF-8 text.")


def rows(file: Path, reading: Reading) -> Iterator[Row]:
    """Yield the rows of a CSV, TSV or JSON file, column -> cell.

    Raises:
        LabError: the file is empty, a row has another width than the header, a line is no JSON object, the encoding
            is another one.
    """
    return _json_rows(file, reading) if kind_of(file) == "json" else _cells(file, reading)


def columns_of(file: Path, reading: Reading) -> list[str]:
    """The columns of a CSV or TSV file."""
    layout = _layout(file, reading)
    columns = next(_table(file, reading, layout))
    return (
        columns
        if layout is None
        else [*columns, *(new for old, new in layout.names.items() if old in columns)]
    )


def _cells(file: Path, reading: Reading) -> Iterator[Row]:
    layout = _layout(file, reading)
    table = _table(file, reading, layout)
    columns = next(table)
    if layout is None:
        layout = Layout(frozenset())
    also = {new: old for old, new in layout.names.items() if old in columns}
    for cells in table:
        row = {column: cell or None for column, cell in zip(columns, cells, strict=True)}
        if layout.labels:
            row["label"] = layout.labels.get(row["label"] or "", row["label"])
        yield row | {new: row[old] for new, old in also.items()} if also else row


def _layout(file: Path, reading: Reading) -> Layout | None:
    first = next((line for line in lines(file, reading) if line.strip()), None)
    if first is None:
        raise LabError(f"{file} has no examples: it is empty.")
    return layout_of(first.rstrip("\r\n").split("\t")) if kind_of(file) == "tsv" else None


def _table(file: Path, reading: Reading, layout: Layout | None) -> Iterator[list[str]]:
    """Yield the names of the columns, then the cells of each row."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    separator = "\t" if kind_of(file) == "tsv" else ","
    named = layout is None or bool(layout.needs)
    quotes = reading.quotes and layout is None
    content = csv.reader(
        lines(file, reading),
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    counted = 0
    try:
        columns = None
        for cells in content:
            if not cells:  # a blank line
                continue
            if columns is None:
                columns = _columns(file, cells) if named else COLA_COLUMNS
                yield columns
                if named:
                    continue
            if len(cells) != len(columns):
                raise _wrong_width(file, content.line_num, cells, columns, separator, quotes)
            counted += 1
            yield cells
    except csv.Error as error:
        raise LabError(
            f"{file}, line {content.line_num}: {error}. Quotation marks around a cell must stand around all of it; "
            f"if they are text, as in the files of GLUE, set {reading.group}.quotes=false."
        ) from error
    if separator == "\t" and quotes and (more := content.line_num - 1 - counted) > 0:
        _warn_of_joined(file, reading, more, counted)


def _warn_of_joined(file: Path, reading: Reading, more: int, counted: int) -> None:
    filled = sum(1 for line in lines(file, reading) if line.strip()) - 1
    if filled != counted:
        log.warning(
            "%s: %d lines became %d rows: quotation marks at the start of a cell join lines. "
            "If they are text, as in the files of GLUE, set %s.quotes=false.",
            file,
            filled,
            counted,
            reading.group,
        )


#: What separates cells in files that are not what their ending says.
_OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def _columns(file: Path, cells: list[str]) -> list[str]:
    names = [name or f"Unnamed: {number}" for number, name in enumerate(cells)]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise LabError(f"{file}: its first line names the column '{double}' twice.")
    if len(names) == 1 and (other := next((mark for mark in _OTHER_MARKS if mark in names[0]), None)):
        raise LabError(
            f"{file}: its first line is one cell, {names[0][:120]!r}, with {_OTHER_MARKS[other]} in it. Cells of .csv are "
            "separated by commas and cells of .tsv by tabs: save it so, or give the file the ending that it is."
        )
    return names


def _wrong_width(
    file: Path, line: int, cells: list[str], columns: list[str], separator: str, quotes: bool
) -> LabError:
    shown = separator.join(cells)[:120]
    mark = "tabs" if separator == "\t" else "commas"
    mend = f'Put texts that hold {mark} in quotation marks ("…")' if quotes else f"No text may hold {mark}"
    return LabError(
        f"{file}, line {line}: {len(cells)} cells, but the first line names {len(columns)} columns "
        f"({', '.join(columns)[:120]}): {shown!r}. {mend}, and give every row as many cells as there are columns."
    )


def _json_rows(file: Path, reading: Reading) -> Iterator[Row]:
    content = lines(file, reading)
    first = next((line for line in content if line.strip()), None)
    if first is None:
        raise LabError(f"{file} has no examples: it is empty.")
    listed = any(ending.lower() in (".jsonl", ".ndjson") for ending in file.suffixes[-2:])
    if not listed and _is_whole(first, content):
        yield from _json_list(file, reading)
        return
    for number, line in enumerate(lines(file, reading), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            yield _object(_parsed(line, where, "Expected one object a line (JSON Lines)."), where)


def _is_whole(first: str, others: Iterator[str]) -> bool:
    """Whether a JSON file that begins with this line is one value, and not one object a line."""
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(row, list) or ("data" in row and not any(line.strip() for line in others))


def _json_list(file: Path, reading: Reading) -> Iterator[Row]:
    """The rows of a list, of an object that holds one as "data", or of SQuAD's JSON."""
    expected = "Expected a list of objects, or one object a line."
    whole = _parsed("".join(lines(file, reading)), str(file), expected)
    if isinstance(whole, dict):
        whole = whole["data"] if isinstance(whole.get("data"), list) else [whole]
    for number, row in enumerate(whole, start=1):
        where = f"{file}, entry {number}"
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _questions(row, where)
        else:
            yield _object(row, where)


def _questions(article: Row, where: str) -> Iterator[Row]:
    """The questions of an article of SQuAD's JSON, in the hub's columns."""
    try:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                names = ("id", "question", "answers", "is_impossible")
                found = {"context": paragraph["context"], **{n: asked[n] for n in names if n in asked}}
                yield {"question": None, "answers": None, **found, "id": str(asked["id"])}
    except (KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{where} is not in SQuAD's format ({type(error).__name__}: {error}).") from error


def _parsed(text: str, where: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a hundred thousand brackets exhaust the parser
        raise LabError(f"{where} is not JSON ({first_line(error)}). {expected}") from error


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise LabError(f'{where} is JSON, but no object. Expected {{"text": …}} on each line.')
    if "\0" in "".join(row):
        raise LabError(f"{where}: the name of a column holds a NUL character.")
    return row


def batches(found: Iterator[Row], size: int = 10_000) -> Iterator[list[Row]]:
    """Yield rows in lists of `size`."""
    while batch := list(islice(found, size)):
        yield batch
