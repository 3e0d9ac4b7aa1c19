"""What a user may call a model, and what is said when it is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from minilm_lab import registry
from minilm_lab.errors import LabError
from minilm_lab.models.resolve import Model, resolve

MakeRun = Callable[..., Path]

IDENTITY = "0123456789"


def find(source: str, runs: Path, key: str) -> Model:
    return resolve(source, runs=runs, cache=runs.parent / "cache", key=key)


@pytest.mark.parametrize("said", ["small-l3", IDENTITY, f"small-l3-{IDENTITY}", "path", "student"])
def test_a_run_by_any_of_its_names(said: str, make_run: MakeRun, tmp_path: Path) -> None:
    config = {"scale": {"steps": 10, "length": 16}}
    run = make_run("small-l3", IDENTITY, config=config)
    make_run("other", "abcdef0123")
    source = {"path": str(run), "student": str(run / "student")}.get(said, said)
    origin = find(source, tmp_path / "runs", "run")
    assert origin.folder == run / "student"
    assert origin.title == f"small-l3-{IDENTITY}"
    assert origin.record is not None and origin.record["identity"] == IDENTITY
    assert origin.distilled_length == 16


def test_a_run_that_was_not_distilled_on_text_has_no_length(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("control", IDENTITY, config={"objective": {"kind": "NoObjective"}})
    assert find("control", tmp_path / "runs", "run").distilled_length is None


def test_a_trained_head_is_a_run_too(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("head", IDENTITY, command="pretrain", product="model", config={"scale": {"length": 16}})
    origin = find("head", tmp_path / "runs", "run")
    assert origin.folder == run / "model"
    assert origin.distilled_length is None, "the body was not distilled on these blocks"


def test_a_folder(tiny_teacher: Path, tmp_path: Path) -> None:
    origin = find(str(tiny_teacher), tmp_path, "source")
    assert (origin.folder, origin.title, origin.record) == (tiny_teacher, "tiny", None)


def test_a_relative_folder(tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_teacher.parent)
    for said in ("tiny", "./tiny", f"../{tiny_teacher.parent.name}/tiny"):
        assert find(said, tmp_path, "source").where == str(Path(said))


def test_a_hub_id_is_left_to_the_hub(tmp_path: Path) -> None:
    origin = find("someone/something", tmp_path, "source")
    assert (origin.where, origin.folder) == ("someone/something", None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("smal-l3", ["run=smal-l3", "Did you mean 'small-l3'?", "minilm-lab runs", "<owner>/<name>"]),
        ("twice", ["names 2 runs", "twice-aaaaaaaaaa", "twice-bbbbbbbbbb", "identity"]),
        ("half", ["half-cccccccccc", "not completed (FAILED)", "start the command"]),
        ("tuned", ["tuned-dddddddddd", "holds no model", f"the run {IDENTITY}", "tune.save_model=true"]),
        ("./nowhere", ["nowhere is not a folder"]),
        ("runs/distill/nothing", ["is not a folder"]),
        ("~nobody/x/y", ["is not a folder"]),
    ],
)
def test_what_is_not_there(said: str, words: list[str], make_run: MakeRun, tmp_path: Path) -> None:
    make_run("small-l3", IDENTITY)
    make_run("twice", "a" * 10)
    make_run("twice", "b" * 10)
    make_run("half", "c" * 10, product=None, state="FAILED")
    make_run("tuned", "d" * 10, command="finetune", product=None, source={"kind": "run", "run": IDENTITY})
    with pytest.raises(LabError) as caught:
        find(said, tmp_path / "runs", "run")
    for word in words:
        assert word in str(caught.value)


def test_a_run_whose_student_is_broken(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("small-l3", IDENTITY)
    (run / "student" / "model.safetensors").unlink()
    with pytest.raises(LabError, match=r"run: \S+/student has no weights"):
        find("small-l3", tmp_path / "runs", "run")


def test_what_decides_a_result_and_what_a_record_says_of_it(
    tiny_teacher: Path, make_run: MakeRun, tmp_path: Path
) -> None:
    config = {"objective": {"kind": "NoObjective"}}
    run = make_run("small-l3", IDENTITY, config=config)
    model = find(str(run / "student"), tmp_path / "runs", "source")
    assert model.identity == {"run": IDENTITY}
    assert model.origin == {"kind": "run", "run": IDENTITY, "config": config}
    folder = find(str(tiny_teacher), tmp_path, "source")
    assert set(folder.identity) == {"folder"}
    assert folder.origin == {"kind": "path", "run": None, "config": folder.identity}
    pinned = find("someone/something@v1.0", tmp_path, "source")
    assert (pinned.where, pinned.revision) == ("someone/something", "v1.0")
    assert pinned.identity == {"hub": "someone/something", "revision": "v1.0"}


def test_an_embedded_model(tmp_path: Path, tiny_teacher: Path) -> None:
    name = next(iter(registry.EMBEDDED_MODELS))
    shutil.copytree(tiny_teacher, tmp_path / "cache" / "models" / name)  # as after its first use
    model = find(name, tmp_path / "runs", "source")
    assert model.folder == tmp_path / "cache" / "models" / name
    assert (model.title, model.identity) == (name, {"package": name})
    with pytest.raises(LabError, match=rf"Did you mean '{name}'\?"):
        find(name[:-1], tmp_path / "runs", "source")


def test_a_folder_of_a_hub_cache(tmp_path: Path, tiny_teacher: Path) -> None:
    cached = tmp_path / "models--someone--tiny"
    snapshot = Path(shutil.copytree(tiny_teacher, cached / "snapshots" / "abc"))
    assert find(str(cached), tmp_path, "source").folder == snapshot
    shutil.copytree(tiny_teacher, cached / "snapshots" / "def")
    with pytest.raises(LabError, match=r"source: \S+ holds 2 versions \(abc, def\)"):
        find(str(cached), tmp_path, "source")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("def")
    assert find(str(cached), tmp_path, "source").folder == cached / "snapshots" / "def"
