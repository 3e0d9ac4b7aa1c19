"""evaluator=mteb on tiny copies of its data: against the lab's own evaluator, and a ranking worked out by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from minilm_lab import hub_access
from minilm_lab.errors import LabError
from minilm_lab.evaluation.similarity import Similarity

pytest.importorskip("mteb", reason="extra `mteb` is not installed")
from minilm_lab.evaluation.mteb_tasks import Mteb

WORDS = ["cat", "dog", "rain", "mat", "sat", "fell", "the", "on"]


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def encoder(tiny_teacher: Path) -> Any:
    evaluator = Mteb(tasks=["STSBenchmark"], length=32)
    return evaluator.wrap(
        AutoModel.from_pretrained(tiny_teacher), AutoTokenizer.from_pretrained(tiny_teacher)
    )


def pairs(seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=5)) for _ in range(60)]
    return [{"sentence1": a, "sentence2": b, "score": draw.random() * 5} for a, b in zip(texts[:30], texts[30:], strict=True)]  # fmt: skip


def test_similarity_is_the_labs_own_number(tmp_path: Path, encoder: Any) -> None:
    folder = tmp_path / "hub" / "mteb" / "stsbenchmark-sts"

    def both(seed: int) -> tuple[float, float, dict[str, Any]]:
        lines(folder / "test.jsonl", pairs(seed))
        own = tmp_path / f"own{seed}"
        for split in ("train", "validation"):
            lines(own / f"{split}.jsonl", pairs(seed))
        task = {
            "_target_": "minilm_lab.tasks.hub.HubTask",
            "name": "own",
            "path": str(own),
            "kind": "regression",
            "text": ["sentence1", "sentence2"],
            "label": "score",
            "metrics": ["spearman"],
            "score": "spearman",
        }
        ours = Similarity(task=task, length=32)
        ours.prepare(None, tmp_path)
        theirs = Mteb(tasks=["STSBenchmark"], length=32)
        theirs.prepare(str(tmp_path / "hub"), tmp_path)
        before = torch.get_rng_state()
        result = theirs(encoder)
        assert torch.equal(before, torch.get_rng_state())
        assert result.scores["average"] == result.scores["STSBenchmark"]
        assert result.facts["metrics"] == {"STSBenchmark": "cosine_spearman"}
        return ours(encoder).scores["own_spearman"], result.scores["average"], theirs.identity()

    first, second = both(0), both(1)  # in place of the same file
    assert first[1] == pytest.approx(first[0], abs=0.05) and second[1] == pytest.approx(second[0], abs=0.05)
    assert abs(first[0] - second[0]) > 1 and first[2] != second[2]


def test_retrieval_is_a_ranking_worked_out_here(tmp_path: Path, encoder: Any) -> None:
    folder = tmp_path / "hub" / "mteb" / "nfcorpus"
    draw = random.Random(2)
    documents = [" ".join(draw.choices(WORDS, k=6)) for _ in range(12)]
    queries = [" ".join(draw.choices(WORDS, k=3)) for _ in range(4)]
    right = {n: draw.sample(range(12), 2) for n in range(4)}
    lines(
        folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": t} for n, t in enumerate(documents)]
    )
    lines(folder / "queries.jsonl", [{"_id": f"q{n}", "text": t} for n, t in enumerate(queries)])
    judged = [{"query-id": f"q{q}", "corpus-id": f"d{d}", "score": 1} for q, ds in right.items() for d in ds]
    lines(folder / "qrels" / "test.jsonl", judged)
    configs = [("default", "test", "qrels/test.jsonl"), ("corpus", "corpus", "corpus.jsonl"), ("queries", "queries", "queries.jsonl")]  # fmt: skip
    card = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {path}\n"
        for name, split, path in configs
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{card}---\n")
    evaluator = Mteb(tasks=["NFCorpus"], length=32)
    evaluator.prepare(str(tmp_path / "hub"), tmp_path)
    found = evaluator(encoder).scores["NFCorpus"]
    near = (
        torch.nn.functional.normalize(encoder(queries)) @ torch.nn.functional.normalize(encoder(documents)).T
    )
    gains = []
    for q, row in enumerate(near):
        ranked = row.argsort(descending=True).tolist()[:10]
        gain = sum(1 / math.log2(2 + place) for place, d in enumerate(ranked) if d in right[q])
        gains.append(gain / (1 + 1 / math.log2(3)))
    assert found == pytest.approx(100 * sum(gains) / 4, abs=0.01)


def test_what_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(hub_access, "answers", lambda name, kind: asked.append(name))
    with pytest.raises(
        LabError, match=r"the data of STSBenchmark \(mteb/\S+\), SICK-R \(mteb/\S+\) are not here"
    ):
        Mteb(tasks=["STSBenchmark", "SICK-R"]).prepare(str(tmp_path), tmp_path)
    assert len(asked) == 1
    with pytest.raises(LabError, match=r"has no task STSBenchmrk\. Did you mean"):
        Mteb(tasks=["STSBenchmrk"]).prepare(None, tmp_path)
    with pytest.raises(LabError, match="has no benchmark eng"):
        Mteb(benchmark="eng").prepare(None, tmp_path)
    lines(tmp_path / "mteb" / "sickr-sts" / "odd.jsonl", [{"a": 1}])
    with pytest.raises(
        LabError, match=r"SICK-R is measured on the split test, which \S+ lacks \(there are train\)"
    ):
        Mteb(tasks=["SICK-R"]).prepare(str(tmp_path), tmp_path)
