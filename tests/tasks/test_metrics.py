"""Every metric against its formula written out here."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.errors import LabError
from minilm_lab.tasks import metrics
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.metrics import OF_CLASSES, OF_VALUES, score_groups

CLASS_METRICS = ["accuracy", "f1", "f1_macro", "matthews"]
VALUE_METRICS = ["pearson", "spearman", "sign_accuracy"]


def score(names, predictions, references):
    return metrics.score(names, np.asarray(predictions), np.asarray(references))


pairs_of_bits = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
whole = st.integers(-20, 20)
pairs_of_values = st.lists(st.tuples(whole, whole), min_size=3, max_size=40)


def f1(pairs, positive):
    tp = sum(p == positive == r for p, r in pairs)
    wrong = sum((p == positive) != (r == positive) for p, r in pairs)
    return 2 * tp / (2 * tp + wrong) if tp else 0.0


@settings(deadline=None, max_examples=200)
@given(pairs_of_bits)
def test_class_metrics(pairs):
    predictions, references = zip(*pairs, strict=True)
    got = score(CLASS_METRICS, predictions, references)
    assert list(got) == CLASS_METRICS
    assert got["accuracy"] == pytest.approx(100 * sum(p == r for p, r in pairs) / len(pairs))
    assert got["f1"] == pytest.approx(100 * f1(pairs, 1))
    present = {value for pair in pairs for value in pair}
    assert got["f1_macro"] == pytest.approx(100 * sum(f1(pairs, c) for c in present) / len(present))
    tp, tn = pairs.count((1, 1)), pairs.count((0, 0))
    fp, fn = pairs.count((1, 0)), pairs.count((0, 1))
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert got["matthews"] == pytest.approx(100 * (tp * tn - fp * fn) / below if below else 0.0)


def correlation(a, b):
    a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def ranks(values):
    return [
        sum(other < v for other in values) + (sum(other == v for other in values) + 1) / 2 for v in values
    ]


@settings(deadline=None, max_examples=200)
@given(pairs_of_values)
def test_value_metrics(pairs):
    predictions, references = (list(column) for column in zip(*pairs, strict=True))
    if len(set(references)) == 1:
        references[0] += 1
    got = score(VALUE_METRICS, predictions, references)
    assert list(got) == VALUE_METRICS
    if len(set(predictions)) == 1:
        assert got["pearson"] == got["spearman"] == 0.0
    else:
        assert got["pearson"] == pytest.approx(100 * correlation(predictions, references), abs=1e-6)
        assert got["spearman"] == pytest.approx(
            100 * correlation(ranks(predictions), ranks(references)), abs=1e-6
        )
    right = sum((p > 0) == (r > 0) for p, r in zip(predictions, references, strict=True))
    assert got["sign_accuracy"] == pytest.approx(100 * right / len(pairs))


def test_known_case():
    # Three of five right; tp 2, fp 1, fn 1, tn 1.
    got = score(CLASS_METRICS, [1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert got["accuracy"] == pytest.approx(60)
    assert got["f1"] == pytest.approx(200 / 3)
    assert got["matthews"] == pytest.approx(100 / 6)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_constant_predictions_are_zero_with_a_warning(name, caplog):
    names = CLASS_METRICS if name == "matthews" else VALUE_METRICS
    with caplog.at_level(logging.WARNING):
        assert score(names, [1, 1, 1], [0, 1, 1])[name] == 0.0
    assert f"{name} is 0 by definition" in caplog.text


@pytest.mark.parametrize("references", [[2.5, 2.5, 2.5], [1.0]])
def test_a_correlation_with_constant_references_does_not_exist(references, caplog):
    predictions = np.asarray([0.1, 0.2, 0.3][: len(references)])
    assert set(score(VALUE_METRICS, predictions, references)) == {"sign_accuracy"}
    assert "there is no pearson; left out" in caplog.text
    groups = score_groups(
        ["pearson"],
        np.tile(predictions, 2),
        np.asarray([*references, 1, 2, 3][: 2 * len(references)]),
        ["a"] * len(references) + ["b"] * len(references),
    )
    assert set(groups) == ({"pearson", "pearson_b"} if len(references) > 1 else set())


def test_a_score_that_does_not_exist_is_said_before_training(tmp_path):
    for split, values in (("train", [1.0, 2.0]), ("validation", [2.5, 2.5])):
        rows = "".join(f"a {n},{value}\n" for n, value in enumerate(values))
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{rows}")
    fields = {"path": str(tmp_path), "kind": "regression", "metrics": ["pearson", "sign_accuracy"]}
    with pytest.raises(LabError, match=r"task.score=pearson: all 2 dev labels .* are equal"):
        HubTask(name="t", score="pearson", **fields).load(None, tmp_path / "cache")
    HubTask(name="t", score="sign_accuracy", **fields).load(None, tmp_path / "cache")


def test_predictions_that_are_not_finite():
    with pytest.raises(LabError, match=r"2 of 3 predictions for task 'x' are not finite"):
        metrics.check_finite([np.asarray([0.1]), np.asarray([np.nan, 0]), np.asarray([np.inf])], "x")


def test_every_metric_has_a_definition_and_fits_one_kind_of_prediction():
    assert (list(OF_CLASSES), list(OF_VALUES)) == (CLASS_METRICS, VALUE_METRICS)
    for kind, theirs in (("classification", VALUE_METRICS), ("regression", CLASS_METRICS)):
        for name in theirs:
            with pytest.raises(LabError, match="does not fit"):
                HubTask(path="x", kind=kind, metrics=[name], score=name)
    with pytest.raises(LabError, match="Did you mean 'spearman'"):
        HubTask(path="x", kind="regression", metrics=["spearmann"], score="spearmann")


def test_groups_are_scored_apart_and_averaged_with_equal_weight():
    predictions, references = np.asarray([[1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 1]])
    groups = ["fr", "fr", "fr", "fr", "de", "de"]  # 2 of 4 right; 0 of 2
    got = score_groups(CLASS_METRICS, predictions, references, groups)
    assert got["accuracy_fr"] == 50.0 and got["accuracy_de"] == 0.0
    assert got["accuracy"] == 25.0, "the mean of the groups, not the share of all examples"
    for metric in CLASS_METRICS:
        assert got[metric] == pytest.approx((got[f"{metric}_fr"] + got[f"{metric}_de"]) / 2)
    own = score(CLASS_METRICS, predictions[:4], references[:4])
    assert {name: got[f"{name}_fr"] for name in CLASS_METRICS} == own
