"""Nothing that is loaded runs code, nothing that is named leaves its folder."""

from __future__ import annotations

import builtins
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab
from omegaconf import OmegaConf
from safetensors.torch import load_file

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.reports.page import page_html
from minilm_lab.reports.table import Caption, Cell, Column, Row, Table
from minilm_lab.runs.identity import slug
from minilm_lab.training.checkpoints import checksum

ROOT = Path(__file__).resolve().parents[2]


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (f"open({str(self.file)!r}, 'w').close()",)


@pytest.fixture
def bomb(tmp_path: Path) -> Bomb:
    """Armed: a plain unpickling really makes the file."""
    trial = Bomb(tmp_path / "trial")
    pickle.loads(pickle.dumps(trial))
    assert trial.file.exists()
    return Bomb(tmp_path / "executed")


# Files that a user is given.


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_in_place_of_weights_does_not_run(
    tiny: list[str], tiny_teacher: Path, tmp_path: Path, bomb: Bomb, legacy: bool
) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(tiny_teacher, folder)
    (folder / "model.safetensors").unlink()
    if legacy:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(bomb, protocol=2))
    else:
        torch.save({"weight": bomb}, folder / "pytorch_model.bin")
    ready = plan(compose_command("distill", [*tiny, f"teacher.path={folder}"]))
    with pytest.raises(LabError, match="pickle file that holds more than numbers"):
        ready.make()
    assert not bomb.file.exists()


def test_a_pickle_in_place_of_a_checkpoint_does_not_run(
    lab: Lab, tiny: list[str], tmp_path: Path, bomb: Bomb
) -> None:
    """With a right checksum beside it, as whoever can write the file can write that too."""
    ready = plan(compose_command("distill", tiny))
    place = ready.folder.checkpoints
    place.mkdir(parents=True)
    file = place / "step-000000004.ckpt"
    torch.save({"state_dict": bomb, "loops": bomb}, file)
    (place / f"{file.name}.sum").write_text(checksum(file))
    done = lab.run("distill", *tiny)
    assert not bomb.file.exists()
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "is no checkpoint of the lab" in done.err and "it may hold code, which was not run" in done.err


def test_a_pickle_in_the_cache_of_tokens_does_not_run(tiny: list[str], tmp_path: Path, bomb: Bomb) -> None:
    words = [*tiny, "scale.steps=2"]
    plan(compose_command("distill", words)).make()
    (cache,) = (p for p in (tmp_path / "cache" / "corpora").iterdir() if p.is_dir())
    first = {file.name: file.read_bytes() for file in cache.iterdir()}
    for name, data in first.items():
        (cache / name).write_bytes(pickle.dumps(bomb))
        with (cache / name).open("ab") as stream:
            stream.write(b"\0" * max(0, len(data) - (cache / name).stat().st_size))
    plan(compose_command("distill", [*words, "seed=1"])).make()
    assert not bomb.file.exists()
    again = {file.name: file.read_bytes() for file in cache.iterdir()}
    (tokens,) = (name for name in first if name.startswith("tokens"))
    assert again[tokens] == first[tokens], "built again"


def test_arrays_of_objects_in_the_whole_cache_do_not_run(
    tiny: list[str], tiny_tune: list[str], tmp_path: Path, bomb: Bomb
) -> None:
    """Whatever a fine-tuning keeps in the cache, a pickled array in its place is not opened."""

    words = [*tiny, *tiny_tune, "source=teacher", "scale.epochs=1"]
    plan_finetune(compose_command("finetune", words)).make()
    kinds = (".npy", ".npz", ".pt", ".bin", ".pkl", ".ckpt")
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file() and file.suffix in kinds:
            file.chmod(0o644)
            np.save(file.with_suffix(".npy.tmp.npy"), np.array([bomb], dtype=object), allow_pickle=True)
            file.with_suffix(".npy.tmp.npy").replace(file)
    plan_finetune(compose_command("finetune", [*words, "tune.seed=1"])).make()
    assert not bomb.file.exists()


@pytest.mark.parametrize("auto_map", ["AutoConfig", "AutoModel", "AutoTokenizer"])
def test_code_beside_a_model_does_not_run(
    tiny: list[str], tiny_teacher: Path, tmp_path: Path, auto_map: str
) -> None:
    folder, executed = tmp_path / "evil", tmp_path / "executed"
    shutil.copytree(tiny_teacher, folder)
    (folder / "evil.py").write_text(f"open({str(executed)!r}, 'w').close()\nclass Evil: pass\n")
    name = "tokenizer_config.json" if auto_map == "AutoTokenizer" else "config.json"
    settings = json.loads((folder / name).read_text())
    settings["auto_map"] = {
        auto_map: ["evil.Evil", "evil.Evil"] if auto_map == "AutoTokenizer" else "evil.Evil"
    }
    (folder / name).write_text(json.dumps(settings))
    try:
        plan(compose_command("distill", [*tiny, f"teacher.path={folder}", "scale.steps=1"])).make()
    except LabError as error:
        assert str(folder) in str(error)
    assert not executed.exists()
    # And an architecture that exists as code beside the model alone is refused.
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(
            {
                **settings,
                "model_type": "evil",
                "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"},
            }
        )
    )
    with pytest.raises(LabError, match="evil"):
        sources.load_config(str(folder), None, "teacher")
    assert not executed.exists()


def test_our_code_never_unpickles() -> None:
    """No pickle, no torch.load without weights_only, no eval in the package."""
    wrong = re.compile(
        r"^\s*(from|import) (dill|cloudpickle|joblib(?!\.externals\.loky import get_reusable_executor$)|shelve|marshal)\b|pickle\.loads?\(|torch\.load\((?!.*weights_only=True)"
        r"|allow_pickle=True|(?<![\w.])(eval|exec)\(|yaml\.unsafe_load|os\.system\(|shell=True|trust_remote_code=True"
    )
    found = []
    for file in (ROOT / "minilm_lab").rglob("*.py"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = re.sub(r'#.*|"[^"]*"', "", line)
            if wrong.search(code) or re.search(r"yaml\.load\((?!.*(Safe|_LOADER))", code):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, found


# Configs that a user is given.


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("os.system", "not part of the lab"),
        ("builtins.eval", "not part of the lab"),
        ("minilm_lab", "not part of the lab"),
        ("minilm_lab_evil.Optim", "not part of the lab"),
        ("minilm_lab.__main__.main", "not part of the lab"),
        ("minilm_lab.commands.cli._fail", "not part of the lab"),
        ("minilm_lab.runs.files.write_atomically", "is not a dataclass"),
        ("minilm_lab.config.importlib", "is not a dataclass"),
        ("minilm_lab.config.dataclasses.dataclass", "cannot be imported"),
        ("minilm_lab.training.fit.pl.Trainer", "cannot be imported"),
        ("minilm_lab.models.sources.PretrainedConfig", "not"),
        ("minilm_lab.models.teacher.Teacher", "is no optim"),
        ("minilm_lab.runs.folder.RunFolder", "is no optim"),
        ("minilm_lab.\0.Optim", "cannot be imported"),
        ("${oc.env:HOME}", "not part of the lab"),
    ],
)
def test_a_config_names_nothing_but_its_own_dataclass(target: str, says: str) -> None:
    with pytest.raises(LabError, match=says):
        config.build(OmegaConf.create({"_target_": target, "command": "touch /tmp/executed"}), "optim")


def test_a_library_class_that_a_module_imports_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    foreign = dataclasses.make_dataclass("Foreign", [("x", int, 1)])
    foreign.__module__ = "somewhere.else_"
    monkeypatch.setattr("minilm_lab.training.settings.Foreign", foreign, raising=False)
    with pytest.raises(LabError, match="not part of the lab"):
        config.build(OmegaConf.create({"_target_": "minilm_lab.training.settings.Foreign"}), "any")


EVIL_HYDRA = {
    "callback": {"callbacks": {"evil": {"_target_": "os.system", "command": "touch FILE"}}},
    "nested": {"callbacks": {"evil": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback", "x": {"_target_": "os.system"}}}},
    "launcher": {"launcher": {"_target_": "os.system"}},
    "sweeper": {"sweeper": {"_target_": "os.system"}},
    "interpolated": {"launcher": {"_target_": "hydra_plugins.${oc.decode:os.system}"}},
    "instantiate": {"callbacks": {"evil": {"_target_": "hydra.utils.instantiate", "config": {}}}},
    "log handler": {"job_logging": {"version": 1, "handlers": {"evil": {"()": "os.system", "command": "touch FILE"}}}},
    "log class": {"job_logging": {"version": 1, "handlers": {"evil": {"class": "subprocess.Popen", "args": ["touch", "FILE"]}}}},
    "log stream": {"hydra_logging": {"version": 1, "handlers": {"evil": {"class": "logging.StreamHandler", "stream": "ext://evil.module"}}}},
}  # fmt: skip


@pytest.mark.parametrize("multirun", [False, True])
@pytest.mark.parametrize("case", EVIL_HYDRA)
def test_an_experiment_file_cannot_make_hydra_run_code(
    lab: Lab, tmp_path: Path, case: str, multirun: bool
) -> None:
    """As a file of somebody else's, in a folder of configs of their own."""
    executed = tmp_path / "executed"
    conf = tmp_path / "conf" / "experiment"
    conf.mkdir(parents=True)
    text = json.dumps({"hydra": EVIL_HYDRA[case]}).replace("FILE", str(executed))
    (conf / "evil.yaml").write_text(f"# @package _global_\n{text}\n")
    more = ["-m", "seed=1,2"] if multirun else []
    done = lab.run(
        "runs", *more[:1], "--config-dir", conf.parent, "+experiment=evil", f"paths.runs={tmp_path}/runs"
    )
    assert not executed.exists()
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "minilm-lab: hydra." in done.err, done.err


def test_hydra_may_use_its_own_plugins() -> None:
    for words in (["hydra/launcher=joblib"], ["hydra/sweeper=optuna"], ["hydra/launcher=submitit_local"]):
        try:
            compose_command("distill", words)
        except LabError as error:  # an extra that is not installed
            assert "no such option" in str(error)


def test_hydra_does_not_unpickle_a_job(lab: Lab, tmp_path: Path, bomb: Bomb) -> None:
    file = tmp_path / "config.pickle"
    file.write_bytes(pickle.dumps(bomb))
    done = lab.run("distill", f"--experimental-rerun={file}")
    assert done.code == 1 and "pickle" in done.err and not bomb.file.exists()


# Names.

NAMES = ["../../evil", "/etc/evil", "a/b\\c", "..", ".", "~", "x" * 5000, "é\u202e\u0301名", "a\nb\r\t\0c", "-rf", "$(touch x)", " ", "CON", "a;b|c&d", "*?[x]"]  # fmt: skip


def test_names_of_runs_are_safe() -> None:
    for name in NAMES:
        safe = slug(name)
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", safe), (name, safe)
        assert slug(name, "x").count("/") == 0 and slug(name) != ".."


@pytest.mark.parametrize(
    "setting", ["teacher.name", "corpus.name", "scale.name", "student.name", "experiment_name"]
)
def test_no_name_leads_out_of_the_folder_of_runs(setting: str, tiny: list[str], tmp_path: Path) -> None:
    values = compose_command("distill", [*tiny, "scale.steps=1"])
    usual = plan(values).folder.identity
    for name in NAMES:
        OmegaConf.update(values, setting, name)
        folder = plan(values).folder
        assert folder.path.parent == tmp_path / "runs" / "distill"
        assert folder.path.resolve().parent == (tmp_path / "runs" / "distill").resolve()
        assert folder.identity == usual, "a name is no part of what is computed"
    before = set(tmp_path.parent.iterdir())
    plan(values).make()
    assert set(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..", "", "a\0b"])
def test_files_of_a_task_stay_in_the_folder_of_the_run(
    name: str, tiny: list[str], tiny_tune: list[str]
) -> None:
    """Names of submissions and of further splits become names of files."""
    for settings in (
        {"extra_splits": {name: "validation"}},
        {"test": True, "submissions": {name: "validation"}},
    ):
        values = compose_command("finetune", [*tiny, *tiny_tune, "source=teacher"])
        OmegaConf.set_struct(values, False)
        for key, value in settings.items():
            values.task[key] = value
        with pytest.raises(LabError, match=r"task\.(extra_splits|submissions)"):
            plan_finetune(values)


@pytest.mark.parametrize("name", ["../../etc", "/etc", "x/../../../y", "..", "a\nb"])
def test_a_table_is_looked_for_in_experiments_alone(lab: Lab, name: str, tmp_path: Path) -> None:
    (tmp_path / "y").mkdir()
    done = lab.run("table", f"name='{name}'", f"paths.runs={tmp_path}/runs")
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert not (tmp_path / "runs").exists()


# What is shown and what is written.


def test_the_page_escapes_what_it_shows() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    table = Table(
        evil,
        [Row(evil, evil)],
        [Column("c", evil, note=evil)],
        {evil: {"c": Cell(values=[1.0], seeds=[0], paper=2.0, paper_source=evil)}},
        Caption(scale=evil, notes=[evil], hardware=[evil], data=[evil], commits=[evil], selection=evil),
    )
    page = page_html(evil, evil, table, notes=[evil])
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "default-src 'none'" in page


def test_the_weights_that_are_saved_are_safetensors(tiny: list[str]) -> None:
    ready = plan(compose_command("distill", [*tiny, "scale.steps=1"]))
    ready.make()
    files = sorted(path.name for path in (ready.folder.path / "student").iterdir())
    assert "model.safetensors" in files and not [f for f in files if f.endswith((".bin", ".pt", ".pkl"))]
    assert load_file(ready.folder.path / "student" / "model.safetensors")
