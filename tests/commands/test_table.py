"""`minilm-lab table`: runs what is missing, renders from the records, and survives a row that fails."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Finished, Lab
from wandb_offline import offline_runs, summary

COLUMN = {"key": "accuracy", "title": "Accuracy", "overrides": ["task.name=pets"], "metric": "accuracy"}
TEACHER = {
    "key": "teacher",
    "title": "The teacher",
    "overrides": ["source=teacher"],
    "control": True,
    "teacher": True,
}
DISTILLED = {"key": "distilled", "title": "The student", "overrides": []}
BROKEN = {"key": "broken", "title": "Diverges", "overrides": ["tune.lr=1e30", "tune.warmup=0", "tune.clip=0"]}


def use_experiments(folder: Path) -> None:
    """Called in the process of the command: tables are looked for in a folder of the test."""
    from minilm_lab.commands.tables import spec

    spec.experiments_folder = lambda: folder


def refuse_models(folder: Path) -> None:
    """No model is loaded from here on."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    for kind in (AutoModel, AutoModelForSequenceClassification):
        kind.from_pretrained = refuse
        kind.from_config = refuse
    use_experiments(folder)


class Tables:
    """A folder of experiments with one table, `tiny`."""

    def __init__(self, lab: Lab, folder: Path, words: list[str], runs: Path) -> None:
        self.lab, self.folder, self.words, self.runs = lab, folder, words, runs

    def write(self, *rows: dict[str, Any]) -> None:
        spec = {"title": "Tiny", "intro": "A tiny table.", "rows": list(rows), "columns": [COLUMN]}
        (self.folder / "tiny").mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny" / "table.yaml").write_text(yaml.safe_dump(spec))

    def make(self, *more: str, models: bool = True) -> Finished:
        before = functools.partial(use_experiments if models else refuse_models, self.folder)
        return self.lab.run("table", "name=tiny", *self.words, *more, before=before)


@pytest.fixture
def tables(lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path) -> Tables:
    words = [*tiny, *tiny_tune, "scale.epochs=1", "scale.seeds=2"]
    return Tables(lab, tmp_path / "experiments", words, tmp_path / "runs")


def scores(runs: Path) -> dict[str, list[float]]:
    """Accuracies of the fine-tuning runs by what was fine-tuned."""
    found: dict[str, list[float]] = {}
    for path in sorted((runs / "finetune").glob("*/result.json")):
        result = json.loads(path.read_text())
        found.setdefault(result["source"]["kind"], []).append(result["scores"]["accuracy"])
    return found


def test_a_table_is_made_and_then_answered_from_its_records(tables: Tables) -> None:
    tables.write(TEACHER, DISTILLED)
    dry = tables.make("dry=true")
    assert dry.code == 0, dry.err
    assert dry.out.count("to do  ") == 5, "two seeds of two rows, and one distillation"
    assert "5 runs to do, 0 done" in dry.out and "FLOP" in dry.out
    assert not tables.runs.exists()

    made = tables.make()
    assert made.code == 0, made.err
    assert "The teacher" in made.out and "The student" in made.out
    page = tables.runs / "tables" / "tiny" / "index.html"
    assert f"page: {page}" in made.out
    assert "A tiny table." in page.read_text()
    found = scores(tables.runs)
    assert {kind: len(values) for kind, values in found.items()} == {"teacher": 2, "run": 2}
    (markdown,) = page.parent.glob("*.md")
    for values in found.values():
        assert f"{sum(values) / 2:.1f}" in markdown.read_text()

    again = tables.make(models=False)
    assert again.code == 0, again.err
    assert again.out == made.out
    assert tables.make("dry=true").out.count("done   ") == 5


def test_pictures_are_drawn_again_only_where_numbers_changed(tables: Tables) -> None:
    """And where a command was killed between the numbers and the page."""
    tables.write(TEACHER)
    tables.make()
    folder = tables.runs / "tables" / "tiny"
    page, picture = folder / "index.html", folder / "scores.png"
    drawn = picture.read_bytes()
    picture.write_bytes(b"mine")
    tables.make(models=False)
    assert picture.read_bytes() == b"mine"
    os.utime(page, (1, 1))
    tables.make(models=False)
    assert picture.read_bytes() == drawn
    tables.write({**TEACHER, "title": "Another title"})
    picture.write_bytes(b"mine")
    tables.make(models=False)
    assert picture.read_bytes() != b"mine" and "Another title" in page.read_text()


def test_a_row_that_fails_stops_no_other_and_is_named(tables: Tables) -> None:
    tables.write(BROKEN, TEACHER)
    made = tables.make()
    assert made.code == 1
    assert "Traceback" not in made.err
    message = made.err[made.err.rindex("minilm-lab: ") :]
    assert "some runs failed" in message and "not finite" in message
    failed = [path for path in (tables.runs / "finetune").iterdir() if not (path / "result.json").exists()]
    assert len(failed) == 2 and all(f"(log: {path}/error.log)" in message for path in failed)
    assert len(scores(tables.runs)["teacher"]) == 2
    (markdown,) = (tables.runs / "tables" / "tiny").glob("*.md")
    broken = next(line for line in markdown.read_text().splitlines() if "Diverges" in line)
    assert "–" in broken or "—" in broken or " - " in broken

    # Once the row is mended, only what is missing is run.
    tables.write(TEACHER)
    assert tables.make(models=True).code == 0


def test_a_bad_row_is_found_before_any_run(tables: Tables) -> None:
    tables.write(TEACHER, {**DISTILLED, "overrides": ["teacher.layer=9"]})
    made = tables.make()
    assert made.code == 1 and "teacher.layer=9 is outside 1..4" in made.err
    assert not tables.runs.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rowz": []}, ["rowz", "Did you mean 'rows'?"]),
        ({"rows": [{"key": "a", "titel": "A", "overrides": []}]}, ["titel"]),
        ({"rows": [{"key": "a", "title": "A"}]}, ["overrides"]),
        ({"title": None}, ["title"]),
    ],
)
def test_a_bad_table_file(tables: Tables, change: dict[str, Any], words: list[str]) -> None:
    tables.write(TEACHER)
    file = tables.folder / "tiny" / "table.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}))
    made = tables.make("dry=true")
    assert made.code == 1, made.out
    assert "Traceback" not in made.err
    for word in words:
        assert word in made.err
    shutil.rmtree(tables.folder)


def use_wandb(folder: Path, runs: Path) -> None:
    """W&B keeps everything offline, and its API answers from what it kept."""
    import os

    import wandb
    from wandb_offline import Api

    os.environ["WANDB_MODE"] = "offline"
    wandb.Api = lambda: Api(runs)
    use_experiments(folder)


@pytest.mark.slow
def test_a_table_of_wandb_is_the_one_of_the_runs(tables: Tables) -> None:
    tables.write(TEACHER, DISTILLED)
    before = functools.partial(use_wandb, tables.folder, tables.runs)
    words = ["table", "name=tiny", *tables.words, "logger=wandb", "logger.project=trial"]
    made = tables.lab.run(*words, before=before)
    assert made.code == 0, made.err
    local = json.loads((tables.runs / "tables" / "tiny" / "table.json").read_text())
    assert len(local["rows"]) == 2

    (kept,) = offline_runs(tables.runs / "tables" / "tiny")
    told = summary(kept)
    assert (told["config"]["table"], told["summary"]["rows"]) == ("tiny", 2)
    behind = {path.name.rpartition("-")[2] for path in (tables.runs / "finetune").iterdir()}
    assert set(told["config"]["runs"].split(",")) == behind and len(behind) == 4

    # The records of the folders are gone: the table is made of what W&B has.
    for path in tables.runs.glob("*/*/result.json"):
        path.unlink()
    remote = tables.lab.run(*words, "from=wandb", f"out={tables.runs.parent}/remote", before=before)
    assert remote.code == 0, remote.err
    found = json.loads((tables.runs.parent / "remote" / "table.json").read_text())
    assert found["cells"] == local["cells"] and found["rows"] == local["rows"]

    wrong = tables.lab.run(*words, "from=wand", before=before)
    assert wrong.code == 1 and "Did you mean 'wandb'?" in wrong.err
    none = tables.lab.run(*words[:-1], "logger=csv", "from=wandb", before=before)
    assert none.code == 1 and "from=wandb asks the project of logger=wandb" in none.err


@pytest.mark.slow
def test_the_best_setting_of_a_grid_is_taken_and_named(tables: Tables) -> None:
    tables.write(TEACHER, DISTILLED)
    choose = "choose={tune.lr:[1e-6,2e-3],scale.epochs:[1,2]}"
    dry = tables.make("dry=true", choose)
    assert dry.code == 0, dry.err
    assert "17 runs to do, 0 done" in dry.out, "2 rows, 4 settings, 2 seeds; one distillation"
    made = tables.make(choose)
    assert made.code == 0, made.err

    # By hand, from the records alone.
    found: dict[tuple[str, float, int], dict[int, float]] = {}
    for path in (tables.runs / "finetune").glob("*/result.json"):
        record = json.loads(path.read_text())
        setting = record["config"]
        lr, epochs = setting["tune"]["lr"], setting["epochs"]
        found.setdefault((record["source"]["kind"], lr, epochs), {})[setting["seed"]] = record["scores"][
            "accuracy"
        ]
    assert len(found) == 8 and all(sorted(values) == [0, 1] for values in found.values())
    out = tables.runs / "tables" / "tiny"
    table = json.loads((out / "table.json").read_text())
    chosen = {}
    for kind, row in (("teacher", "teacher"), ("run", "distilled")):
        means = {key: sum(v.values()) / 2 for key, v in found.items() if key[0] == kind}
        cell = table["cells"][row]["accuracy"]
        assert sum(cell["values"]) / 2 == pytest.approx(max(means.values()))
        _, lr, epochs = next(
            key
            for key in sorted(means, key=lambda key: key[1:])
            if means[key] == pytest.approx(max(means.values()))
        )
        assert cell["setting"] == f"tune.lr={lr} scale.epochs={epochs}"
        chosen[row] = cell["setting"]
    markdown = (out / "table.md").read_text()
    assert "best of 4 settings (tune.lr × scale.epochs) by the mean score over the seeds" in markdown
    lines = list(csv.DictReader((out / "choices.csv").open()))
    assert len(lines) == 8
    assert {line["row"]: line["setting"] for line in lines if line["chosen"] == "1"} == chosen

    # Not there yet: said, and not hidden behind the settings that are.
    partial = tables.make("choose={tune.lr:[1e-6,3e-3],scale.epochs:[1]}", "render=true")
    assert partial.code == 0, partial.err
    assert "1 of 2 settings are there" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("choose", "words"),
    [
        ("choose=[1]", ["choose=[1]", "settings and their values"]),
        ("choose={tune.lr:2e-5}", ["choose.tune.lr=2e-05", "each once"]),
        ("choose={tune.lr:[1e-5,1e-5]}", ["choose.tune.lr=[1e-05, 1e-05]"]),
        ("choose={tune.lrr:[1e-5]}", ["lrr"]),
    ],
)
def test_a_grid_that_cannot_be(tables: Tables, choose: str, words: list[str]) -> None:
    tables.write(TEACHER)
    made = tables.make("dry=true", choose)
    assert made.code == 1 and "Traceback" not in made.err
    assert all(word in made.err for word in words)
