"""A recorded run, done again: the same to the bit; what differs is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from minilm_lab.commands import rerun
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan as plan_distill
from minilm_lab.commands.finetune import plan as plan_finetune
from minilm_lab.commands.finetune import plan_seeds
from minilm_lab.commands.pretrain import plan as plan_pretrain
from minilm_lab.errors import LabError
from minilm_lab.runs import environment
from minilm_lab.runs.differences import ABSENT, differing, told
from minilm_lab.runs.repeating import compare


def test_a_distillation_is_repeated_to_the_bit_by_the_command(
    lab: Lab, tiny: list[str], tmp_path: Path
) -> None:
    made = lab.run("distill", *tiny, "student.dropout=0.1")
    assert made.code == 0, made.err
    (run,) = (tmp_path / "runs" / "distill").iterdir()
    identity = run.name.rpartition("-")[2]
    done = lab.run("rerun", f"run={identity}", f"paths.runs={tmp_path / 'runs'}")
    assert done.code == 0, done.err
    assert "the same bit for bit: " in done.out
    (repeated,) = (tmp_path / "runs" / "rerun" / "1" / "distill").iterdir()
    assert repeated.name == run.name
    # Compared here by other means than the command's.
    ours, theirs = (folder / "student" / "model.safetensors" for folder in (run, repeated))
    assert ours.read_bytes() == theirs.read_bytes()
    kept = json.loads((repeated / "comparison.json").read_text())
    assert kept["same"] and kept["compared"]["lines"] == len((run / "metrics.jsonl").read_text().splitlines())
    assert kept["compared"]["tensors"] == len(load_file(ours))

    # A number that was changed in the record is found, in the weights and in the metrics; a second rerun has its own folder.
    weights = load_file(ours)
    name = sorted(weights)[3]
    weights[name].view(-1)[0] += 1
    save_file(weights, ours)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    number = [n for n, line in enumerate(lines) if "loss" in line][4]
    lines[number]["loss"] *= 1.5
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = lab.run("rerun", f"run={run}", f"paths.runs={tmp_path / 'runs'}")
    assert again.code == 3, again.err
    assert (
        f"not the same: metrics.jsonl, line {number + 1} (step 5)" in again.out
        and f"tensor {name} differs by up to 1" in again.out
    )
    # Somebody may be at work on this checkout meanwhile.
    assert "  versions" not in again.out and "  hardware" not in again.out
    assert (tmp_path / "runs" / "rerun" / "2" / "distill").is_dir()


def test_a_finetuning_is_repeated_from_the_same_student(
    tiny: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    ready = plan_finetune(
        compose_command("finetune", [*tiny, *tiny_tune, "tune.seed=3", "tune.save_model=true"])
    )
    ready.make()
    assert ready.input("distill") is not None
    card = (ready.input("distill").folder.path / "student" / "README.md").read_text()
    folder, comparison = rerun.again(ready.folder.path, tmp_path / "again")
    assert comparison.same and comparison.lines and comparison.tensors, comparison.text()
    assert comparison.files == 2, "predictions.jsonl and model.safetensors"
    assert comparison.where().keys() <= {"commit", "changes"}, comparison.where()
    student = tmp_path / "again" / "distill" / ready.input("distill").folder.path.name
    assert student.is_symlink(), "the student is not distilled again"
    assert (ready.input("distill").folder.path / "student" / "README.md").read_text() == card

    # Without the first student it is made again, too: the whole chain repeats to the bit.
    shutil.rmtree(ready.input("distill").folder.path)
    _, whole = rerun.again(ready.folder.path, tmp_path / "whole")
    assert whole.same, whole.text()
    assert not (tmp_path / "whole" / "distill" / student.name).is_symlink()
    assert folder.identity == ready.folder.identity


def test_a_seed_of_a_table_is_repeated_with_its_own_seed(
    tiny: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    """A table plans several seeds from one config, in which tune.seed is that of the first."""
    cfg = compose_command("finetune", [*tiny, *tiny_tune, "source=teacher", "scale.epochs=1"])
    _, second = plan_seeds(cfg, [0, 1])
    second.make()
    _, comparison = rerun.again(second.folder.path, tmp_path / "again")
    assert comparison.same, comparison.text()


def test_a_head_and_an_assistant_are_repeated(tiny: list[str], tmp_path: Path) -> None:
    words = [word for word in tiny if not word.startswith(("student", "objective", "optim"))]
    head = plan_pretrain(compose_command("pretrain", [*words, "head.steps=4"]))
    head.make()
    _, comparison = rerun.again(head.folder.path, tmp_path / "again")
    assert comparison.same and comparison.tensors, comparison.text()

    # The assistant's own run was planned from the config of its student: 4 layers -> 3 -> half of 4.
    chain = ["assistant=l12_h384", "assistant.chain=[{layers: 3, hidden_size: 48}]", "scale.steps=4"]
    ready = plan_distill(compose_command("distill", [*tiny, *chain]))
    ready.make()
    assert ready.input("distill") is not None
    for plan, links in ((ready, 1), (ready.input("distill"), 0)):
        folder, comparison = rerun.again(plan.folder.path, tmp_path / f"links{links}")
        assert comparison.same and comparison.tensors, comparison.text()
        assert folder.identity == plan.folder.identity
        assert sum(path.is_symlink() for path in folder.path.parent.iterdir()) == links


def test_the_work_that_changed_is_not_done_again(tiny: list[str], tiny_corpus: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    shutil.copy(tiny_corpus, text)
    ready = plan_distill(compose_command("distill", [*tiny, f"corpus.path={text}", "scale.steps=2"]))
    ready.make()
    text.write_text(text.read_text() + "one more line of text.\n")
    with pytest.raises(
        LabError, match=r"no longer the same \(corpus.fingerprint: '[0-9a-f]+' -> '[0-9a-f]+'\)"
    ):
        rerun.again(ready.folder.path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_is_no_run(tiny: list[str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(LabError, match="neither a run's folder nor its identity"):
        rerun.find("nowhere", runs)
    with pytest.raises(LabError, match="no run of this identity"):
        rerun.find("0123456789", runs)
    ready = plan_distill(compose_command("distill", tiny))
    ready.folder.status("FAILED", "x")
    with pytest.raises(LabError, match="not completed"):
        rerun.find(ready.folder.identity, runs)
    (ready.folder.path / "result.json").write_text("{}")
    (ready.folder.path / "config.yaml").write_text("what: {a: 1}\nhow: {impl: {}}\n")
    with pytest.raises(LabError, match="did not record its composed config"):
        rerun.again(rerun.find(str(ready.folder.path), runs), tmp_path / "again")


def test_a_difference_of_each_kind_is_named(tmp_path: Path) -> None:
    def folder(name: str, **record: Any) -> Path:
        path = tmp_path / name
        (path / "student").mkdir(parents=True)
        save_file({"a": torch.zeros(3), "b": torch.ones(2)}, path / "student" / "model.safetensors")
        (path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "time": 1.0}\n')
        usual = {"scores": {"f1": 50.0}, "versions": {"torch": "1"}, "hardware": {"cpu": "x"}, "commit": "c"}
        (path / "result.json").write_text(json.dumps({**usual, **record}))
        OmegaConf.save({"what": {}, "how": {"impl": {"threads": 1}}}, path / "config.yaml")
        return path

    first = folder("first")
    assert compare(first, folder("same", wall_clock_s=3)).same
    other = folder("other", scores={"f1": 51.0}, versions={"torch": "2"}, hardware={"cpu": "y"}, commit="d")
    save_file({"a": torch.zeros(3), "b": torch.tensor([1.0, 1.5])}, other / "student" / "model.safetensors")
    (other / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "time": 9.0}\n{"step": 2}\n')
    OmegaConf.save({"what": {}, "how": {"impl": {"threads": 2}}}, other / "config.yaml")
    found = compare(first, other)
    assert found.lines == 1
    assert found.differences == [
        "metrics.jsonl has more lines in the second run: line 2",
        "student/model.safetensors: tensor b differs by up to 0.5",
        "the record: scores.f1: 50.0 -> 51.0",
    ]
    assert found.where() == {
        "commit": ("c", "d"),
        "hardware.cpu": ("x", "y"),
        "versions.torch": ("1", "2"),
        "impl.threads": (1, 2),
    }
    assert all(key in found.text() for key in found.where())


def test_differences() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": float("nan"), "e": {}}
    after = {"a": {"b": 1.0, "c": [1, 3, 4]}, "d": float("nan"), "e": {"f": True}}
    found = differing(before, after)
    assert found == {"a.c.1": (2, 3), "a.c.2": (ABSENT, 4), "e": ({}, ABSENT), "e.f": (ABSENT, True)}
    assert told(found, 1) == "a.c.1: 2 -> 3; and 3 more"
    assert differing({"a": 1}, {"a": True}) == {"a": (1, True)}
    assert differing({}, {}) == {}


def test_uncommitted_changes_can_be_applied_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch of a changed, a deleted and a new file makes of the commit what was there."""
    import subprocess

    root = tmp_path / "checkout"
    (root / "minilm_lab" / "runs").mkdir(parents=True)
    (root / "conf").mkdir()

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)

    (root / "minilm_lab" / "a.py").write_text("1\n")
    (root / "minilm_lab" / "gone.py").write_text("2\n")
    (root / "notes.md").write_text("not code\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    monkeypatch.setattr(environment, "__file__", str(root / "minilm_lab" / "runs" / "environment.py"))
    clean = environment.describe(tmp_path)
    assert clean["changes"] is None and not (tmp_path / "changes.patch").exists()
    (root / "minilm_lab" / "a.py").write_text("1\nmore\n")
    (root / "minilm_lab" / "gone.py").unlink()
    (root / "conf" / "new é.yaml").write_text("k: v\n")
    (root / "notes.md").write_text("changed\n")
    dirty = environment.describe(tmp_path)
    assert dirty["commit"] == clean["commit"] + "+changes" and dirty["changes"]
    patch = (tmp_path / "changes.patch").read_bytes()
    assert b"notes.md" not in patch
    git("checkout", "-q", "--", ".")
    (root / "conf" / "new é.yaml").unlink()
    git("apply", str(tmp_path / "changes.patch"))
    assert (root / "minilm_lab" / "a.py").read_text() == "1\nmore\n"
    assert not (root / "minilm_lab" / "gone.py").exists()
    assert (root / "conf" / "new é.yaml").read_text() == "k: v\n"
    assert environment.describe()["changes"] == dirty["changes"]
    monkeypatch.setattr(environment, "LARGEST_PATCH", 10)
    assert environment.describe(tmp_path)["changes"] == dirty["changes"]
    assert not (tmp_path / "changes.patch").exists()
