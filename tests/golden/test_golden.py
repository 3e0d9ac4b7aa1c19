"""Golden curves: the losses of 20 steps of every objective and of one fine-tuning a kind of task, as they were.

CPU, float32, one thread, by the commands themselves. Processors round differently: equal means 1e-4 relative. After a
change that is meant to change numbers, rewrite them (and say in the commit why):

    GOLDEN=write python -m pytest tests/golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lab import Lab

from .material import write

FILE = Path(__file__).with_name("curves.json")
REPOSITORY = Path(__file__).parents[2]
SHARED = [
    "impl.threads=1",
    "impl.precision=32",
    "impl.backend=reference",
    "trainer.accelerator=cpu",
    "trainer.log_every=1",
    "trainer.held_out_every=20",
    "logger=none",
]
DISTILL = ["student=half_depth", "scale.steps=20", "optim.lr=1e-3", "optim.warmup=0.1"]
FINETUNE = ["source=teacher", "tune.batch_size=16", "tune.lr=1e-3", "scale.epochs=4", "task.length=48"]
COPIED = ["student.init.layers=uniform", "student.init.embeddings=teacher", "student.ffn_size=96"]
#: Name -> (teacher, the command's words).
RUNS: dict[str, tuple[str, list[str]]] = {
    "minilm": ("bert", ["distill", "objective=minilm"]),
    "minilmv2": ("bert", ["distill", "objective=minilmv2", "objective.heads=12"]),
    "layer_to_layer": ("bert", ["distill", "objective=layer_to_layer"]),
    "hidden_relation": ("bert", ["distill", "objective=hidden_relation"]),
    "value_mse": ("bert", ["distill", "objective=value_mse"]),
    "tinybert": ("bert", ["distill", "objective=tinybert"]),
    "embedding": ("bert", ["distill", "objective=embedding", "student=half_depth_half_width"]),
    "mlm": ("bert", ["distill", "objective=mlm"]),
    "mlm_kd": ("bert", ["distill", "objective=mlm_kd"]),
    "distilbert": (
        "bert",
        ["distill", "objective=distilbert", "student.init.layers=uniform", "student.ffn_size=96"],
    ),
    "sum": (
        "bert",
        [
            "distill",
            "objective=[minilmv2,mlm_kd]",
            "objective.weights={mlm_kd: 0.5}",
            "objective.terms.minilmv2.heads=12",
        ],
    ),
    "lifts": ("bert", ["distill", "objective=[tinybert,value_mse]", "student=half_depth_half_width"]),
    "causal": ("llama", ["distill", "objective=minilm"]),
    "grouped": (
        "llama",
        [
            "distill",
            "objective=minilmv2",
            "objective.heads=6",
            "teacher.grouped=group",
            "teacher.rotary=after",
        ],
    ),
    "lm": ("llama_lm", ["distill", "objective=lm"]),
    "lm_kd": ("llama_lm", ["distill", "objective=lm_kd", "objective.hard_weight=0.5", *COPIED]),
    "lm_jsd": (
        "llama_lm",
        ["distill", "objective=lm_kd", "objective.divergence=jsd", "student.keys=own", *COPIED],
    ),
    "lm_sum": (
        "llama_lm",
        [
            "distill",
            "objective=[minilmv2,lm_kd]",
            "objective.terms.minilmv2.heads=12",
            "student.keys=teacher_frozen",
        ],
    ),
    "head": ("bert", ["pretrain", "head.steps=20", "head.lr=1e-2"]),
    "classification": ("bert", ["finetune", "task=classification", "task.path=class"]),
    "regression": ("bert", ["finetune", "task=regression", "task.path=value", "task.label=score"]),
    "pair": ("bert", ["finetune", "task=classification", "task.path=pair", "task.text=[first,second]"]),
    "token_classification": ("bert", ["finetune", "task=token_classification", "task.path=tags"]),
    "span": ("bert", ["finetune", "task=span_qa", "task.path=span", "task.stride=16", "task.max_question=8"]),
    "generation": ("bert", ["finetune", "task=generation", "task.path=target", "task.target_length=12"]),
    "instructions": (
        "llama_end",
        ["finetune", "task=instructions", "task.path=instruct", "task.target_length=12"],
    ),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write(folder)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_as_they_were(name: str, material: Path, lab: Lab) -> None:
    teacher, words = RUNS[name]
    command = words[0]
    runs = material / "runs" / name
    common = [*SHARED, f"paths.runs={runs}", f"paths.cache={material / 'cache'}"]
    common += ["teacher=path", f"teacher.path={material / teacher}"]
    if command == "finetune":
        common += FINETUNE
    else:
        common += [
            "corpus=path",
            f"corpus.path={material / 'text.txt'}",
            "scale.batch_size=8",
            "scale.length=16",
        ]
        common += DISTILL if command == "distill" else []
    done = lab.run(*words[:2], *common, *words[2:], cwd=material)
    assert done.code == 0, done.err
    (metrics,) = (runs / command).glob("*/metrics.jsonl")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    losses = [float(f"{line['loss']:.7g}") for line in lines if "loss" in line]
    assert len(losses) == 20
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    if os.environ.get("GOLDEN") == "write":
        golden = {key: value for key, value in (golden | {name: losses}).items() if key in RUNS}
        entries = (f'"{key}": {json.dumps(value)}' for key, value in sorted(golden.items()))
        FILE.write_text("{\n" + ",\n".join(entries) + "\n}\n")
    assert losses == pytest.approx(golden[name], rel=1e-4)


def test_no_objective_is_without_a_curve() -> None:
    files = {file.stem for file in (REPOSITORY / "conf" / "objective").glob("*.yaml")}
    assert files - {"none"} <= set(RUNS), "`none` does not train; give a new objective a run here"
    assert set(json.loads(FILE.read_text())) == set(RUNS)
