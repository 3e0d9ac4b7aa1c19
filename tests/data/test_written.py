"""Text that a model writes: as its engine does from the documents' first tokens, once, and on after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies.knowledge.conftest import save_causal

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.data import written
from minilm_lab.data.written import WrittenCorpus
from minilm_lab.errors import LabError
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel

TEXTS = [f"Document {n} has some words, é and more of them." for n in range(9)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("writer") / "model")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(["x", *TEXTS]), encoding="utf-8")  # the first is too short for a prompt
    return file


def corpus(model: Path, prompts: Path, **settings: Any) -> WrittenCorpus:
    described = {"_target_": "minilm_lab.data.path.PathCorpus", "path": str(prompts)}
    values: dict[str, Any] = {"texts": 7, "prompt": 5, "length": 6, **settings}
    return WrittenCorpus(source=str(model), corpus=described, **values)


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_what_the_model_writes_on(
    model: Path, prompts: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "BATCH", 3)
    found = list(corpus(model, prompts, method=method, seed=4).documents(None, tmp_path))
    engine = LanguageModel.load(str(model))
    assert len(found) == 7
    for n, text in enumerate(found):  # each alone
        prompt = engine.ids(TEXTS[n])[:5]
        (answer,) = engine.generate([prompt], Decoding(method, 6, seed=4), rows=[n])
        assert text == engine.text([*prompt, *answer.tokens])
        assert text.startswith(TEXTS[n][:4])


def test_it_is_written_once_and_on_after_a_kill(
    model: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "BATCH", 2)
    whole = list(corpus(model, prompts).documents(None, tmp_path))
    (file,) = (tmp_path / "written").glob("*.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:9], encoding="utf-8")
    rows: list[int] = []
    generate = LanguageModel.generate

    def counted(self: LanguageModel, *args: Any, **settings: Any) -> Any:
        rows.extend(settings["rows"])
        return generate(self, *args, **settings)

    monkeypatch.setattr(LanguageModel, "generate", counted)
    assert list(corpus(model, prompts).documents(None, tmp_path)) == whole
    assert rows == [3, 4, 5, 6] and len(file.read_text(encoding="utf-8").splitlines()) == 7
    monkeypatch.setattr(LanguageModel, "load", None)
    assert list(corpus(model, prompts).documents(None, tmp_path)) == whole
    assert json.loads(lines[0])["n"] == 0


def test_what_decides_the_text_decides_its_fingerprint(model: Path, prompts: Path, tmp_path: Path) -> None:
    def mark(**settings: Any) -> str:
        return corpus(model, prompts, **settings).fingerprint(None, tmp_path)

    assert mark() == mark(name="another")
    changes = [{"seed": 1}, {"texts": 6}, {"prompt": 4}, {"length": 5}, {"method": "greedy"}, {"top_p": 0.9}]
    assert len({mark(**change) for change in [{}, *changes]}) == 1 + len(changes)
    before = mark()
    prompts.write_text(prompts.read_text(encoding="utf-8") + " more", encoding="utf-8")
    assert mark() != before


def test_refusals(model: Path, prompts: Path, tmp_path: Path, tiny_teacher: Path) -> None:
    with pytest.raises(LabError, match=r"corpus.texts=99: path has 9 documents of at least 5 tokens"):
        list(corpus(model, prompts, texts=99).documents(None, tmp_path))
    with pytest.raises(LabError, match=r"corpus.prompt=0"):
        corpus(model, prompts, prompt=0)
    with pytest.raises(LabError, match=r"corpus@corpus.corpus="):
        WrittenCorpus(source=str(model))
    with pytest.raises(LabError, match="does not predict the next token"):
        list(corpus(tiny_teacher, prompts).documents(None, tmp_path))


def test_a_student_learns_from_it(model: Path, prompts: Path, tmp_path: Path) -> None:
    words = [
        "teacher=path", f"teacher.path={model}", "student=half_depth", "student.init.embeddings=teacher",
        "objective=lm", "corpus=written", f"corpus.source={model}", "corpus@corpus.corpus=path",
        f"corpus.corpus.path={prompts}", "corpus.texts=9", "corpus.prompt=4", "corpus.length=12", "scale.length=8",
        "scale.steps=3", "scale.batch_size=2", "logger=none", f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache",
    ]  # fmt: skip
    record = plan(compose_command("distill", words)).make()
    assert record["steps"] == 3 and record["corpus"]["corpus"] == "written"
