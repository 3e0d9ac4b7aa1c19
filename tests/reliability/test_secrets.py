"""No key is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.secrecy import SECRET, SHORTEST, check_config, secrets

KEY = "5e471ne1" * 5  # as long as a real one


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


def test_a_secret_of_the_shortest_length_and_one_used_as_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "x" * SHORTEST)
    assert secrets()["MY_KEY"] == "x" * SHORTEST
    monkeypatch.setenv("MY_KEY", "x" * (SHORTEST - 1))
    assert "MY_KEY" not in secrets()
    monkeypatch.setenv("MY_KEY", KEY)
    for values in ({"a": {KEY: 1}}, {"a": [{"b": f"-{KEY}-"}]}, {f"x{KEY}": None}):
        with pytest.raises(LabError, match="MY_KEY"):
            check_config(values)
    check_config({"a": ["b", 1, None]})
