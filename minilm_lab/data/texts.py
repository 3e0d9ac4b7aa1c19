"""Documents of files of any kind that the lab reads: text in paragraphs or lines, or one column of a table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from minilm_lab.data import formats
from minilm_lab.data.formats import COMPRESSIONS, Reading, kind_of
from minilm_lab.data.reading import tables
from minilm_lab.errors import LabError, nearest
from minilm_lab.runs.fingerprints import file_checksums

logger = logging.getLogger(__name__)

_PARAGRAPH_LIMIT = 1_000_000
_SAMPLE = 1 << 20
_MARKUP = (".html", ".htm", ".xml", ".tex", ".rtf", ".rst", ".json5")
_EXPECTED = "Expected UTF-8 text, .csv, .tsv, .jsonl or .parquet."


def text_checksums(files: list[Path], cache: Path, reading: Reading) -> list[str]:
    """Return kind and checksum of each file's content, in order; they are remembered in `cache`.

    Raises:
        LabError: a file is empty, or is not what its ending says (binary, other encoding, no Parquet).
    """
    for file in files:
        _check_start(file, reading)

    def check(file: Path, chunk: bytes) -> None:
        if _is_plain(file) and reading.encoding is None and b"\0" in chunk:
            raise formats.no_text(file, reading)

    kind = f"text {reading.encoding or ''}"
    digests = file_checksums(files, cache, check, kind)
    return [f"{kind_of(file) or 'text'}:{digest}" for file, digest in zip(files, digests, strict=True)]


def documents(file: Path, column: str, reading: Reading, *, lines: bool) -> Iterator[str]:
    """Yield the documents of one file, stripped, without empty ones.

    Args:
        file: by its ending a table, else plain text.
        column: of a table, the one that holds the text.
        reading: its encoding and quotation marks.
        lines: each line of a plain text file is a document, even if blank lines group them.

    Raises:
        LabError: the column is missing or holds something else than text; what `formats.rows` refuses.
    """
    kind = kind_of(file)
    if kind == "text" or kind is None:
        if file.suffix.lower() in _MARKUP:
            logger.warning("%s is read as plain text, with all its markup.", file)
        yield from _text_documents(file, reading, lines)
        return
    count = 0
    for table in tables(file, reading, only=column):
        if column not in table.column_names:
            raise missing_column(f"{file}, behind row {count}", column, table.column_names)
        for value in table.column(column).to_pylist():
            count += 1
            yield from text_of(value, f"{file}, row {count}", column)


def _is_plain(file: Path) -> bool:
    return kind_of(file) not in ("parquet", "arrow") and file.suffix.lower() not in COMPRESSIONS


def _check_start(file: Path, reading: Reading) -> None:
    with file.open("rb") as handle:
        start = handle.read(_SAMPLE)
    if not start.strip():
        if file.stat().st_size <= _SAMPLE:
            raise LabError(f"{file} is empty. {_EXPECTED}")
        return
    if kind_of(file) == "parquet" and not start.startswith(b"PAR1"):
        raise LabError(f"{file} is no Parquet file, although its name says so. {_EXPECTED}")
    if not _is_plain(file) or reading.encoding is not None:
        return
    if b"\0" in start:
        raise formats.no_text(file, reading)
    share = start.decode(errors="replace").count("\N{REPLACEMENT CHARACTER}") / len(start)
    if share > 0.1:
        raise LabError(
            f"{file} is binary or in another encoding: {share:.0%} of its start is not UTF-8. Name it, for example "
            f"{reading.group}.encoding=cp1251 or latin-1, or convert it (`iconv -t utf-8`)."
        )


def _text_documents(file: Path, reading: Reading, lines: bool) -> Iterator[str]:
    paragraphs = not lines and _has_blank_line_inside(file, reading)
    paragraph: list[str] = []
    characters = 0
    for line in _decoded_lines(file, reading):
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


def _has_blank_line_inside(file: Path, reading: Reading) -> bool:
    """Whether a blank line stands between two that are not."""
    text_seen = blank_seen = False
    for line in _decoded_lines(file, reading, quiet=True):
        blank = not line.strip()
        if text_seen and blank_seen and not blank:
            return True
        text_seen = text_seen or not blank
        blank_seen = text_seen and (blank_seen or blank)
    return False


def _decoded_lines(file: Path, reading: Reading, *, quiet: bool = False) -> Iterator[str]:
    """The lines of a text; where no encoding is named, bytes that are not UTF-8 are replaced and counted."""
    if reading.encoding is not None:
        yield from formats.lines(file, reading)
        return
    damaged = 0
    with formats.open_bytes(file) as handle:
        for number, raw in enumerate(handle):
            try:
                line = raw.decode()
            except UnicodeDecodeError:
                damaged += 1
                line = raw.decode(errors="replace")
            yield line.removeprefix("\ufeff") if number == 0 else line
    if damaged and not quiet:
        logger.warning(
            "%s: %d lines are not valid UTF-8; their bad bytes became the replacement character. "
            "If the file has another encoding, name it in %s.encoding.",
            file,
            damaged,
            reading.group,
        )


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
