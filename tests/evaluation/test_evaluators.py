"""What evaluators find, against a loop of the test's own; and the teacher's known score."""

import math
from pathlib import Path

import pytest
from tasks.helpers import pairs_of, references
from transformers import AutoModel, AutoTokenizer, BertConfig

from minilm_lab.commands.composing import compose_command
from minilm_lab.config import build
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import NoEvaluator
from minilm_lab.evaluation.neighbours import Neighbours
from minilm_lab.evaluation.similarity import Similarity
from minilm_lab.models.encoder import Encoder
from minilm_lab.registry import embedded_model

HUB_TASK = "minilm_lab.tasks.hub.HubTask"


@pytest.fixture(scope="module")
def model(tiny_teacher):
    return AutoModel.from_pretrained(tiny_teacher)


@pytest.fixture(scope="module")
def reader(tiny_teacher):
    return AutoTokenizer.from_pretrained(tiny_teacher)


def classes(tiny_task):
    return {"_target_": HUB_TASK, "name": "animals", "path": str(tiny_task), "text": ["text"]}


def cosines(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_against_a_loop(tiny_task, model, reader, tmp_path, k):
    evaluator = Neighbours(task=classes(tiny_task), k=k, train_examples=30, dev_examples=15, length=32)
    evaluator.prepare(None, tmp_path)
    splits = evaluator.splits
    assert (len(splits.train), len(splits.dev)) == (30, 15)
    known = Encoder(model, reader, length=32)(pairs_of(splits.train)).double()
    asked = Encoder(model, reader, length=32)(pairs_of(splits.dev)).double()
    right = 0
    for row, label in zip(asked, splits.dev["label"][:], strict=True):
        near = sorted(range(30), key=lambda n: -cosines(row, known[n]))[:k]
        votes = [splits.train["label"][:][n] for n in near]
        right += max((0, 1), key=lambda c: (votes.count(c), -c)) == label
    assert evaluator(evaluator.wrap(model, reader)).scores == {
        "animals_knn_accuracy": pytest.approx(100 * right / 15)
    }


def test_all_examples_where_there_are_fewer(tiny_task, tmp_path):
    evaluator = Neighbours(task=classes(tiny_task), train_examples=10**6, dev_examples=10**6)
    evaluator.prepare(None, tmp_path)
    splits = evaluator.splits
    assert (len(splits.train), len(splits.dev)) == (50, 21)
    with pytest.raises(LabError, match=r"evaluator.k=51 is more than the 50 training texts"):
        Neighbours(task=classes(tiny_task), k=51).prepare(None, tmp_path)


def pairs(tmp_path):
    lines = ["a,b,score"]
    sentences = ["the cat sat", "the dog sat", "rain", "on the mat", "the cat sat on the mat", "a dog"]
    for n, first in enumerate(sentences):
        lines += [f"{first},{second},{(n * 7 + m * 3) % 11}" for m, second in enumerate(sentences)]
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    fields = {"kind": "regression", "metrics": ["spearman"], "score": "spearman", "label": "score"}
    return {"_target_": HUB_TASK, "name": "pairs", "path": str(folder), "text": ["a", "b"], **fields}


def ranks(values):
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def correlation(x, y):
    x, y = [a - sum(x) / len(x) for a in x], [b - sum(y) / len(y) for b in y]
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(
        sum(a * a for a in x) * sum(b * b for b in y)
    )


def test_similarity_against_a_loop(model, reader, tmp_path):
    evaluator = Similarity(task=pairs(tmp_path))
    evaluator.prepare(None, tmp_path)
    splits = evaluator.splits
    similar = []
    for first, second in pairs_of(splits.dev):
        a, b = (Encoder(model, reader)([text])[0].double() for text in (first, second))
        similar.append(round(cosines(a, b), 5))
    expected = 100 * correlation(ranks(similar), ranks(references(splits.dev)))
    # Rounded cosines: equal pairs tie here, and differ by rounding there.
    assert evaluator(evaluator.wrap(model, reader)).scores["pairs_spearman"] == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda task: Neighbours(task=task | {"kind": "regression", "metrics": ["pearson"], "score": "pearson"}), "give a classification"),
        (lambda task: Similarity(task=task), "needs pairs with numbers"),
        (lambda task: Neighbours(), "write task@evaluator.task="),
        (lambda task: Neighbours(task=task | {"lenght": 3}), "evaluator.task.lenght: .* Did you mean 'length'"),
        (lambda task: Neighbours(task={"_target_": "minilm_lab.training.settings.Impl"}), "is not a task"),
        (lambda task: Neighbours(task=task, k=0), "evaluator.k=0"),
        (lambda task: Neighbours(task=task, every=0), "evaluator.every=0"),
    ],
)  # fmt: skip
def test_impossible_settings(make, message, tiny_task):
    with pytest.raises(LabError, match=message):
        make(classes(tiny_task))


def test_similarity_of_single_texts(tiny_task, tmp_path):
    single = classes(tiny_task) | {
        "kind": "regression",
        "metrics": ["spearman"],
        "score": "spearman",
        "label": "score",
    }
    with pytest.raises(LabError, match="has single texts"):
        Similarity(task=single).prepare(None, tmp_path)


def config(positions, layers):
    return BertConfig(max_position_embeddings=positions, num_hidden_layers=layers)


def test_settings_that_do_not_fit_the_model(tiny_task):
    evaluator = Neighbours(task=classes(tiny_task), length=64, layer=-4)
    evaluator.check(config(64, 4))
    with pytest.raises(LabError, match=r"evaluator.length=64 is beyond the 63 positions"):
        evaluator.check(config(63, 4))
    with pytest.raises(
        LabError, match=r"evaluator.layer=-4: the student has 2 layers; give 0 .* to 2, .* to -3"
    ):
        evaluator.check(config(64, 2))
    NoEvaluator().check(config(1, 0))
    assert not NoEvaluator().measures and evaluator.measures


@pytest.mark.network
@pytest.mark.slow
def test_the_teachers_score_on_stsb(shared_hub, tmp_path):
    """all-MiniLM-L6-v2: 0.867 on the dev set, as its own library's pooling gives."""
    folder = embedded_model("all_minilm_l6", Path(".cache"))
    node = compose_command("distill", ["evaluator=stsb"]).evaluator
    evaluator = build(node, "evaluator")
    evaluator.prepare(shared_hub, tmp_path)
    found = evaluator(evaluator.open(str(folder), None)).scores
    assert found == {"stsb_spearman": pytest.approx(86.7, abs=0.1)}
