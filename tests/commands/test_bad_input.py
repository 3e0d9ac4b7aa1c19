"""What a user gets wrong stops within seconds, in one message that says what would be right."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from lab import Finished, Lab
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

DISTILL: dict[str, tuple[list[str], list[str]]] = {
    "unknown option": (["objective=minilmv3"], ["objective=minilmv3", "Did you mean 'minilmv2'?", "none"]),
    "unknown experiment": (["experiment=demos"], ["experiment=demos", "Did you mean 'demo'?"]),
    "misspelt key": (["optim.lrr=1"], ["optim.lrr", "Did you mean 'lr'?", "weight_decay"]),
    "added key": (["+optim.lrr=1"], ["optim.lrr", "Did you mean 'lr'?", "weight_decay"]),
    "misspelt nested key": (["student.init.layer=first"], ["student.init.layer", "'layers'"]),
    "misspelt group": (["teachr=path"], ["teachr", "Did you mean 'teacher'?"]),
    "misspelt key at the top": (["sed=1"], ["sed", "Did you mean 'seed'?"]),
    "not an override": (["distil", "foo bar"], ["distil", "group=option"]),
    "broken override": (["optim.lr=[1"], ["optim.lr=[1", "cannot be parsed"]),
    "wrong type": (["optim.lr=abc"], ["optim.lr", "abc", "Float"]),
    "wrong type of a list": (["optim.betas=0.9"], ["optim.betas", "0.9"]),
    "impossible value": (["optim.lr=-1"], ["optim.lr=-1.0", "more than 0"]),
    "missing value": (["teacher.path=???"], ["teacher.path", "must be given"]),
    "teacher layer": (["teacher.layer=99"], ["teacher.layer=99", "1..4"]),
    "relation heads": (
        ["objective.heads=7"],
        ["objective.heads=7", "48", "1, 2, 3, 4, 6, 8, 12, 16, 24, 48"],
    ),
    "heads of MiniLM": (["objective=minilm", "objective.heads=null", "student.heads=3"], ["student.heads=4"]),
    "student heads": (["student.heads=5"], ["student.heads=5", "48", "1, 2, 3, 4, 6, 8"]),
    "too many copied": (
        ["student=l6_h384", "student.hidden_size=48", "student.init.layers=first"],
        ["4 layers"],
    ),
    "copied width": (
        ["student=half_depth_half_width", "student.init.embeddings=teacher"],
        ["hidden size 48"],
    ),
    "no folder": (["teacher.path=nowhere"], ["nowhere is not a folder"]),
    "no hub": (
        ["teacher=bert_base", "objective.heads=48"],
        ["google-bert/bert-base-uncased", "teacher=path teacher.path=", "all_minilm_l6"],
    ),
    "no corpus": (["corpus.path=nowhere.txt"], ["corpus.path=nowhere.txt", "does not exist"]),
    "too long": (["scale.length=4096"], ["scale.length=4096", "64 positions"]),
    "too short": (["scale.length=2"], ["scale.length=2", "at least 8"]),
    "batch and accumulation": (
        ["trainer.accumulate=3"],
        ["scale.batch_size=8", "trainer.accumulate=3", "multiple of 3"],
    ),
    "too little text": (["scale.batch_size=1000"], ["training blocks", "1,000", "scale.batch_size"]),
    "negative seed": (["seed=-1"], ["seed=-1", "0 or more"]),
    "fractional seed": (["seed=1.5"], ["seed=1.5"]),
    "triton on a CPU": (["impl.backend=triton"], ["impl.backend=triton", "CPU", "blockwise or reference"]),
    "unknown backend": (["impl.backend=cuda"], ["impl.backend=cuda", "blockwise"]),
    "float16 on a CPU": (["impl.precision=16"], ["impl.precision=16", "bf16"]),
    "no GPU": (["trainer.accelerator=gpu"], ["trainer.accelerator=gpu", "no GPU"]),
    "unknown accelerator": (["trainer.accelerator=tpu"], ["trainer.accelerator=tpu", "auto, cpu, gpu"]),
    "unknown strategy": (["trainer.strategy=dpp"], ["trainer.strategy=dpp", "Did you mean 'ddp'?"]),
    "hub folder": (["paths.hub=nowhere"], ["paths.hub=nowhere", "not a folder"]),
    "foreign class": (["optim._target_=os.system"], ["os.system", "not part of the lab"]),
    "loss not finite": (
        ["optim.lr=1e30", "optim.clip=0", "optim.warmup=0"],
        ["not finite at step", "optim.lr"],
    ),
}

FINETUNE: dict[str, tuple[list[str], list[str]]] = {
    "unknown task": (["task=sst3"], ["task=sst3", "Did you mean 'sst2'?", "mrpc"]),
    "missing label column": (
        ["task.label=labels"],
        ["'labels'", "text, label, score", "Did you mean 'label'?"],
    ),
    "missing text column": (["task.text=[sentence]"], ["'sentence'", "text, label, score"]),
    "missing split": (["task.dev_split=dev"], ["dev", "train, validation"]),
    "no task folder": (["task.path=./nowhere"], ["task.path=./nowhere", "no such folder"]),
    "no hub": (["task=sst2"], ["nyu-mll/glue", "paths.hub"]),
    "task length": (["task.length=500"], ["task.length=500", "64 positions"]),
    "unknown metric": (["task.metrics=[acuracy]"], ["acuracy", "Did you mean 'accuracy'?"]),
    "no source": (["source=./nowhere"], ["nowhere is not a folder"]),
    "source on the hub": (["source=someone/something"], ["someone/something", "hub"]),
    "selection": (["tune.select=first"], ["tune.select=first", "last, best"]),
    "negative seed": (["tune.seed=-1"], ["tune.seed=-1"]),
    "batch and accumulation": (
        ["source=teacher", "trainer.accumulate=3"],
        ["tune.batch_size=8", "multiple of 3"],
    ),
    "labels of a regression": (
        ["task=regression", "task.label=label"],
        ["task.label=label", "finite number"],
    ),
}


def refused(finished: Finished, words: list[str]) -> None:
    assert finished.code == 1, f"{finished.code}\n{finished.out}\n{finished.err}"
    assert "Traceback" not in finished.err + finished.out, finished.err
    message = finished.err[finished.err.rindex("minilm-lab: ") :]
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


@pytest.mark.parametrize("case", DISTILL)
def test_distill_refuses(lab: Lab, tiny: list[str], tmp_path: Path, case: str) -> None:
    overrides, words = DISTILL[case]
    drop = "teacher" if case == "no hub" else "objective." if case.endswith("MiniLM") else "-"
    kept = [word for word in tiny if not word.startswith(drop)]
    began = time.monotonic()
    refused(lab.run("distill", *kept, *overrides), words)
    assert time.monotonic() - began < 30
    trained = list((tmp_path / "runs").glob("*/*/metrics.jsonl"))
    assert not trained or case in ("loss not finite",), "it was found only after training began"


@pytest.mark.parametrize("case", FINETUNE)
def test_finetune_refuses(lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path, case: str) -> None:
    overrides, words = FINETUNE[case]
    kept = tiny_tune[2:] if case == "no hub" else tiny_tune
    if "task=regression" in overrides:
        kept = [word for word in kept if word != "task=classification"]
    refused(lab.run("finetune", *tiny, *kept, *overrides), words)
    assert not list((tmp_path / "runs").glob("*/*/metrics.jsonl")), "it was found only after training began"


@pytest.mark.parametrize(
    ("file", "missing"),
    [("model.safetensors", "weights"), ("tokenizer.json", "tokenizer"), ("config.json", "config")],
)
def test_a_teacher_folder_lacks_something(
    lab: Lab, tiny: list[str], tiny_teacher: Path, tmp_path: Path, file: str, missing: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_teacher, folder)
    (folder / file).unlink()
    refused(lab.run("distill", *tiny, f"teacher.path={folder}"), [str(folder), missing, "save_pretrained"])


def test_a_teacher_folder_with_half_its_weights(
    lab: Lab, tiny: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_teacher, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(lab.run("distill", *tiny, f"teacher.path={folder}"), [str(folder)])


def test_a_source_with_half_its_weights(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_teacher, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(lab.run("finetune", *tiny, *tiny_tune, f"source={folder}"), [str(folder), "cannot be read"])


def test_a_source_that_has_another_head(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    """A classifier of five classes gets a new head, and that is said."""
    folder = tmp_path / "five"
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, num_labels=5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(folder)
    done = lab.run("finetune", *tiny, *tiny_tune, f"source={folder}")
    assert done.code == 0, done.err
    assert f"the head of {folder} has other sizes (classifier.bias: (5,) for (2,)" in done.err


def test_a_teacher_of_an_unknown_family(
    lab: Lab, tiny: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_teacher, folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    refused(lab.run("distill", *tiny, f"teacher.path={folder}"), ["'t5'", "Supported: bert"])


def test_a_teacher_with_an_impossible_config(
    lab: Lab, tiny: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_teacher, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))
    refused(lab.run("distill", *tiny, f"teacher.path={folder}"), [str(folder), "hidden_size"])


def test_a_tokenizer_of_another_model(lab: Lab, tiny: list[str], tiny_teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    shutil.copytree(tiny_teacher, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))
    weights = load_file(folder / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    save_file({**weights, name: weights[name][:20].clone()}, folder / "model.safetensors")
    refused(lab.run("distill", *tiny, f"teacher.path={folder}"), ["tokens", "do not belong together"])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", ["empty"]), (b"\n \n", ["empty"]), (bytes(range(256)) * 20, ["UTF-8"])],
    ids=["empty", "blank", "binary"],
)
def test_a_corpus_that_is_no_text(
    lab: Lab, tiny: list[str], tmp_path: Path, content: bytes, words: list[str]
) -> None:
    file = tmp_path / "corpus.txt"
    file.write_bytes(content)
    refused(lab.run("distill", *tiny, f"corpus.path={file}"), ["corpus.txt", *words])


def test_runs_that_cannot_be_written(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(lab.run("distill", *tiny, f"paths.runs={tmp_path / 'file' / 'runs'}"), ["paths.runs=", "file"])


def test_an_unknown_command(lab: Lab) -> None:
    refused(lab.run("distil"), ["'distil' is not a command", "Did you mean 'distill'?", "finetune"])


def test_a_table_that_is_not_there(lab: Lab) -> None:
    refused(lab.run("table", "name=dem"), ["name=dem", "Did you mean 'demo'?"])
    refused(lab.run("table"), ["name must be given", "demo"])
