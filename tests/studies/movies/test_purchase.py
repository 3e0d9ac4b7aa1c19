"""Probabilities: fitted on older releases alone, judged by scikit-learn's own scores; tiers; pictures; who would come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import calibration, methods, purchase
from minilm_lab.studies.movies.audience import Question
from minilm_lab.studies.movies.new_releases import NewReleases

from .test_new_releases import Words, folder, prepared

__all__ = ["folder"]


def test_brier_and_log_loss_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    probability = draw.random(200)
    came = draw.random(200) < probability
    assert calibration.brier(probability, came).mean() == pytest.approx(brier_score_loss(came, probability))
    assert calibration.log_loss(probability, came).mean() == pytest.approx(log_loss(came, probability))
    curve = calibration.reliability(probability, came)
    assert sum(part["pairs"] for part in curve) == 200 and len(curve) == 10
    lowest = np.argsort(probability)[:20]
    assert curve[0]["observed"] == pytest.approx(came[lowest].mean())
    gaps = [abs(part["predicted"] - part["observed"]) for part in curve]
    assert calibration.calibration_error(curve) == pytest.approx(np.mean(gaps))


def test_tiers_are_thirds_and_keep_equal_histories_together() -> None:
    assert calibration.tier_of(np.asarray([0, 1, 1, 1, 5, 5, 5, 9, 9, 9])).tolist() == [
        -1,
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
    ]


def test_probabilities_look_at_no_test_interaction(folder: Path) -> None:
    evaluator = prepared(folder)
    (scene,) = evaluator._seen(Words(), ["centred_cosine"])
    scored = methods.scored("centred_cosine", scene, "auc")
    first = purchase.chances(scored.scores, scored.validation, scene)
    turned = replace(scene, split=replace(scene.split, test=scene.split.candidates & ~scene.split.test))
    second = purchase.chances(scored.scores, scored.validation, turned)
    np.testing.assert_array_equal(first.probability, second.probability)
    assert first.probability.min() > 0 and first.probability.max() < 1
    # Whoever reads the plot knows the taste, so the distance weighs, and probabilities are better than the rate alone.
    assert first.weights["score"] > 0.5
    scores, facts = calibration.judged([first], [scene])
    assert scores["log_loss"] < scores["log_loss_without"] and scores["brier"] < scores["brier_rate"]
    assert facts["log_loss_less"]["without"][0] < 0
    assert sum(tier["users"] for tier in facts["tiers"].values()) == 10


def test_what_stands_in_a_record(folder: Path) -> None:
    result = prepared(folder)(Words())
    assert {"brier", "log_loss_without", "calibration_error", "pooled_auc"} <= set(result.scores)
    assert set(result.files) == {"calibration.svg", "tiers.svg", "space.svg"}
    assert all(text.startswith("<svg") for text in result.files.values())
    gains = result.facts["auc_less_by_tier"]["knn"]
    whole = result.facts["less"]["knn"]["auc"][0]
    assert min(gain[0] for gain in gains.values()) <= whole <= max(gain[0] for gain in gains.values())


def test_who_would_come(folder: Path) -> None:
    evaluator = NewReleases(path=str(folder), beside=[])
    evaluator.read(None, folder)
    audience = evaluator.recommend(Words(), Question("the war of the war", ["war"]), 3)
    # Users 1, 4 and 7 like war.
    assert {guest.user for guest in audience.guests} <= {1, 4, 7} and len(audience.guests) == 3
    assert audience.expected == pytest.approx(sum(audience.by_tier.values())) and audience.users == 10
    assert set(map(int, audience.like)) <= set(range(1, 45, 3))
    trained = NewReleases(path=str(folder), beside=[], method="softmax")
    trained.read(None, folder)
    assert {g.user for g in trained.recommend(Words(), Question("the war", []), 3).guests} <= {1, 4, 7}


def test_questions_that_cannot_be_answered(folder: Path) -> None:
    evaluator = NewReleases(path=str(folder))
    evaluator.read(None, folder)
    with pytest.raises(LabError, match="text= is empty"):
        evaluator.check_question(Question(" ", []))
    with pytest.raises(LabError, match=r"no movie is 'wars'.*war"):
        evaluator.check_question(Question("x", ["wars"]))
    oracle = NewReleases(path=str(folder), method="oracle")
    oracle.read(None, folder)
    with pytest.raises(LabError, match="nothing to say of a text"):
        oracle.recommend(Words(), Question("the war", []), 3)


def test_the_command(
    folder: Path, tiny: list[str], tiny_teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from minilm_lab.commands.composing import compose_command
    from minilm_lab.commands.recommend import run

    movies = pd.read_parquet(folder / "movies.parquet")
    movies.assign(title=[f"Film {n}" for n in range(45)]).to_parquet(folder / "movies.parquet")
    words = [*tiny, f"source={tiny_teacher}", f"evaluator.path={folder}", "text='the cat sat'", "top=2"]
    expected = run(compose_command("recommend", words))
    out = capsys.readouterr().out
    assert f"expected: {expected:.1f} of 10 users" in out and out.count("\n| ") == 3 and "Film " in out
    with pytest.raises(LabError, match="top=0"):
        run(compose_command("recommend", [*words, "top=0"]))
