"""Documents of text, JSON Lines and Parquet files."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from minilm_lab.errors import LabError, nearest
from minilm_lab.runs.fingerprints import file_checksums

logger = logging.getLogger(__name__)

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
PARQUET_SUFFIXES = (".parquet",)
TEXT_SUFFIXES = (".txt", ".text")
#: What a folder is searched for; a single file with any other suffix is read as plain text.
SUFFIXES = TEXT_SUFFIXES + JSON_SUFFIXES + PARQUET_SUFFIXES
_PARAGRAPH_LIMIT = 1_000_000
_SAMPLE = 1 << 20


def file_kind(file: Path) -> str:
    """Return ``"json"``, ``"parquet"`` or ``"text"``, by suffix."""
    suffix = file.suffix.lower()
    return "json" if suffix in JSON_SUFFIXES else "parquet" if suffix in PARQUET_SUFFIXES else "text"


def checked_checksums(files: list[Path], cache: Path) -> list[str]:
    """Return kind and checksum of each file's content, in order; they are remembered in `cache`.

    Raises:
        LabError: a file is empty, or is not what its suffix says (binary, other encoding, no Parquet).
    """
    for file in files:
        _check_start(file)

    def check(file: Path, chunk: bytes) -> None:
        if file_kind(file) != "parquet" and b"\0" in chunk:
            raise LabError(f"{file} is binary (it holds NUL bytes). {_EXPECTED}")

    return [
        f"{file_kind(file)}:{digest}"
        for file, digest in zip(files, file_checksums(files, cache, check, "text"), strict=True)
    ]


def file_documents(file: Path, column: str, *, lines: bool) -> Iterator[str]:
    """Yield the documents of one file, stripped, without empty ones.

    Args:
        file: text, JSON Lines or Parquet, by its suffix.
        column: field of JSON objects or column of Parquet files that holds the text.
        lines: each line of a plain text file is a document, even if blank lines group them.

    Raises:
        LabError: the column is missing or holds something else than text; a line is not JSON.
    """
    kind = file_kind(file)
    if kind == "json":
        return _json_documents(file, column)
    if kind == "parquet":
        return _parquet_documents(file, column)
    return _text_documents(file, lines)


_EXPECTED = "Expected UTF-8 text, .jsonl or .parquet."


def _check_start(file: Path) -> None:
    with file.open("rb") as handle:
        start = handle.read(_SAMPLE)
    if not start.strip():
        if file.stat().st_size <= _SAMPLE:
            raise LabError(f"{file} is empty. {_EXPECTED}")
        return
    if file_kind(file) == "parquet":
        if not start.startswith(b"PAR1"):
            raise LabError(f"{file} is no Parquet file, although its name says so. {_EXPECTED}")
        return
    if b"\0" in start:
        raise LabError(f"{file} is binary (it holds NUL bytes). {_EXPECTED}")
    share = start.decode(errors="replace").count("\N{REPLACEMENT CHARACTER}") / len(start)
    if share > 0.1:
        raise LabError(
            f"{file} is binary or in another encoding: {share:.0%} of its start is not UTF-8. "
            f"{_EXPECTED} (`iconv -t utf-8` converts.)"
        )


def _text_documents(file: Path, lines: bool) -> Iterator[str]:
    paragraphs = not lines and _has_blank_line_inside(file)
    paragraph: list[str] = []
    characters = 0
    for line in _decoded_lines(file):
        line = line.strip()
        if not paragraphs:
            if line:
                yield line
            continue
        if line:
            paragraph.append(line)
            characters += len(line)
        # The limit bounds memory in a file whose only blank line stands gigabytes later.
        if paragraph and (not line or characters > _PARAGRAPH_LIMIT):
            yield "\n".join(paragraph)
            paragraph, characters = [], 0
    if paragraph:
        yield "\n".join(paragraph)


def _has_blank_line_inside(file: Path) -> bool:
    """Whether a blank line stands between two that are not."""
    text_seen = blank_seen = False
    with file.open("rb") as handle:
        for line in handle:
            blank = _is_blank(line)
            if text_seen and blank_seen and not blank:
                return True
            text_seen = text_seen or not blank
            blank_seen = text_seen and (blank_seen or blank)
    return False


def _is_blank(line: bytes) -> bool:
    """Whether `line`, decoded, is white space alone."""
    start = line.lstrip()[:1]
    if not start:
        return True
    # White space beyond that of bytes: control characters, and Unicode's. Other lines need no decoding.
    return (start < b" " or start > b"~") and not line.decode(errors="replace").removeprefix("\ufeff").strip()


def _decoded_lines(file: Path) -> Iterator[str]:
    damaged = 0
    with file.open("rb") as handle:
        for number, raw in enumerate(handle):
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                damaged += 1
                line = raw.decode(errors="replace")
            yield line.removeprefix("\ufeff") if number == 0 else line
    if damaged:
        logger.warning(
            "%s: %d lines are not valid UTF-8; their bad bytes became the replacement character.",
            file,
            damaged,
        )


def _json_documents(file: Path, column: str) -> Iterator[str]:
    halves = 0
    for number, line in enumerate(_decoded_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # a hundred thousand brackets exhaust the parser
            raise LabError(
                f"{where} is not JSON ({error}). Expected one object a line (JSON Lines)."
            ) from error
        if not isinstance(row, dict):
            raise LabError(
                f"{where} is JSON, but no object. Expected {{{json.dumps(column)}: ...}} on each line."
            )
        if column not in row:
            raise missing_column(where, column, list(row))
        for text in text_of(row[column], where, column):
            # JSON can write "\ud800", half of a character, which no tokenizer takes.
            whole = text.encode(errors="replace").decode()
            halves += whole != text
            yield whole
    if halves:
        logger.warning("%s: %d texts hold halves of characters, which became question marks.", file, halves)


def _parquet_documents(file: Path, column: str) -> Iterator[str]:
    # Inside the function: importing pyarrow takes longer than checking a configuration should.
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            if column not in table.schema_arrow.names:
                raise missing_column(str(file), column, table.schema_arrow.names)
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield from text_of(value, str(file), column)
    # A page that is damaged is an OSError, text that is no UTF-8 an error of decoding.
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file} is a broken Parquet file: {error}. Copy it again.") from error


def missing_column(where: str, column: str, columns: list[str]) -> LabError:
    """Return the error that names the columns there are."""
    return LabError(
        f"{where} has no text column '{column}'; it has: {', '.join(columns)}.{nearest(column, columns)} "
        "Set the name of the column that holds the text, for example corpus.text=content."
    )


def text_of(value: object, where: str, column: str) -> Iterator[str]:
    """Yield `value` stripped if it is text with something in it; nothing for None.

    Raises:
        LabError: `value` is something else.
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise LabError(f"{where}: column '{column}' holds {type(value).__name__}, not text.")
    if value := value.strip():
        yield value
