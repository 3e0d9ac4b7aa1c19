"""DuckDB with a limit of memory: what does not fit is spilled to a folder, so that a month needs no machine of its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, first_line

if TYPE_CHECKING:
    import duckdb


@contextmanager
def engine(spill: Path, *, memory: str = "2GB", threads: int = 2) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own; LabError without the package, or for a limit that is none."""
    try:
        import duckdb
    except ImportError:
        raise LabError("The study MerRec needs DuckDB: pip install 'minilm-lab[merrec]'.") from None
    spill.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    try:
        try:
            connection.execute(f"SET memory_limit = {quoted(memory)}")
        except duckdb.Error as error:
            raise LabError(f"memory={memory} is no limit ({first_line(error)}); write 2GB.") from None
        connection.execute(f"SET threads = {max(1, threads)}")
        connection.execute(f"SET temp_directory = {quoted(spill)}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET preserve_insertion_order = false")
        yield connection
    finally:
        connection.close()


def quoted(value: object) -> str:
    """A string of SQL."""
    text = str(value).replace("'", "''")
    return f"'{text}'"


def listed(files: Sequence[Path]) -> str:
    """Files as an argument of read_parquet."""
    return "[" + ", ".join(quoted(file) for file in files) + "]"


def row(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    """The one row of an answer, by name."""
    answer = connection.execute(query)
    names = [column[0] for column in answer.description or []]
    values = answer.fetchone()
    assert values is not None
    return dict(zip(names, values, strict=True))
