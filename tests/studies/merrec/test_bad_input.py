"""Files that do not fit: every error names the column and the count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import schema, statistics
from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.source import Source


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("good")
    generate(Settings(users=30), folder)
    return pd.read_parquet(folder)


def written(frame: pd.DataFrame, folder: Path, name: str = "000000000000") -> Path:
    (folder / "20230501").mkdir(exist_ok=True)
    frame.to_parquet(folder / "20230501" / f"{name}.parquet")
    return folder


def blank(column: str, rows: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{column: frame[column].mask(frame.index < rows)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (blank("name", 4), r"column 'name' is empty in 4 rows"),
        (blank("event_id", 2), r"column 'event_id' is empty in 2 rows"),
        (lambda f: f.assign(event_id=f["event_id"].replace("item_like", "like")), r"column 'event_id': \d+ rows have unknown names of events, such as 'like'"),
        (lambda f: f.assign(stime=f["stime"] - pd.Timedelta(days=19000)), r"column 'stime': \d+ rows are outside 2000 to 2100"),
        (lambda f: f.assign(price=f["price"].mask(f.index < 3, -1.0)), r"column 'price': 3 rows are negative"),
        (lambda f: f.assign(name=f["name"].mask(f.index < 2, " ")), r"column 'name': 2 rows have an empty title"),
    ],
)  # fmt: skip
def test_cells_that_do_not_fit(
    good: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    files = schema.shards(written(change(good), tmp_path))
    with pytest.raises(LabError, match=message):
        statistics.measured(files, tmp_path / "spill", threads=1)


def test_files_that_do_not_fit(good: pd.DataFrame, tmp_path: Path) -> None:
    written(good, tmp_path)
    written(good.drop(columns="c1_id"), tmp_path, "000000000001")
    with pytest.raises(LabError, match=r"column 'c1_id' is missing in 1 of 2 files, first in .*001\.parquet"):
        schema.shards(tmp_path)
    seconds = good["stime"].astype("int64") // 10**6
    written(good.assign(stime=seconds), tmp_path, "000000000001")
    with pytest.raises(LabError, match=r"column 'stime' must be timestamp and is int64 in 1 of 2 files"):
        schema.shards(tmp_path)
    written(good.assign(user_id=good["user_id"].astype(str)), tmp_path, "000000000001")
    with pytest.raises(LabError, match=r"column 'user_id' must be integer and is (large_)?string in 1 of 2"):
        schema.shards(tmp_path)
    (tmp_path / "20230501" / "000000000001.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(LabError, match=r"001\.parquet is no parquet file"):
        schema.shards(tmp_path)


def test_folders_that_do_not_fit(good: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"path=nowhere: no parquet file is there"):
        schema.shards("nowhere", str(tmp_path))
    written(good, tmp_path)
    with pytest.raises(LabError, match=r"months=20230601: no such folder .* Did you mean '20230501'"):
        schema.shards(tmp_path, only=("20230601",))
    generate(Settings(users=5, users_a_shard=5), tmp_path / "20230601")
    with pytest.raises(LabError, match="some files are generated and some are not"):
        schema.shards(tmp_path)
    with pytest.raises(LabError, match="users=0 must be at least 1"):
        Settings(users=0)


def test_real_files_are_read_by_path_in_the_hub(good: pd.DataFrame, tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    (hub / "mercari-us" / "merrec").mkdir(parents=True)
    written(good, hub / "mercari-us" / "merrec")
    # Ids that may be empty come as doubles out of pandas, and a column may have no value at all.
    source = Source("mercari-us/merrec", (), Settings(users=1), str(hub), tmp_path)
    there = source.shards()
    assert there.rows == len(good) and not there.generated


def test_a_generated_month_is_written_once_and_whole(tmp_path: Path) -> None:
    source = Source(None, (), Settings(users=20, users_a_shard=10), None, tmp_path)
    files = source.shards().files
    stamps = [file.stat().st_mtime_ns for file in files]
    assert [file.stat().st_mtime_ns for file in source.shards().files] == stamps
    files[1].unlink()  # half of it is none: it is written again
    assert len(source.shards().files) == 2
