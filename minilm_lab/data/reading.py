"""Open a data set: the hub's, a copy of it, a folder of files, one file, or what `datasets` saved.

Files are read by the lab (see formats.py) into memory-mapped tables of `datasets`, kept in the cache by their content:
a file that was replaced is read again whatever its time stamp says.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab import hub_access
from minilm_lab.data import formats
from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.folders import NoSuchConfigError, card_of, splits_of_card, splits_of_folder
from minilm_lab.data.formats import Reading, kind_of
from minilm_lab.data.kept import kept
from minilm_lab.errors import LabError, first_line, nearest
from minilm_lab.paths import is_there
from minilm_lab.runs.fingerprints import file_checksums

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

log = logging.getLogger(__name__)

FORMAT = 1
"""Goes up whenever the same files would give other tables."""
TABLE = "table.arrow"
_HUB_CACHE = re.compile(r"(datasets|models)--.+")
#: pandas takes "None", "NA" … for missing, and a row that is too long as named by its first cell.
_AS_IT_IS = {"keep_default_na": False, "na_values": [""], "index_col": False}


@dataclass
class Splits(Mapping[str, "Dataset"]):
    """Split -> table, read when it is asked for."""

    read: dict[str, Callable[[], Dataset]]
    tables: dict[str, Dataset] = field(default_factory=dict)

    def __getitem__(self, split: str) -> Dataset:
        if split not in self.tables:
            self.tables[split] = self.read[split]()
        return self.tables[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


def place_of(path: str, hub: str | None) -> Path | None:
    """The file or folder that `path` names: itself, or below the local hub; None where it can only be a hub id."""
    given = Path(path).expanduser()
    found = next((p for p in (given, *([Path(hub).expanduser() / path] if hub else [])) if is_there(p)), None)
    if found is not None and _HUB_CACHE.fullmatch(found.name) and (found / "snapshots").is_dir():
        return _snapshot(found)
    return found


def open_data(
    path: str,
    config: str | None,
    hub: str | None,
    cache: Path,
    *,
    key: str = "task",
    reading: Reading | None = None,
) -> Mapping[str, Dataset]:
    """Return the splits of `path`, a folder, a file or a hub id, in its configuration `config`.

    Args:
        path: what to open; a hub id is looked for in the folder `hub` first. A file is one split, named "train".
        config: of a folder in the hub's layout, or of a data set on the hub.
        hub: folder with local copies of hub data sets, or None.
        cache: folder for caches.
        key: where the settings path and config stand, a group ("task") or the start of their names ("task.test_").
        reading: how text files are read.

    Raises LabError when there is nothing to open, and when a split that is asked for cannot be read.
    """
    key = key if key.endswith("_") else f"{key}."
    reading = reading or Reading()
    place = place_of(path, hub)
    if place is None:
        if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", path):
            raise LabError(f"{key}path={path}: no such folder or file.")
        return _from_hub(path, config, hub, cache, key)
    if is_saved(place):
        return _saved(place, key)
    features: Any = None
    if place.is_file():
        if kind_of(place) in (None, "text", "arrow"):
            raise LabError(
                f"{key}path={path}: files of this kind cannot be read; they end in {', '.join(formats.TABLES)}, "
                f"or that and {', '.join(formats.COMPRESSIONS)}."
            )
        files = {"train": [place]}
    else:
        files, features = _files_of_folder(place, config, key)
    if not files:
        raise LabError(
            f"{key}path={path}: the folder holds no data; looked for files that end in {', '.join(formats.TABLES)}."
        )

    def reader(split: str) -> Callable[[], Dataset]:
        def read() -> Dataset:
            try:
                return read_table(files[split], reading, cache, features)
            except LabError as error:
                raise LabError(f"{key}path={path}: {error}") from error

        return read

    return Splits({split: reader(split) for split in files})


def _files_of_folder(folder: Path, config: str | None, key: str) -> tuple[dict[str, list[Path]], Any]:
    card = card_of(folder)
    configs = card.get("configs")
    infos = card.get("dataset_info") or []
    infos = [infos] if isinstance(infos, Mapping) else infos
    info: Mapping[str, Any] = next(
        (i for i in infos if i.get("config_name", config) in (config, "default")), {}
    )
    if configs:
        return splits_of_card(folder, configs, config, key), info.get("features")
    if config is not None:
        raise NoSuchConfigError(
            f"{key}config={config}: {folder} has no such configuration; it has none, for want of a README.md with "
            f"`configs`. To read the files that lie there set {key}config=null."
        )
    return splits_of_folder(folder), info.get("features")


def data_files_of(folder: Path, config: str | None, split: str, key: str) -> list[Path]:
    """The files of one split of a folder, in the order in which they are read; LabError where it has no such split."""
    if is_saved(folder):
        place = folder / split if (folder / split).is_dir() else folder
        state = json.loads((place / "state.json").read_text(encoding="utf-8"))
        return [place / part["filename"] for part in state["_data_files"]]
    files, _ = _files_of_folder(folder, config, key)
    if split not in files:
        raise LabError(f"{folder} has no split '{split}'; it has: {', '.join(files)}.{nearest(split, files)}")
    return files[split]


def read_table(
    files: list[Path], reading: Reading, cache: Path, features: list[Any] | None = None
) -> Dataset:
    """Return the rows of these files, one after the other, as a memory-mapped table kept by the files' content.

    features: the columns' types as a README.md declares them, or None.
    Raises LabError where a file cannot be read, or two have different columns.
    """
    import pyarrow
    from datasets import Dataset

    content = [
        [kind_of(file), digest] for file, digest in zip(files, file_checksums(files, cache), strict=True)
    ]
    settings = [FORMAT, content, reading.encoding, reading.quotes, features]
    folder = Path(cache) / "tables" / settings_checksum(settings)

    def opened(folder: Path) -> Dataset:
        return Dataset.from_file(str(folder / TABLE))

    def write(folder: Path) -> None:
        _write(files, reading, folder / TABLE)

    broken = (OSError, pyarrow.ArrowException)
    try:
        table = kept(folder, opened, write, broken, f"Another process reads {files[0]}; waiting for it.")
    except OSError as error:
        raise LabError(f"paths.cache={cache} cannot be written to ({error.strerror or error})") from error
    return table if features is None else _as_declared(table, features, files[0])


def _as_declared(table: Dataset, features: list[Any], file: Path) -> Dataset:
    from datasets import Features

    declared = Features._from_yaml_list(features)
    try:
        return table.cast(Features({n: declared.get(n, kind) for n, kind in table.features.items()}))
    except Exception as error:  # of pyarrow and of `datasets`, which checks class names as it casts
        raise LabError(
            f"{file} is not what the README.md beside it declares ({first_line(error)})."
        ) from error


def _write(files: list[Path], reading: Reading, target: Path) -> None:
    import pyarrow

    schemas = [_schema(file, reading) for file in files]
    for file, schema in zip(files, schemas, strict=True):
        if kind_of(file) != "json" and set(schema.names) != set(schemas[0].names):
            raise LabError(
                f"its files have different columns: {files[0].name} has {', '.join(schemas[0].names)}, "
                f"{file.name} has {', '.join(schema.names)}."
            )
    schema = _unified(schemas, files[0])
    count = 0
    with pyarrow.OSFile(str(target), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as stream:
        for file in files:
            for table in tables(file, reading, schema):
                count += len(table)
                stream.write_table(table.select(schema.names).cast(schema))
    if not count:
        raise LabError(f"{', '.join(file.name for file in files[:3])} has no examples.")


def _schema(file: Path, reading: Reading) -> pyarrow.Schema:
    import pyarrow

    if kind_of(file) == "json":
        return _unified([table.schema for table in tables(file, reading)], file)
    if kind_of(file) == "parquet":
        with _parquet(file) as opened:
            return opened.schema_arrow
    return pyarrow.schema([(name, pyarrow.string()) for name in formats.columns_of(file, reading)])


def _unified(schemas: list[pyarrow.Schema], file: Path) -> pyarrow.Schema:
    import pyarrow

    if not schemas:
        raise LabError(f"{file.name} has no examples.")
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise _mixed(file, error) from error


def tables(
    file: Path, reading: Reading, schema: pyarrow.Schema | None = None, *, only: str | None = None
) -> Iterator[pyarrow.Table]:
    """Yield the rows of a file in tables of `schema`, or of what each part of it holds; LabError as `formats.rows`.

    only: the column that is asked for; where it is there, others may be left out.
    """
    import pyarrow

    if kind_of(file) == "arrow":
        with pyarrow.memory_map(str(file)) as source, pyarrow.ipc.open_stream(source) as stream:
            yield from (pyarrow.Table.from_batches([batch]) for batch in stream)
        return
    if kind_of(file) == "parquet":
        try:
            with _parquet(file) as opened:
                wanted = None if only not in opened.schema_arrow.names else [only]
                for batch in opened.iter_batches(batch_size=10_000, columns=wanted):
                    batch.validate(full=True)
                    yield pyarrow.Table.from_batches([batch])
        # A page that is damaged is an OSError, text that is no UTF-8 an error of decoding.
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise LabError(f"{file} is a broken Parquet file: {first_line(error)}. Copy it again.") from error
        return
    for batch in formats.batches(formats.rows(file, reading)):
        names = (
            schema.names if schema is not None else list(dict.fromkeys(name for row in batch for name in row))
        )
        columns = [[row.get(name) for row in batch] for name in names]
        types = [None if schema is None else schema.field(name).type for name in names]
        arrays = [_array(*column, file) for column in zip(names, columns, types, strict=True)]
        yield pyarrow.table(dict(zip(names, arrays, strict=True)))


def _array(name: str, cells: list[Any], kind: Any, file: Path) -> pyarrow.Array:
    import pyarrow

    try:
        return pyarrow.array(cells, kind)
    except UnicodeEncodeError:
        # JSON can write "\ud800", half of a character, which no table and no tokenizer takes.
        whole = [_whole(cell) for cell in cells]
        damaged = sum(cell != there for cell, there in zip(whole, cells, strict=True))
        log.warning(
            "%s: %d texts in '%s' hold halves of characters, which became question marks.",
            file,
            damaged,
            name,
        )
        return pyarrow.array(whole, kind)
    except (pyarrow.ArrowException, OverflowError) as error:
        raise _mixed(file, error, name) from error


def _whole(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell.encode(errors="replace").decode()
    if isinstance(cell, list):
        return [_whole(part) for part in cell]
    return {_whole(k): _whole(v) for k, v in cell.items()} if isinstance(cell, dict) else cell


def _mixed(file: Path, error: Exception, column: str = "") -> LabError:
    which = f"column '{column}'" if column else "a column"
    return LabError(
        f"{file}: {which} holds other kinds of values in one place than in another ({first_line(error)}): write them alike."
    )


def _parquet(file: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    with file.open("rb") as stream:
        if stream.read(4) != b"PAR1":
            raise LabError(f"{file} is no Parquet file, although its name says so.")
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise LabError(f"{file} is a broken Parquet file: {first_line(error)}. Copy it again.") from error


def _snapshot(folder: Path) -> Path:
    """The newest state of a data set in the cache of the hub's client."""
    main = folder / "refs" / "main"
    named = folder / "snapshots" / main.read_text(encoding="utf-8").strip() if main.is_file() else None
    if named is not None and named.is_dir():
        return named
    return max((folder / "snapshots").iterdir(), key=lambda state: state.stat().st_mtime, default=folder)


def is_saved(place: Path) -> bool:
    """Whether `save_to_disk` of `datasets` wrote this folder."""
    return (place / "dataset_dict.json").is_file() or (place / "state.json").is_file()


def _saved(folder: Path, key: str) -> Mapping[str, Dataset]:
    """What `save_to_disk` of `datasets` wrote: one table, or one a split."""
    from datasets import Dataset, load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # whatever `datasets` stumbles over
        raise LabError(
            f"{key}path={folder}: what `datasets` saved there cannot be read ({first_line(error)})."
        ) from error
    return (
        {"train": found} if isinstance(found, Dataset) else {str(name): part for name, part in found.items()}
    )


def _from_hub(path: str, config: str | None, hub: str | None, cache: Path, key: str) -> Mapping[str, Dataset]:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants

    bars, offline = not datasets.are_progress_bars_disabled(), constants.HF_HUB_OFFLINE
    datasets.disable_progress_bars()
    try:
        if not hub_access.answers(path, "dataset"):
            # Offline mode answers at once from what was loaded before; without it, five retries take 25 s.
            constants.HF_HUB_OFFLINE = True
        settings = {"cache_dir": str(cache / "datasets")}
        builder = datasets.load_dataset_builder(path, config, **settings)
        as_it_is = _AS_IT_IS if hasattr(builder.config, "keep_default_na") else {}
        return dict(datasets.load_dataset(path, config, **settings, **as_it_is).items())
    except ValueError as error:
        available = re.search(r"Available: \[(.*)\]", str(error))
        if available is None:
            raise LabError(f"{key}path={path}: {first_line(error)}") from error
        names = [name.strip(" '\"") for name in available[1].split(",")]
        raise NoSuchConfigError(
            f"{key}config={config}: {path} has no such configuration; it has: {', '.join(names)}."
            f"{nearest(str(config), names)}"
        ) from error
    except RuntimeError as error:  # a data set that is a program: the library no longer runs those
        raise LabError(
            f"{key}path={path}: {first_line(error)}. Download its files and point {key}path to their folder."
        ) from error
    except (DatasetNotFoundError, OSError) as error:
        tried = f" and it is not in paths.hub={hub}" if hub else ""
        raise LabError(
            f"{key}path={path}: the data hub cannot be reached or has no such data set{tried}. Point paths.hub to "
            f"a folder that holds it as {path}/, or {key}path to the folder itself. "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    except Exception as error:  # the reader stumbles over what it did not foresee
        raise LabError(
            f"{key}path={path}: cannot be read: {type(error).__name__}: {first_line(error)[:500]}"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        if bars:
            datasets.enable_progress_bars()
