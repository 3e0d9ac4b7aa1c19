"""Timing a forward: the paper's parameter counts, paired turns, backends that agree, real texts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tasks.helpers import pairs_of
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig

from minilm_lab import hub_access
from minilm_lab.benchmarks import backends, forward, real_texts
from minilm_lab.benchmarks.forward import Timing
from minilm_lab.benchmarks.subjects import Subject, shape_of
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import facts_of
from minilm_lab.exporting.forwards import in_turns
from minilm_lab.exporting.graph import input_names
from minilm_lab.models.student import Student
from minilm_lab.tasks.hub import HubTask

#: MiniLM (arXiv 2002.10957), table 4, as printed.
PAPER = {
    "12x768": ("23.4", "85.1"),
    "6x768": ("23.4", "42.5"),
    "12x384": ("11.7", "21.3"),
    "6x384": ("11.7", "10.6"),
    "4x384": ("11.7", "7.1"),
    "3x384": ("11.7", "5.3"),
}


@pytest.mark.parametrize("shape", PAPER)
def test_parameters_are_the_papers_to_the_printed_digit(shape: str) -> None:
    """Embeddings are the 30,522 rows of the matrix of words; with positions and types it would be 23.8 and 11.9."""
    layers, hidden = shape_of(shape) or (0, 0)
    config = Student(name=shape, layers=layers, hidden_size=hidden).config(BertConfig())
    counts = facts_of(config)["parameters"]
    assert counts["word_embeddings"] == 30522 * hidden
    assert (f"{counts['word_embeddings'] / 1e6:.1f}", f"{counts['transformer'] / 1e6:.1f}") == PAPER[shape]
    # By hand: Q, K, V, O and two feed-forward maps with biases, two LayerNorms.
    assert counts["transformer"] == layers * (12 * hidden**2 + 13 * hidden)
    assert f"{counts['embeddings'] / 1e6:.1f}" == {768: "23.8", 384: "11.9"}[hidden]


def test_the_configs_have_the_papers_numbers() -> None:
    cfg = compose_command("speed", [])
    assert list(cfg.timing.models) == list(PAPER) == list(cfg.timing.paper)
    for shape, (embeddings, transformer) in PAPER.items():
        assert (str(cfg.timing.paper[shape].embeddings), str(cfg.timing.paper[shape].transformer)) == (
            embeddings,
            transformer,
        )
    seconds = [93.1, 46.9, 34.8, 17.7, 12.0, 9.2]
    for shape, taken in zip(PAPER, seconds, strict=True):
        # Printed from unrounded seconds: a digit may be off by one.
        assert cfg.timing.paper[shape].speedup == pytest.approx(93.1 / taken, abs=0.06)
    for name in ("laptop", "paper", "smoke"):
        assert Timing(
            **{
                k: v
                for k, v in compose_command("speed", [f"timing={name}"]).timing.items()
                if k != "_target_"
            }
        )


def test_turns_are_paired_and_who_is_first_alternates() -> None:
    calls: list[tuple[str, int]] = []

    def work(key: str) -> Callable[[int], object]:
        return lambda turn: calls.append((key, turn))

    seconds = in_turns({key: work(key) for key in "abc"}, 3, warm_up=2)
    assert [key for key, _ in calls] == list("abccbaabccbaabc")
    assert [turn for _, turn in calls] == [n for n in range(5) for _ in range(3)]
    assert {key: len(taken) for key, taken in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_seconds_are_those_of_each_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("minilm_lab.exporting.forwards.time.perf_counter", lambda: clock[0])

    def work(cost: float) -> Callable[[int], None]:
        def run(turn: int) -> None:
            clock[0] += cost + turn

        return run

    assert in_turns({"a": work(0.5), "b": work(10.0)}, 2, warm_up=1) == {"a": [1.5, 2.5], "b": [11.0, 12.0]}


TEXTS = [
    "the cat sat on the mat",
    "rain",
    "a dog ran in the green fields and two cats saw it",
    "cat",
    "dog on mat",
]


def timing(**fields: Any) -> Timing:
    return Timing(
        **{"name": "t", "models": ["a", "b"], "batches": 2, "batch_size": 2, "length": 16, **fields}
    )


def test_batches_are_the_texts_in_their_order_padded_to_the_longest_of_each(tiny_teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    plan = timing(batches=1)  # and two that warm up: 6 texts, one of the 5 twice
    texts = [*TEXTS, TEXTS[0]]
    batches = forward.batches_of(texts, tokenizer, ["input_ids", "attention_mask", "token_type_ids"], plan)
    assert len(batches) == 3
    for number, batch in enumerate(batches):
        pair = texts[2 * number : 2 * number + 2]
        expected = tokenizer(pair, truncation=True, max_length=16, padding="longest", return_tensors="np")
        assert sorted(batch) == ["attention_mask", "input_ids", "token_type_ids"]
        for name in batch:
            # The tiny tokenizer makes no token types, and the model takes them: all are 0.
            given = expected.get(name, np.zeros_like(expected["input_ids"]))
            assert batch[name].tolist() == given.tolist(), name


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["compile", "onnx", "onnx_int8"])
def test_every_backend_computes_what_eager_torch_does(
    tiny_teacher: Path, tmp_path: Path, backend: str
) -> None:
    if backend.startswith("onnx"):
        pytest.importorskip("onnxruntime")
    body = AutoModel.from_pretrained(tiny_teacher, dtype=torch.float32).eval()
    body.pooler = None
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    names = input_names(body, tokenizer)
    plan = timing(batches=1)
    batches = forward.batches_of([*TEXTS, TEXTS[0]], tokenizer, names, plan)
    made = dict(backends.make(body, names, ["torch", backend], [torch.device("cpu")], tmp_path))
    assert list(made) == ["torch_cpu", f"{backend}_cpu"]
    exact, other = (run() for run in made.values())
    for batch in batches:
        real = batch["attention_mask"] == 1
        expected, found = (np.asarray(run(batch))[real] for run in (exact, other))
        scale = np.abs(expected).max()
        difference = np.abs(found - expected).max() / scale
        assert difference < (0.2 if backend == "onnx_int8" else 1e-4)
        assert backend != "onnx_int8" or difference > 1e-5  # it is another file


def subjects(folder: Path, names: Sequence[str] = ("a", "b")) -> dict[str, Subject]:
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return {name: Subject({}, config, lambda: AutoModel.from_pretrained(folder), tokenizer) for name in names}


def test_ratios_are_of_the_same_batch(tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that becomes three times as slow half way changes seconds, not ratios."""
    taken = {("a", "torch_cpu"): [4.0, 12.0, 4.4], ("b", "torch_cpu"): [1.0, 3.0, 1.0]}
    monkeypatch.setattr(forward, "in_turns", lambda runs, *_, **__: {key: taken[key] for key in runs})
    plan = timing(batches=3)
    found = forward.measure(subjects(tiny_teacher), 2 * TEXTS, plan, [torch.device("cpu")])
    assert found["seconds"]["a"]["torch_cpu"]["median"] == 4.4
    assert found["ratio"]["b"]["torch_cpu"]["median"] == statistics.median([4.0, 4.0, 4.4])
    assert found["ratio"]["b"]["torch_cpu"]["high"] == pytest.approx(4.32)
    assert found["ratio"]["a"]["torch_cpu"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert found["missing"] == {}


def test_a_backend_that_cannot_be_had_is_left_out_and_said(
    tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = backends.importlib.util.find_spec
    monkeypatch.setattr(
        backends.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name)
    )

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler\nsecond line")

    monkeypatch.setattr(torch, "compile", broken)
    plan = timing(backends=["torch", "compile", "onnx", "onnx_int8"])
    found = forward.measure(subjects(tiny_teacher), 2 * TEXTS, plan, [torch.device("cpu")])
    assert list(found["seconds"]["a"]) == list(found["ratio"]["b"]) == ["torch_cpu"]
    assert set(found["missing"]) == {"compile_cpu", "onnx_cpu", "onnx_int8_cpu"}
    assert found["missing"]["compile_cpu"].endswith("RuntimeError: no compiler")
    assert "pip install minilm-lab[export]" in found["missing"]["onnx_cpu"]
    assert "compile_cpu is left out" in caplog.text


def test_onnx_is_timed_on_the_cpu_alone(tmp_path: Path) -> None:
    def keys(*devices: str) -> Iterator[str]:
        made = backends.make(None, [], list(backends.BACKENDS), [torch.device(d) for d in devices], tmp_path)  # type: ignore[arg-type]
        return (key for key, _ in made)

    assert list(keys("cuda")) == ["torch_cuda", "compile_cuda"]
    assert set(keys("cpu", "cuda")) == {
        *("torch_cpu", "compile_cpu", "onnx_cpu", "onnx_int8_cpu"),
        *("torch_cuda", "compile_cuda"),
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backends": ["tensorrt"]}, "timing.backends has 'tensorrt'; there are: torch"),
        ({"backends": ["onx"]}, "Did you mean 'onnx'?"),
        ({"models": []}, "timing.models=.*one or more"),
        ({"models": ["1x2", "1x2"]}, "each once"),
        ({"batches": 0}, "timing.batches=0"),
        ({"length": 4}, "timing.length=4"),
    ],
)
def test_impossible_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        timing(**fields)


def test_texts_of_a_task(tiny_task: Path, tmp_path: Path) -> None:
    task = HubTask(name="own", path=str(tiny_task))
    found, note = real_texts.training_texts(task, 7, None, tmp_path)
    whole = pairs_of(task.load(None, tmp_path).train)
    assert found == whole[:7] and note == "training set of own"
    many, _ = real_texts.training_texts(task, len(whole) + 3, None, tmp_path)
    assert many == [*whole, *whole[:3]]


def test_docstrings_where_no_data_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = HubTask(name="qnli", path="nyu-mll/glue", config="qnli", text=["question", "sentence"])
    monkeypatch.setattr(hub_access, "answers", lambda *_: False)
    monkeypatch.setattr(real_texts, "docstrings", lambda characters: (f"text {n}" for n in range(characters)))
    found, note = real_texts.training_texts(task, 5, None, tmp_path)
    assert [text for text, _ in found] == [f"text {n}" for n in range(5)]
    assert note == "docstrings of the installed packages, in place of the training set of qnli"
    with pytest.raises(LabError, match=r"paths\.hub"):
        real_texts.training_texts(task, 5, str(tmp_path), tmp_path)  # a hub without it is the user's mistake
