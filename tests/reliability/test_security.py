"""Nothing that is loaded runs code, nothing that is named leaves its folder, no key is written down."""

from __future__ import annotations

import builtins
import json
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
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
from minilm_lab.commands.distill import distill, plan
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.reports.page import page_html
from minilm_lab.reports.table import Caption, Cell, Column, Row, Table
from minilm_lab.runs.identity import slug
from minilm_lab.secrecy import SECRET, secrets
from minilm_lab.training.checkpoints import checksum

ROOT = Path(__file__).resolve().parents[2]
KEY = "5e471ne1" * 5  # as long as a real one


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
        distill(ready)
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
    distill(plan(compose_command("distill", words)))
    (cache,) = (p for p in (tmp_path / "cache" / "corpora").iterdir() if p.is_dir())
    first = {file.name: file.read_bytes() for file in cache.iterdir()}
    for name, data in first.items():
        (cache / name).write_bytes(pickle.dumps(bomb))
        with (cache / name).open("ab") as stream:
            stream.write(b"\0" * max(0, len(data) - (cache / name).stat().st_size))
    distill(plan(compose_command("distill", [*words, "seed=1"])))
    assert not bomb.file.exists()
    again = {file.name: file.read_bytes() for file in cache.iterdir()}
    (tokens,) = (name for name in first if name.startswith("tokens"))
    assert again[tokens] == first[tokens], "built again"


def test_arrays_of_objects_in_the_whole_cache_do_not_run(
    tiny: list[str], tiny_tune: list[str], tmp_path: Path, bomb: Bomb
) -> None:
    """Whatever a fine-tuning keeps in the cache, a pickled array in its place is not opened."""
    from minilm_lab.commands.finetune import finetune

    words = [*tiny, *tiny_tune, "source=teacher", "scale.epochs=1"]
    finetune(plan_finetune(compose_command("finetune", words)))
    kinds = (".npy", ".npz", ".pt", ".bin", ".pkl", ".ckpt")
    for file in (tmp_path / "cache").rglob("*"):
        if file.is_file() and file.suffix in kinds:
            file.chmod(0o644)
            np.save(file.with_suffix(".npy.tmp.npy"), np.array([bomb], dtype=object), allow_pickle=True)
            file.with_suffix(".npy.tmp.npy").replace(file)
    finetune(plan_finetune(compose_command("finetune", [*words, "tune.seed=1"])))
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
        distill(plan(compose_command("distill", [*tiny, f"teacher.path={folder}", "scale.steps=1"])))
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
    distill(plan(values))
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


def test_the_key_of_wandb_is_nowhere(lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path) -> None:
    """A distillation and a fine-tuning with W&B offline, one that fails, and everything that they wrote."""
    words = [w for w in tiny if not w.startswith("logger")] + [
        "logger=wandb",
        "scale.steps=2",
        "scale.epochs=1",
    ]
    env: dict[str, str | None] = {
        "WANDB_API_KEY": KEY,
        "WANDB_MODE": "offline",
        "HF_TOKEN": "hf_" + KEY,
        "HOME": str(tmp_path / "home"),
    }
    (tmp_path / "home").mkdir()
    runs = [
        lab.run("finetune", *words, *tiny_tune, env=env, cwd=tmp_path),
        lab.run("distill", *words, "seed=1", "optim.lr=1e30", "optim.clip=0", "optim.warmup=0", "scale.steps=16", env=env, cwd=tmp_path),
        lab.run("runs", f"paths.runs={tmp_path}/runs", "json=true", env=env, cwd=tmp_path),
    ]  # fmt: skip
    assert [done.code for done in runs] == [0, 1, 0], runs[0].err + runs[1].err
    assert not [done for done in runs if KEY in done.out + done.err]
    looked = 0
    for file in tmp_path.rglob("*"):
        if file.is_file():
            looked += 1
            assert KEY.encode() not in file.read_bytes(), file
    assert looked > 30 and list(tmp_path.glob("runs/*/*/wandb")), "W&B has written, too"


def test_a_secret_does_not_get_into_a_config(
    lab: Lab, tiny: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for word in ("experiment_name=${oc.env:WANDB_API_KEY}", "teacher.name='x-${oc.env:HF_TOKEN,none}'"):
        done = lab.run("distill", *tiny, word, env={"WANDB_API_KEY": KEY, "HF_TOKEN": KEY})
        assert done.code == 1 and "secret" in done.err and KEY not in done.err + done.out, done.err
    # Whatever way it came: as the value itself.
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(LabError, match="experiment_name holds the value of WANDB_API_KEY") as error:
        plan(compose_command("distill", [*tiny, f"experiment_name=x{KEY}"]))
    assert KEY not in str(error.value)
    # What is no secret is read as ever.
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    ready = plan(
        compose_command(
            "distill", [*tiny, "paths.runs=${oc.env:SCRATCH}/runs", "paths.cache=${oc.env:NONE,.cache}"]
        )
    )
    assert ready.folder.runs == tmp_path / "scratch" / "runs"


def test_which_variables_are_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "WANDB_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "MY_PASSWORD",
        "DB_PASS",
        "token",
        "APIKEY",
    ):
        assert SECRET.search(name), name
    for name in ("HOME", "SCRATCH", "TOKENIZERS_PARALLELISM", "KEYBOARD", "PATH", "SLURM_JOB_ID", "COMPASS"):
        assert not SECRET.search(name), name
    monkeypatch.setenv("SHORT_KEY", "1")
    assert "SHORT_KEY" not in secrets()


# Dependencies.


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wrong = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)]
    assert not wrong, f"not pinned exactly: {wrong}"
    return {_canonical(name): version for name, version in (line.split("==") for line in pins)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_exactly_and_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    told = [*project["dependencies"], *(one for words in extras.values() for one in words)]
    pins = _pins()
    for requirement in map(Requirement, told):
        name = _canonical(requirement.name)
        if name == _canonical(project["name"]):
            continue
        assert requirement.specifier, f"{requirement} has no range"
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{name}=={pins[name]}"
    assert len(project["dependencies"]) <= 25, "dependencies are few"


def test_what_is_installed_is_what_is_pinned() -> None:
    """And nothing else that the lab's requirements bring; `pip check` finds them consistent."""
    from importlib import metadata

    pins = _pins()
    wrong = {}
    for name, version in pins.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if there.split("+")[0] != version.split("+")[0]:
            wrong[name] = (version, there)
    assert not wrong, f"pinned, installed: {wrong}"
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_weights_that_are_saved_are_safetensors(tiny: list[str]) -> None:
    ready = plan(compose_command("distill", [*tiny, "scale.steps=1"]))
    distill(ready)
    files = sorted(path.name for path in (ready.folder.path / "student").iterdir())
    assert "model.safetensors" in files and not [f for f in files if f.endswith((".bin", ".pt", ".pkl"))]
    assert load_file(ready.folder.path / "student" / "model.safetensors")
