"""The folder is one of sentence-transformers: its own modules where the source has them, else the mean over tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from data.helpers import TEXT, WORDS
from transformers import AutoModel, AutoTokenizer

from minilm_lab.data.splits import references
from minilm_lab.errors import LabError
from minilm_lab.exporting import sentence_transformers
from minilm_lab.exporting.job import prepare
from minilm_lab.exporting.request import Request
from minilm_lab.exporting.sentence_transformers import describe, write_modules
from minilm_lab.models.pooling import MODES, Pooling, read_pooling
from minilm_lab.models.resolve import resolve
from minilm_lab.tasks.hub import HubTask

library = pytest.importorskip("sentence_transformers", reason="extra `export` is not installed")
LONG = " ".join(WORDS * 6)
TEXTS = [TEXT[0], "cat", LONG]


def by_hand(folder: Path, text: str, longest: int) -> torch.Tensor:
    """One text at a time, so that there is no padding."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).last_hidden_state[0].mean(0)


def embed(folder: Path) -> torch.Tensor:
    reader = library.SentenceTransformer(str(folder), device="cpu")
    vectors: torch.Tensor = reader.encode(TEXTS, convert_to_tensor=True)
    return vectors


@pytest.mark.parametrize("normalize", [False, True])
def test_embeddings_of_a_source_without_modules(normalize: bool, tiny_teacher: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_teacher)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(tmp_path)
    write_modules(tmp_path, model.config.hidden_size, 32, normalize)
    assert library.SentenceTransformer(str(tmp_path), device="cpu").max_seq_length == 32
    for row, text in zip(embed(tmp_path), TEXTS, strict=True):
        expected = by_hand(tmp_path, text, 32)
        expected = expected / expected.norm() if normalize else expected
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def source(tiny_teacher: Path, tmp_path: Path) -> Any:
    """Writes a folder with the library's own writer."""

    def make(modes: str | tuple[str, ...], dense: int | None, normalize: bool, length: int = 20) -> Path:
        from sentence_transformers.models import Dense, Normalize, Transformer
        from sentence_transformers.models import Pooling as Pooled

        torch.manual_seed(0)
        body = Transformer(str(tiny_teacher), max_seq_length=length)
        modules: list[Any] = [body, Pooled(48, modes)]
        width = 48 if isinstance(modes, str) else 48 * len(modes)
        modules += [Dense(width, dense)] if dense else []
        modules += [Normalize()] if normalize else []
        library.SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "source"))
        return tmp_path / "source"

    return make


def export(folder: Path, out: Path, task: HubTask, **settings: Any) -> Any:
    model = resolve(str(folder), runs=out, cache=out, key="run")
    request = Request(run=str(folder), out=str(out), **{"to": ["sentence_transformers"], **settings})
    return prepare(request, model, task, None, out).write()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("modes", "dense", "normalize", "words"),
    [
        ("cls", None, False, "the state of the first token of a text; texts are cut to 20 tokens"),
        ("max", None, True, "the largest values over the tokens of a text, scaled to length 1;"),
        ("mean", 16, True, "of a text, then a linear map to 16 numbers and Tanh, scaled to length 1;"),
        (("cls", "mean"), None, False, "first token, joined with the mean over the tokens of a text;"),
    ],
    ids=str,
)
def test_the_modules_of_a_source_are_kept(
    source: Any,
    modes: Any,
    dense: int | None,
    normalize: bool,
    words: str,
    similarity: HubTask,
    tmp_path: Path,
) -> None:
    folder = source(modes, dense, normalize)
    export(folder, tmp_path / "out", similarity)
    torch.testing.assert_close(embed(tmp_path / "out"), embed(folder), rtol=0, atol=0)
    assert words in (tmp_path / "out" / "README.md").read_text()
    # What is exported may be exported again.
    export(tmp_path / "out", tmp_path / "again", similarity)
    torch.testing.assert_close(embed(tmp_path / "again"), embed(folder), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_length_1_on_request(source: Any, similarity: HubTask, tmp_path: Path) -> None:
    for has, wanted in ((False, True), (True, False)):
        folder = source("cls", 16, has)
        export(folder, tmp_path / f"out{has}", similarity, normalize=wanted)
        lengths = embed(tmp_path / f"out{has}").norm(dim=1)
        assert torch.allclose(lengths, torch.ones(3)) == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_int8_is_measured_through_the_modules(source: Any, similarity: HubTask, tmp_path: Path) -> None:
    from scipy.stats import spearmanr

    folder = source("cls", 16, False)
    measured = export(folder, tmp_path / "out", similarity, to=["onnx_int8"])
    dev = similarity.load(None, tmp_path).dev
    reader = library.SentenceTransformer(str(folder), device="cpu")
    first, second = (reader.encode(list(dev[column])) for column in ("text", "pair"))
    cosines = torch.cosine_similarity(torch.tensor(first), torch.tensor(second))
    expected = 100 * spearmanr(cosines, references(dev)).statistic
    assert measured.loss.spearman[0] == pytest.approx(expected, abs=1e-6)
    assert read_pooling(str(tmp_path / "out")).modes == ("cls",)  # type: ignore[union-attr]
    assert "first token of a text, then a linear map" in (tmp_path / "out" / "README.md").read_text()


def test_what_cannot_be_kept_is_refused(tiny_teacher: Path, similarity: HubTask, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_teacher, tmp_path / "source"))
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
               {"idx": 1, "name": "1", "path": "1_LSTM", "type": "sentence_transformers.models.LSTM"}]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    for form in ("hf", "sentence_transformers", "onnx"):
        with pytest.raises(LabError, match="names a module 'LSTM'"):
            export(folder, tmp_path / "out", similarity, to=[form])
    assert not (tmp_path / "out").exists()


def test_there_are_words_for_everything() -> None:
    assert set(sentence_transformers.WORDS) == set(MODES)
    assert describe(Pooling(("lasttoken",), prompt="query: "), False).endswith('behind the prompt "query: "')
