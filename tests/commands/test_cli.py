"""The console script: help, Hydra's own flags, completion, lists and multiruns."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab
from omegaconf import OmegaConf

from minilm_lab.commands.cli import COMMANDS
from minilm_lab.commands.composing import compose_command, conf_folder


def test_the_module_and_the_console_script_are_one_command() -> None:
    script = Path(sys.executable).with_name("minilm-lab")
    outputs = {
        subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for words in ([str(script), "--help"], [sys.executable, "-m", "minilm_lab"])
    }
    assert len(outputs) == 1
    (overview,) = outputs
    assert all(f"  {command}" in overview for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_groups_that_a_command_reads(lab: Lab, command: str) -> None:
    finished = lab.run(command, "--help")
    assert finished.code == 0, finished.err
    title, _, rest = finished.out.partition("Groups of this command")[2].partition("\n")
    assert "brackets" in title
    shown = dict(line.split(": ", 1) for line in rest.partition("\n\n")[0].splitlines())
    composed = compose_command(command, [])
    read = {folder.name for folder in conf_folder().iterdir() if folder.name in composed}
    assert set(shown) - {"experiment"} == read - {"experiment"}
    for group, line in shown.items():
        options = {file.stem for file in (conf_folder() / group).glob("[!_]*.yaml")}
        assert set(re.sub(r"[\[\]]", "", line).split(", ")) == options
        assert line.count("[") == (group != "experiment")
    assert "Multirun" in finished.out


def test_help_marks_what_was_chosen(lab: Lab) -> None:
    finished = lab.run("finetune", "task=sst2", "objective=[minilm,mlm]", "--help")
    assert finished.code == 0, finished.err
    assert "[sst2]" in finished.out and "[sum]" in finished.out and "_glue" not in finished.out


def test_the_composed_config(lab: Lab) -> None:
    finished = lab.run("distill", "--cfg", "job", "student=l4_h384", "optim.lr=1e-5")
    assert finished.code == 0, finished.err
    cfg = OmegaConf.create(finished.out)
    assert cfg.student.layers == 4 and cfg.optim.lr == 1e-5
    finished = lab.run("distill", "--info", "defaults")
    assert finished.code == 0, finished.err
    assert "objective/minilmv2" in finished.out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("minilm-lab dist", {"distill"}),
        ("minilm-lab ", set(COMMANDS)),
        ("minilm-lab distill teach", {"teacher=", "teacher."}),
        ("minilm-lab distill objective=mini", {"objective=minilm", "objective=minilmv2"}),
        ("minilm-lab distill optim.weight", {"optim.weight_decay="}),
    ],
)
def test_completion(lab: Lab, line: str, expected: set[str]) -> None:
    finished = lab.run("-sc", "query=bash", env={"COMP_LINE": line, "COMP_POINT": str(len(line))})
    assert finished.code == 0, finished.err
    assert expected <= set(finished.out.split())


def test_completion_can_be_installed(lab: Lab) -> None:
    finished = lab.run("distill", "-sc", "install=bash")
    assert finished.code == 0, finished.err
    assert "complete" in finished.out and "minilm-lab" in finished.out
    done = subprocess.run(["bash", "-n"], input=finished.out, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def results(runs: Path) -> dict[Path, int]:
    """When each completed run wrote its result."""
    found = {path: path.stat().st_mtime_ns for path in (runs / "distill").glob("*/result.json")}
    done = {path: json.loads(path.with_name("status.json").read_text())["state"] for path in found}
    return {path: time for path, time in found.items() if done[path] == "COMPLETED"}


def test_a_multirun_killed_and_started_again_redoes_nothing(
    lab: Lab, tiny: list[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = ["distill", "-m", *tiny, "scale.steps=40", "seed=0,1,2"]
    running = lab.start(*words)
    running.wait_until(lambda: len(results(runs)) == 1)
    running.signal(signal.SIGKILL)
    assert running.finish().code == -signal.SIGKILL
    before = results(runs)
    assert len(before) == 1

    finished = lab.run(*words)
    assert finished.code == 0, finished.err
    assert finished.out.count("(from its record)") == 1
    after = results(runs)
    assert len(after) == 3 and before.items() <= after.items()

    reordered = ["seed=2,1,0", *(word for word in reversed(tiny) if "steps" not in word), "scale.steps=40"]
    finished = lab.run("distill", "-m", *reordered)
    assert finished.code == 0, finished.err
    assert finished.out.count("(from its record)") == 3
    assert results(runs) == after


def test_what_is_wrong_is_one_line(lab: Lab, tiny: list[str]) -> None:
    finished = lab.run("distill", *tiny, "teacher.layer=99")
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert line.startswith("minilm-lab: teacher.layer=99 is outside 1..4")


def test_a_multirun_ends_with_its_table(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    words = [word for word in [*tiny, *tiny_tune] if not word.startswith("tune.lr")]
    words += ["source=teacher", "scale.epochs=1", "tune.lr=1e-3,2e-3", "tune.seed=0,1"]
    finished = lab.run("finetune", "-m", *words)
    assert finished.code == 0, finished.err
    assert "job 3 of 4: tune.lr=0.002 tune.seed=0" in finished.err
    table = finished.out[finished.out.index("score (mean ± sd over seeds; * = best of 2)") :]
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("finetune/*/result.json")]
    for lr in ("0.001", "0.002"):
        scores = [r["score"]["value"] for r in records if r["config"]["tune"]["lr"] == float(lr)]
        (line,) = (line for line in table.splitlines() if line.split()[:1] == [lr])
        assert len(scores) == 2 and line.split()[1] == f"{sum(scores) / 2:.4g}"
    again = table.splitlines()[-1].split()[-1]
    shown = lab.run("runs", again, f"paths.runs={tmp_path / 'runs'}")
    assert shown.code == 0 and shown.out.strip() == table.rpartition("\nagain: ")[0].strip()
    assert "no such multirun" in lab.run("runs", "multirun=abc", f"paths.runs={tmp_path / 'runs'}").err


def test_a_job_of_a_multirun_that_fails_ends_it_with_exit_code_1(lab: Lab, tiny: list[str]) -> None:
    finished = lab.run("distill", "-m", *tiny, "teacher.layer=99,4")
    assert finished.code == 1
    assert "teacher.layer=99 is outside 1..4" in finished.err and "Traceback" not in finished.err
    assert "held-out loss" in finished.out, "the other job was not done"


def break_disk(number: int) -> None:
    """The system refuses a file while the command works."""
    from minilm_lab.commands import distill

    def broken(_: object) -> None:
        raise OSError(number, os.strerror(number), "/data/x")

    distill.run = broken


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, ["Read-only file system: /data/x could not be written", "paths.cache elsewhere"]),
        (errno.EIO, ["Input/output error: /data/x failed", "Look at the disk"]),
        (errno.EACCES, ["Permission denied: /data/x failed", "ls -l"]),
        (errno.EMFILE, ["Too many open files", "ulimit -n"]),
    ],
)
def test_what_the_system_refuses_is_said(lab: Lab, tiny: list[str], number: int, words: list[str]) -> None:
    finished = lab.run("distill", *tiny, before=functools.partial(break_disk, number))
    assert finished.code == 1 and "Traceback" not in finished.err
    assert all(word in finished.err for word in [*words, "start the same command again"])


def test_the_list_of_runs(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    runs = f"paths.runs={tmp_path / 'runs'}"
    empty = lab.run("runs", runs)
    assert empty.code == 0 and "no runs in" in empty.out
    assert lab.run("distill", *tiny).code == 0
    assert lab.run("distill", *tiny, "optim.lr=1e30", "optim.clip=0", "optim.warmup=0").code == 1
    shown = lab.run("runs", runs)
    assert shown.code == 0, shown.err
    assert "COMPLETED" in shown.out and "FAILED" in shown.out
    listed = json.loads(lab.run("runs", runs, "json=true", "state=COMPLETED").out)
    assert len(listed) == 1
    assert listed[0]["command"] == "distill" and listed[0]["state"] == "COMPLETED"
    assert lab.run("runs", runs, "stat=COMPLETED").code == 1


def test_a_reader_that_has_gone_is_no_error() -> None:
    """`minilm-lab | head -1`: the pipe is closed before all is written."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-u", "-m", "minilm_lab", "--help"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
