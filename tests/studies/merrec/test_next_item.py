"""evaluator=merrec_next on a small generated month: what is read, kept, refused; scores against scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import GENERATED, baselines, log, vectors
from minilm_lab.studies.merrec.next_item import NextItem

SMALL = {"users": 250, "width": 16, "epochs": 1, "most": 300, "negatives": 32}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def prepared(cache: Path, **settings: object) -> NextItem:
    evaluator = NextItem(**{**SMALL, **settings})  # type: ignore[arg-type]
    evaluator.prepare(None, cache)
    return evaluator


class Unread:
    """A model that is not to be read."""

    def __call__(self, texts: list[str]) -> torch.Tensor:
        raise AssertionError("no title is to be encoded")


def test_rows_without_an_encoder_read_none(cache: Path) -> None:
    words = prepared(cache, titles="words")(Unread())  # type: ignore[arg-type]
    ids = prepared(cache, titles="none")(Unread())  # type: ignore[arg-type]
    assert words.facts["data"] == GENERATED and words.facts["candidates"] == words.facts["items"]
    assert words.facts["judged_events"] == 300
    # The same examples, so the same baselines; models differ.
    same = {name for name in words.scores if name.startswith(("popularity_", "again_"))}
    assert same and all(words.scores[name] == ids.scores[name] for name in same)
    assert words.scores["mrr"] != ids.scores["mrr"]
    for name in ("", "fresh_", "cold_"):
        assert (
            words.scores[f"{name}ndcg_low"] <= words.scores[f"{name}ndcg"] <= words.scores[f"{name}ndcg_high"]
        )
    # What nobody had before has no number that was learned, and popularity puts it last.
    assert words.scores["popularity_cold_recall"] == 0


def test_baselines_are_those_of_a_whole_matrix(cache: Path) -> None:
    evaluator = prepared(cache, titles="words")
    data = evaluator._log
    parts = log.cut(data, 1685318400, 1685577600, length=20, most=300)
    seen = np.bincount(data.item[data.time < 1685318400], minlength=len(parts.known)).astype(float)
    again = np.tile(seen, (300, 1))
    again[np.arange(300), parts.judged.history[:, -1]] = seen.max() + 1
    for score, table in (
        (baselines.same_list(torch.from_numpy(seen).float()), np.tile(seen, (300, 1))),
        (baselines.again(torch.from_numpy(seen).float(), parts.judged), again),
    ):
        expected = rankdata(-table, axis=1)[np.arange(300), parts.judged.target]
        assert evaluator._ranks(score, parts) == pytest.approx(expected)
    titles = vectors.hashed_words(data.titles)
    unit = titles - titles.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    near = baselines.nearness(torch.from_numpy(titles), data.title_of, parts.judged)
    row = parts.judged.history[5]
    profile = unit[data.title_of[row[row >= 0]]].sum(axis=0)
    got = near(slice(5, 6), slice(0, len(parts.known)))[0].numpy()
    assert got == pytest.approx(unit[data.title_of] @ profile, abs=1e-4)


class Counting:
    """Stands in for an encoder; counts what it reads."""

    width, pooling, layer, length = 4, "mean", -1, 8

    def __init__(self, weight: float = 1.0) -> None:
        self.body = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.body.weight, weight)
        torch.nn.init.zeros_(self.body.bias)
        self.tokenizer, self.read = "tokenizer", 0

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.read += len(texts)
        return torch.tensor([[len(text), text.count("a"), 1.0, 0.0] for text in texts])


def test_titles_are_read_once_for_the_same_weights(tmp_path: Path) -> None:
    titles = ["a cup", "aaa", "cup"]
    first = Counting()
    table = vectors.of_titles(first, titles, tmp_path)  # type: ignore[arg-type]
    assert table.dtype == np.float16 and table.tolist() == first(titles).tolist()
    again = Counting()
    vectors.of_titles(again, titles, tmp_path)  # type: ignore[arg-type]
    assert again.read == 0
    for other, texts in ((Counting(2.0), titles), (Counting(), titles[:2])):
        vectors.of_titles(other, texts, tmp_path)  # type: ignore[arg-type]
        assert other.read == len(texts)


def test_a_head_that_nothing_reads_does_not_count() -> None:
    first, second = Counting(), Counting()
    for encoder in (first, second):  # as the library does where a checkpoint lacks it
        encoder.body.pooler = torch.nn.Linear(3, 3)
    assert not torch.equal(first.body.pooler.weight, second.body.pooler.weight)
    assert vectors.weights_of(first) == vectors.weights_of(second) != vectors.weights_of(Counting(2.0))  # type: ignore[arg-type]


def test_the_identity_is_of_what_decides(cache: Path) -> None:
    first = prepared(cache, titles="words").identity()
    assert prepared(cache, titles="words", batch_size=7, memory="1GB").identity() == first
    assert prepared(cache, titles="words", width=8).identity() != first
    assert prepared(cache, titles="words", users=240).identity() != first


def test_what_does_not_fit_is_named(cache: Path) -> None:
    for settings, message in (
        ({"titles": "wrods"}, "evaluator.titles=wrods: choose one of encoder, words, none"),
        ({"model": "nearness", "titles": "none"}, "compares titles"),
        ({"judged_from": "soon"}, "evaluator.judged_from=soon is no date"),
        ({"judged_from": "2023-06-02"}, "must lie before judged_before"),
        ({"seeds": []}, r"evaluator.seeds=\[\]"),
        ({"most": 0}, "evaluator.most"),
    ):
        with pytest.raises(LabError, match=message):
            NextItem(**settings)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="judged period has no session"):
        prepared(cache, titles="words", judged_from="2023-07-01", judged_before="2023-08-01")(Unread())  # type: ignore[arg-type]
