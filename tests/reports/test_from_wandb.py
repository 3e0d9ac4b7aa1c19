"""Tables from W&B equal those from the folders of runs: mirrored for real, read back by W&B's own reader."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from wandb_offline import Api, offline_runs, records, start_of, summary

from minilm_lab.errors import LabError
from minilm_lab.reports import cells, from_wandb
from minilm_lab.reports.curves import curve_of
from minilm_lab.reports.records import Record, load
from minilm_lab.reports.table import Column, Row, Table
from minilm_lab.reports.to_wandb import log_table, long
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of
from minilm_lab.training.loggers import Wandb, close, finish

STUDENT = {
    "teacher": {"package": "all_minilm_l6", "layer": 6},
    "student": {"layers": 3, "hidden_size": 384},
    "objective": {"kind": "RelationObjective", "relations": ["qq", "kk", "vv"], "heads": 48},
    "scale": {"steps": 30, "batch_size": 8, "length": 16},
    "seed": 0,
}
NAMES = {"teacher": "all_minilm_l6", "student": "half_depth", "objective": "qq.kk.vv-48", "scale": "demo"}


def mirrored(
    runs: Path,
    command: str,
    what: dict[str, Any],
    lines: list[dict[str, float]],
    own: dict[str, Any],
    **about: Any,
) -> RunFolder:
    """A run as the commands make it: its record in the folder, its mirror in W&B's files."""
    folder = RunFolder(runs, command, f"a-{command}", identity_of(command, what))

    def work(folder: RunFolder) -> dict[str, Any]:
        head = {"identity": folder.identity, "command": command, "name": folder.name, "experiment": "trial"}
        loggers = Wandb(project="p", tags=["mine"]).build(folder.path, {**head, "names": NAMES, **about})
        try:
            for line in lines:
                values = {key: value for key, value in line.items() if key != "step"}
                loggers[0].log_metrics(values, step=int(line["step"]))
                with folder.metrics.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            if "fails" in own:
                raise ValueError("broken")
            finish(loggers, {}, record=own, used=about.get("origin", {}).get("run"))
        finally:
            close()
        return own

    execute(folder, what, {}, work)
    return folder


def distilled(runs: Path) -> RunFolder:
    lines = [{"step": step, "loss": 9.0 - step / 10} for step in (10, 20, 30)] + [
        {"step": 30, "held_out_loss": 6.5}
    ]
    own = {"names": NAMES, "loss": 6.0, "held_out_loss": {"first": 9.5, "last": 6.5}, "tokens_seen": 3840}
    return mirrored(runs, "distill", STUDENT, lines, own)


def tuned(runs: Path, seed: int, accuracy: float, student: str) -> RunFolder:
    origin = {"kind": "run", "run": student, "config": STUDENT}
    own = {
        "names": {**NAMES, "task": "sst2"},
        "source": origin,
        "scores": {"accuracy": accuracy, "f1": accuracy / 2},
        "score": {"name": "accuracy", "value": accuracy},
        "selection": "epoch 3 of 3 (last)",
        "data_note": "2,000 of 67,349 training examples",
        "parameters": {"embeddings": 11918592, "transformer": 5323392, "total": 17389824},
    }
    what = {"source": {"run": student}, "task": {"kind": "classification"}, "epochs": 3, "seed": seed}
    lines = [{"step": 10, "dev/accuracy": accuracy + 1}, {"step": 20, "dev/accuracy": accuracy}]
    return mirrored(runs, "finetune", what, lines, own, names={**NAMES, "task": "sst2"}, origin=origin)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, and changed by no test."""
    return tmp_path_factory.mktemp("mirrored") / "runs"


@pytest.fixture
def runs(made: Path) -> Path:
    folder = made
    if folder.exists():
        return folder
    student = distilled(folder)
    for seed, accuracy in enumerate((80.5, 82.25)):
        tuned(folder, seed, accuracy, student.identity)
    return folder


def table_of(found: list[Record]) -> Table:
    """As `minilm-lab table` makes it."""
    scores = [record for record in found if record.command == "finetune"]
    contents = {
        "acc": dataclasses.replace(cells.score_cell(scores), paper=91.0, paper_unverified=True),
        "f1": cells.score_cell(scores, "f1"),
        "parameters": cells.parameters_cell(scores),
    }
    columns = [
        Column("acc", "Accuracy"),
        Column("f1", "F1"),
        Column("parameters", "Parameters", kind="measure"),
    ]
    rows = [Row("student", "Student", coordinates={"layer": 6, "relations": "qq.kk.vv"})]
    return Table("Trial", rows, columns, {"student": contents}, cells.caption_of(scores))


def test_a_table_from_wandb_equals_the_one_from_the_folders(runs: Path, tmp_path: Path) -> None:
    api = Api(runs)
    local, remote = load(runs), load(from_wandb.fetch("p", tmp_path / "fetched", "team", api))
    assert api.asked == "team/p"
    assert [r.identity for r in remote] == [r.identity for r in local] and len(local) == 3
    assert table_of(remote) == table_of(local)
    assert table_of(local).cell("student", "acc").values == [80.5, 82.25]
    # What is known once the folder is closed.
    closed = ("wall_clock_s", "finished", "files")
    for ours, theirs in zip(local, remote, strict=True):
        assert theirs.result == {key: value for key, value in ours.result.items() if key not in closed}
        assert (theirs.command, theirs.name, theirs.state) == (ours.command, ours.name, "COMPLETED")

    curve = curve_of(remote[0])
    assert curve == curve_of(local[0])
    assert curve.training == [(10, 8.0), (20, 7.0), (30, 6.0)] and curve.held_out == [(30, 6.5)]


def test_summary_artifacts_and_lineage_of_a_score(runs: Path) -> None:
    (one, _), (student,) = (sorted((runs / command).iterdir()) for command in ("finetune", "distill"))
    (offline,) = offline_runs(one)
    found = summary(offline)["summary"]
    result = json.loads((one / "result.json").read_text())
    score = result["score"]["value"]
    assert found["score"] == found["score/accuracy"] == score and found["score_name"] == "accuracy"
    assert found["dev/accuracy"] == {"max": score + 1, "last": score}
    assert found["parameters"]["total"] == 17389824
    (artifact,) = records(offline, "artifact")
    assert artifact["name"] == f"score-{result['identity']}" and artifact["type"] == "score"
    assert start_of(offline)["tags"] == ["mine", "trial", "all_minilm_l6", "qq.kk.vv-48", "sst2"]
    config = summary(offline)["config"]
    assert config["lineage"]["uses"] == f"student-{student.name.rpartition('-')[2]}"
    assert config["student"] == {"name": "half_depth", "layers": 3, "hidden_size": 384}
    assert config["objective"]["relations"] == "qq,kk,vv" and config["teacher"]["name"] == "all_minilm_l6"


def test_a_run_that_fails_is_failed_there_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        mirrored(tmp_path, "distill", STUDENT, [{"step": 10, "loss": 8.0}], {"fails": True})
    assert wandb.run is None
    (failed,) = load(from_wandb.fetch("p", tmp_path / "fetched", api=Api(tmp_path)))
    assert failed.state == "FAILED" and failed.progress == {"step": 10, "loss": 8.0}


def test_what_has_no_record_is_said_and_what_is_no_run_is_left_out(tmp_path: Path) -> None:
    common = {"created_at": "2026-01-01T00:00:00Z", "heartbeat_at": None, "config": {}, "scan_history": list}
    old = SimpleNamespace(
        id="abc",
        name="../../up",
        state="finished",
        job_type="finetune",
        summary_metrics={"score": 3},
        **common,
    )
    table = SimpleNamespace(
        id="t", name="t", state="finished", job_type="table", summary_metrics={}, **common
    )
    api = SimpleNamespace(runs=lambda path, **_: [old, table])
    (record,) = load(from_wandb.fetch("p", tmp_path / "in", api=api))
    assert record.state == "FAILED" and record.error == "W&B has no record of it"
    assert [path.parent.name for path in tmp_path.rglob("status.json")] == ["up-abc"]
    assert next(tmp_path.rglob("status.json")).is_relative_to(tmp_path / "in" / "finetune")


def test_without_a_login_or_a_project_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    with pytest.raises(LabError, match="wandb login"):
        from_wandb.fetch("p", tmp_path)

    def nothing(path: str, **_: Any) -> list[Any]:
        raise ValueError(f"Could not find project {path}")

    with pytest.raises(LabError, match="project team/p cannot be read"):
        from_wandb.fetch("p", tmp_path, "team", SimpleNamespace(runs=nothing))


def test_a_table_is_one_run_with_the_papers_numbers(runs: Path, tmp_path: Path) -> None:
    found = load(runs)
    made = table_of(found)
    folder = tmp_path / "tables" / "trial"
    logger = Wandb(project="p", tags=["mine"])
    ids = {log_table(made, name="trial", logger=logger, folder=folder, records=found) for _ in range(2)}
    assert len(ids) == 1 and wandb.run is None
    other = dataclasses.replace(made, rows=[*made.rows, Row("more", "More")])
    assert log_table(other, name="trial", logger=logger, folder=folder) not in ids

    offline = offline_runs(folder)[0]
    opened = start_of(offline)
    assert opened["job_type"] == "table" and opened["run_group"] == "trial" and {opened["run_id"]} == ids
    behind = sorted(record.identity for record in found if record.command == "finetune")
    assert summary(offline)["config"]["runs"] == ",".join(behind)
    kept = [json.loads(file.read_text()) for file in offline.glob("files/media/table/*.table.json")]
    (cells_table,) = (table for table in kept if "mean" in table["columns"])
    assert cells_table["columns"][-2:] == ["layer", "relations"]
    line = dict(zip(cells_table["columns"], cells_table["data"][0], strict=True))
    assert line["mean"] == pytest.approx(81.375) and line["sd"] == pytest.approx(1.2374368670764582)
    assert (line["n"], line["values"]) == (2, "80.5000, 82.2500")
    assert (line["paper"], line["paper_unverified"]) == (91.0, True)
    assert (line["layer"], line["relations"]) == (6, "qq.kk.vv")
    assert {a["name"] for a in records(offline, "artifact")} >= {"table-trial"}
    assert log_table(made, name="trial", logger=object(), folder=folder) is None


def test_cells_without_any_number_are_left_out() -> None:
    table = Table("t", [Row("a", "A"), Row("b", "B")], [Column("x", "X")], {"a": {"x": cells.Cell([1.0])}})
    assert long(table).iloc[:, :4].to_numpy().tolist() == [["a", "A", False, "x"]]


def test_a_cell_says_which_setting_was_chosen() -> None:
    chosen = cells.Cell([1.0], setting="tune.lr=4e-4")
    table = Table("t", [Row("a", "A")], [Column("x", "X")], {"a": {"x": chosen}})
    assert long(table)["setting"].tolist() == ["tune.lr=4e-4"]
