"""What is in the files is what is read, compared with the csv module, pandas and plain `datasets`."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import os
import shutil
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from minilm_lab.data.formats import Reading
from minilm_lab.data.reading import open_data
from minilm_lab.errors import LabError

TABLE = [
    {"text": "well, I liked it", "label": "None"},
    {"text": 'he said "no"', "label": "NA"},
    {"text": "two\nlines", "label": "null"},
    {"text": "007", "label": "nan"},
    {"text": "naïve 猫 🐈", "label": "pos"},
]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def write_csv(
    file: Path, rows: list[dict[str, str]] = TABLE, separator: str = ",", encoding: str = "utf-8"
) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return file


def read(path: Path, cache: Path, **settings: object) -> list[dict]:
    return open_data(str(path), None, None, cache, reading=Reading(**settings))["train"].to_list()  # type: ignore[arg-type]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, cache: Path) -> None:
    plain = write_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "b.TSV", separator="\t")
    lines = "".join(json.dumps(row) + "\n" for row in TABLE)
    (tmp_path / "c.ndjson").write_text(lines)
    (tmp_path / "d.json").write_text(json.dumps(TABLE, indent=2))
    (tmp_path / "e.json").write_text(lines)
    (tmp_path / "f.JSONL").write_text(lines)
    pandas.DataFrame(TABLE).to_parquet(tmp_path / "g.parquet")
    for ending, module in (("gz", gzip), ("bz2", bz2), ("xz", lzma)):
        (tmp_path / f"h.csv.{ending}").write_bytes(module.compress(plain.read_bytes()))
    (tmp_path / "i.csv").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())  # as Excel writes UTF-8
    write_csv(tmp_path / "j [1]*?.csv")  # a path is a path, never a pattern
    Dataset.from_list(TABLE).save_to_disk(tmp_path / "k")
    DatasetDict(train=Dataset.from_list(TABLE)).save_to_disk(tmp_path / "l")
    for path in sorted(tmp_path.iterdir()):
        assert read(path, cache) == TABLE, path


def test_only_an_empty_cell_is_missing(tmp_path: Path, cache: Path) -> None:
    file = write_csv(
        tmp_path / "a.csv", [{"a": "NA", "b": ""}, {"a": "", "b": "<NA>"}, {"a": "1.50", "b": "01"}]
    )
    with file.open(newline="") as stream:
        expected = [{k: v or None for k, v in row.items()} for row in csv.DictReader(stream)]
    assert read(file, cache) == expected
    assert expected[2] == {"a": "1.50", "b": "01"}


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("trailing.csv", "text,label,source\na,pos,web\nb,neg,web,\n", 3),
        ("first.csv", "text,label\nwell, I liked it,pos\nb,neg\n", 2),
        ("short.csv", "text,label\na,pos\nb\n", 3),
        ("after a cell of two lines.csv", 'text,label\n"a\nb",pos\n\nc,d,e\n', 5),
        ("tabs.tsv", "text\tlabel\na\tpos\t\n", 2),
    ],
)
def test_a_row_of_another_width_is_an_error_with_its_line(
    name: str, content: str, line: int, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(
        LabError, match=rf"{name}, line {line}: \d cells, but the first line names \d columns"
    ):
        read(tmp_path / name, cache)


@pytest.mark.parametrize(
    ("name", "mark", "said"),
    [("a.csv", ";", "semicolons"), ("a.csv", "\t", "tabs")],
)
def test_cells_that_are_separated_otherwise_are_asked_about(
    name: str, mark: str, said: str, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / name).write_text(f"text{mark}label\na{mark}pos\n")
    with pytest.raises(LabError, match=rf"{name}: its first line is one cell, \S+, with {said} in it"):
        read(tmp_path / name, cache)


def test_a_file_replaced_under_the_same_time_stamp_is_read_again(tmp_path: Path, cache: Path) -> None:
    for file, old, new in (
        ("a.csv", "text\nold\n", "text\nnew\n"),
        ("b.jsonl", '{"text":"old"}', '{"text":"new"}'),
    ):
        path = tmp_path / file
        path.write_text(old)
        stamp = path.stat()
        assert read(path, cache) == [{"text": "old"}]
        path.write_text(new)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert path.stat().st_size == stamp.st_size and read(path, cache) == [{"text": "new"}]


def test_a_table_in_the_cache_that_is_broken_is_made_again(tmp_path: Path, cache: Path) -> None:
    file = write_csv(tmp_path / "a.csv")
    assert read(file, cache) == TABLE
    (table,) = (cache / "tables").glob("*/table.arrow")
    table.write_bytes(table.read_bytes()[:40])
    assert read(file, cache) == TABLE


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text\nnaïve\n".encode("latin-1"), r"a.csv, line 2: .*not UTF-8.*task.encoding=latin-1"),
        ("a.csv", "text\nnaïve\n".encode("utf-16"), "looks like UTF-16.*task.encoding=utf-16"),
        ("a.csv", "text\nnaïve and so on\n".encode("utf-16-le"), "looks like UTF-16"),
        ("a.csv", b"text\n\0\n", "binary"),
        ("a.csv", b"", "no examples"),
        ("a.csv", b"text,label\n", "no examples"),
        ("a.csv", b"text,text\na,b\n", "the column 'text' twice"),
        ("a.csv", b'text,label\n"a" b,c\n', "line 2: .*task.quotes=false"),
        ("a.jsonl", b"[1, 2]\n", "line 1 is JSON, but no object"),
        ("a.jsonl", b'{"a": 1}\n{"a"\n', "line 2 is not JSON"),
        ("a.jsonl", b'{"a": 1}\n{"a": "x"}\n', "column 'a' holds other kinds of values"),
        ("a.json", b"{\n", "is not JSON"),
        ("a.parquet", b"PAR0", "no Parquet file"),
        ("a.csv.gz", gzip.compress(b"text\na\nb\n", mtime=0)[:-4], "no whole .gz file"),
        ("a.xlsx", b"x", "files of this kind cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(
    name: str, content: bytes, message: str, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=message):
        read(tmp_path / name, cache)


def test_texts_of_parquet_that_are_no_utf8(tmp_path: Path, cache: Path) -> None:
    texts = pyarrow.array([b"na\xefve"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    with pytest.raises(LabError, match=r"task.path=.*a.parquet is a broken Parquet file: .*UTF"):
        read(tmp_path / "a.parquet", cache)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_read_where_they_are_named(encoding: str, tmp_path: Path, cache: Path) -> None:
    rows = [{"text": "naïve, été", "label": "é"}]
    assert read(write_csv(tmp_path / "a.csv", rows, encoding=encoding), cache, encoding=encoding) == rows
    with pytest.raises(LabError, match=r"task.encoding=latin-42: there is no such encoding"):
        Reading(encoding="latin-42")


def test_json_values_keep_their_types(tmp_path: Path, cache: Path) -> None:
    rows: list[dict] = [
        {"id": 1, "date": "2020-01-01T00:00:00", "score": 1, "answers": {"text": ["a"], "start": [0]}},
        {"id": 2, "date": "2020", "score": 0.5, "answers": None},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(tmp_path / "a.jsonl", cache) == rows
    (tmp_path / "b.jsonl").write_text('{"text": "\\ud800 half"}\n')
    assert read(tmp_path / "b.jsonl", cache) == [{"text": "? half"}]


def test_copies_and_other_files_are_passed_over_and_said(tmp_path: Path, cache: Path, caplog) -> None:
    write_csv(tmp_path / "train.csv")
    write_csv(tmp_path / "validation.csv", TABLE[:2])
    for name in ("train (1).csv", "old/train.csv", "train_old.csv", "train_b.csv", "notes.csv", ".train.csv"):
        write_csv(tmp_path / name)
    for name in (
        "train.csv~",
        "Thumbs.db",
        "README.md",
        "__MACOSX/._train.csv",
        ".ipynb_checkpoints/train-checkpoint.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "train.csv", tmp_path / name)
    data = open_data(str(tmp_path), None, None, cache)
    assert {split: part.to_list() for split, part in data.items()} == {
        "train": TABLE,
        "validation": TABLE[:2],
    }
    assert "3 copies of files that are there too are passed over" in caplog.text
    assert (
        "2 files that belong to no split of train, validation are passed over: notes.csv, train_b.csv"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.csv", "devel.csv"], {"train": 1, "validation": 1}),
        (["training.csv", "testing.csv"], {"train": 1, "test": 1}),
        (["train-00000-of-00002.csv", "train-00001-of-00002.csv", "val.csv"], {"train": 2, "validation": 1}),
        (["train_a.csv", "train_b.csv", "my-dev.csv"], {"train": 2, "validation": 1}),
        (["train/1.csv", "train/2.csv", "dev/1.csv"], {"train": 2, "validation": 1}),
        (["contest.csv", "dev.csv"], {"validation": 1}),
        (["retrain.csv", "latest.csv"], {"train": 2}),
        (["data/validation_matched-00000-of-00001.csv", "data/train-00000-of-00001.csv"], {"train": 1, "validation_matched": 1}),
    ],
)  # fmt: skip
def test_names_of_files_say_their_split(
    names: list[str], splits: dict[str, int], tmp_path: Path, cache: Path
) -> None:
    for name in names:
        write_csv(tmp_path / name)
    found = open_data(str(tmp_path), None, None, cache)
    assert {split: len(part) / len(TABLE) for split, part in found.items()} == splits


def test_a_split_in_two_kinds_of_files_is_asked_about(tmp_path: Path, cache: Path) -> None:
    write_csv(tmp_path / "train.csv")
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(LabError, match=r"files of several kinds \(.csv, .jsonl\)"):
        open_data(str(tmp_path), None, None, cache)


def test_the_hubs_layout_with_brackets_in_its_path(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "[copy] *"
    write_csv(folder / "en/part.csv", [{"text": "a", "label": "neg"}, {"text": "b", "label": "pos"}])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/*.csv\n"
        "dataset_info:\n- config_name: en\n  features:\n  - name: text\n    dtype: string\n"
        "  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': neg\n          '1': pos\n---\n"
    )
    data = open_data(str(folder), "en", None, cache)["train"]
    assert data.features["label"] == ClassLabel(names=["neg", "pos"]) and data["label"][:] == [0, 1]
    with pytest.raises(LabError, match=r"task.config=fr: .*it has: en"):
        open_data(str(folder), "fr", None, cache)


def test_files_with_other_columns(tmp_path: Path, cache: Path) -> None:
    write_csv(tmp_path / "train_a.csv")
    write_csv(tmp_path / "train_b.csv", [{"text": "a", "target": "b"}])
    with pytest.raises(
        LabError, match=r"different columns: train_a.csv has text, label, train_b.csv has text, target"
    ):
        open_data(str(tmp_path), None, None, cache)["train"]


def test_a_folder_of_the_hubs_client(tmp_path: Path, cache: Path) -> None:
    state = tmp_path / "datasets--me--mine" / "snapshots" / "abc"
    write_csv(state / "train.csv")
    (tmp_path / "datasets--me--mine" / "refs").mkdir()
    (tmp_path / "datasets--me--mine" / "refs" / "main").write_text("abc")
    assert read(tmp_path / "datasets--me--mine", cache) == TABLE


GLUE = {
    "CoLA": (["gj04\t0\t*\tThe \"cat sat."], {"label": "0", "sentence": 'The "cat sat.'}),
    "QNLI": (["index\tquestion\tsentence\tlabel", '0\twho?\t"the cat\tentailment'], {"sentence": '"the cat', "label": "entailment"}),
    "MRPC": (["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t2\t3\t"a\tb'], {"label": "1", "sentence1": '"a', "sentence2": "b"}),
    "QQP": (["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\ta\tb\t1"], {"label": "1", "question1": "a"}),
    "XNLI": (["premise\thypo\tlabel", '"a\tb\tcontradictory'], {"premise": '"a', "hypothesis": "b", "label": "contradiction"}),
    "MNLI": (
        ["index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tgold_label", "0\t1\t1n\tfiction\ta\tb\tneutral"],
        {"premise": "a", "hypothesis": "b", "label": "neutral", "gold_label": "neutral"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GLUE)
def test_glue_as_downloaded_has_the_hubs_columns(name: str, tmp_path: Path, cache: Path) -> None:
    lines, expected = GLUE[name]
    (tmp_path / "dev.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "dev_matched.tsv").write_text("\n".join(lines) + "\n")
    data = open_data(str(tmp_path), None, None, cache)
    (row,) = data["validation"].to_list()
    assert row | expected == row and list(data) == ["validation", "validation_matched"]
