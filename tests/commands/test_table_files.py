"""experiments/*/table.yaml: every one is read, at every scale; grids, scales and what tables share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.tables import spec as files
from minilm_lab.commands.tables.planning import cell_words
from minilm_lab.errors import LabError

SCALED = [(name, scale) for name in files.known_tables() for scale in files.read_spec(name).at or ("",)]


@pytest.mark.parametrize(("name", "scale"), SCALED)
def test_every_row_and_column_composes_at_every_scale(name: str, scale: str) -> None:
    spec = files.read_spec(name)
    words = spec.words([f"scale={scale}"] if scale else [])
    here = spec.at_scale(scale) if scale else spec
    if any(column.command == "finetune" for column in here.columns):
        assert any(row.teacher for row in here.rows)
        assert any(row.control and not row.teacher for row in here.rows)
    # Composing takes a tenth of a second: rows differ from one another, so the two largest scales share the check.
    for row in here.rows if scale != "paper" else here.rows[-1:]:
        cfg = compose_command(here.columns[0].command, cell_words(words, row, here.columns[0]))
        assert scale in ("", cfg.scale.name)
    for column in here.columns:
        cfg = compose_command(column.command, cell_words(words, here.rows[-1], column))
        if column.command == "evaluate":  # an evaluator's scores are known when it has run
            continue
        assert column.metric is None or column.metric.split("_")[0] in {
            metric.split("_")[0] for metric in cfg.task.metrics
        }


def test_every_distilled_row_has_its_control() -> None:
    """The same student without distillation: objective=none and otherwise the same student words."""
    for name, scale in SCALED:
        spec = files.read_spec(name)
        here = spec.at_scale(scale) if scale else spec
        shared = [w for w in spec.words([f"scale={scale}"] if scale else []) if w.startswith("student=")]
        controls = {_student(row.overrides, shared) for row in here.rows if row.control}
        for row in here.rows:
            if not row.control:
                assert _student(row.overrides, shared) in controls, (name, scale, row.key)


def _student(overrides: list[str], shared: list[str]) -> str:
    return next((w for w in reversed([*shared, *overrides]) if w.startswith("student=")), "")


def test_the_papers_averages_are_those_of_their_columns() -> None:
    """A digit that was copied wrong shows up here: papers round to one digit."""
    checked = 0
    for name in files.known_tables():
        spec = files.read_spec(name)
        scored = [column.key for column in spec.columns if column.averaged]
        for row in spec.rows:
            numbers = {key: n["value"] if isinstance(n, dict) else n for key, n in row.paper.items()}
            if "average" in numbers and all(key in numbers for key in scored):
                mean = sum(numbers[key] for key in scored) / len(scored)
                assert abs(mean - numbers["average"]) <= 0.11, (name, row.key, mean)
                checked += 1
    assert checked > 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "experiments_folder", lambda: tmp_path)
    return tmp_path


def write(folder: Path, **change: object) -> None:
    """A table `t` on a shared file `base`."""
    base = {
        "scale": "demo",
        "at": {"demo": {"overrides": ["experiment=demo"]}, "laptop": {"notes": ["slow"]}},
        "columns": [{"key": "a", "title": "A", "overrides": ["task=sst2"]}],
    }
    own = {
        "title": "T",
        "intro": "i",
        "based_on": "base",
        "overrides": ["seed=1"],
        "rows": [{"key": "teacher", "title": "t", "overrides": ["source=teacher"], "teacher": True}],
        **change,
    }
    (folder / "t").mkdir(exist_ok=True)
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    (folder / "t" / "table.yaml").write_text(yaml.safe_dump(own))


def test_words_of_a_scale_come_between_the_tables_and_the_users(folder: Path) -> None:
    write(folder)
    spec = files.read_spec("t")
    assert spec.words(["seed=5"]) == ["scale=demo", "seed=1", "experiment=demo", "seed=5"]
    assert spec.words(["scale=laptop"]) == ["scale=laptop", "seed=1", "scale=laptop"]
    assert spec.at_scale("laptop").notes == ["slow"]
    with pytest.raises(LabError, match=r"scale=demmo.*Did you mean 'demo'"):
        spec.words(["scale=demmo"])


def test_a_grid_is_all_combinations_with_their_controls(folder: Path) -> None:
    grid = {
        "title": "{shape}: layer {layer}, {what}",
        "axes": {
            "layer": {1: ["teacher.layer=1"], 2: ["teacher.layer=2"]},
            "what": {"x": ["objective=minilm"], "y": ["objective=minilmv2"]},
        },
        "controls": ["layer"],
    }
    write(folder, grid=grid)
    rows = files.read_spec("t").rows
    assert [row.key for row in rows] == ["teacher", "1-none", "1-x", "1-y", "2-none", "2-x", "2-y"]
    assert rows[5].overrides == ["teacher.layer=2", "objective=minilm"]
    assert rows[5].title == "{shape}: layer 2, x" and rows[5].coordinates == {"layer": "2", "what": "x"}
    assert rows[4].control and rows[4].overrides == ["teacher.layer=2", "objective=none"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"based_on": "bass"}, "there is no"),
        ({"at": {"demo": {"rows": ["teachr"]}}}, "Did you mean 'teacher'"),
        ({"at": {"demo": {"rowz": []}}}, "rowz"),
        ({"grid": {"title": "g", "axes": {"a": {"x": []}}, "controls": ["b"]}}, "no axis"),
        ({"grid": {"title": "g", "axes": {"a": {}}}}, "no choices"),
        ({"rows": [{"key": "r", "title": "r", "overrides": [], "paper": {"b": 1.0}}]}, "no such column"),
        (
            {"rows": [{"key": "r", "title": "r", "overrides": [], "paper": {"a": {"valu": 1}}}]},
            "Did you mean 'value'",
        ),
        ({"rows": [{"key": "r", "title": "r", "overrides": [], "kept_of": "s"}]}, "no row"),
    ],
)
def test_mistakes_in_a_table_are_named(folder: Path, change: dict[str, object], message: str) -> None:
    write(folder, **change)
    with pytest.raises(LabError, match=message):
        files.read_spec("t")
