"""evaluator=new_releases on a small catalogue, against loops and scikit-learn; what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import scorers
from minilm_lab.studies.movies.new_releases import NewReleases, Way


class Words:
    """Stands in for an encoder: the counts of four words."""

    def __call__(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor(
            [[float(text.split().count(word)) for word in ("love", "war", "space", "the")] for text in texts]
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten users who like one kind of movie each; a third of the movies are from 2010 on."""
    draw = np.random.default_rng(1)
    kinds = ["love", "war", "space"]
    movies = pd.DataFrame(
        {
            "movie_id": range(45),
            "plot": [f"the {kinds[n % 3]} of the {kinds[n % 3]}" for n in range(45)],
            "genres": [[kinds[n % 3]] for n in range(45)],
            "release_date": [f"{2000 + n // 3}-05-01" for n in range(45)],
        }
    )
    rows = [
        (user, movie, int(pd.Timestamp("2016-01-01").timestamp()) + movie)
        for user in range(10)
        for movie in range(45)
        if draw.random() < (0.8 if movie % 3 == user % 3 else 0.1)
    ]
    movies.to_parquet(tmp_path / "movies.parquet")
    pd.DataFrame(rows, columns=["user_id", "movie_id", "timestamp"]).to_parquet(tmp_path / "ratings.parquet")
    return tmp_path


def prepared(folder: Path, **settings: object) -> NewReleases:
    evaluator = NewReleases(path=str(folder), **settings)  # type: ignore[arg-type]
    evaluator.prepare(None, folder)
    return evaluator


def test_scores_are_those_of_a_loop(folder: Path) -> None:
    result = prepared(folder)(Words())
    movies, ratings = (pd.read_parquet(folder / name) for name in ("movies.parquet", "ratings.parquet"))
    vectors = Words()(movies["plot"].tolist()).double().numpy()
    new = pd.to_datetime(movies["release_date"]) >= "2010-01-01"
    known = vectors[~new & movies["movie_id"].isin(ratings["movie_id"])].mean(axis=0)
    unit = (vectors - known) / np.linalg.norm(vectors - known, axis=1, keepdims=True)
    expected = []
    for user in range(10):
        had = ratings[ratings["user_id"] == user]["movie_id"].to_numpy()
        profile = unit[[movie for movie in had if not new[movie]]].sum(axis=0)
        liked = np.isin(np.flatnonzero(new), had)
        expected.append(roc_auc_score(liked, np.round(unit[new] @ profile, 9)))
    assert [row["auc"] for row in result.rows] == pytest.approx(expected)
    assert result.scores["auc"] == pytest.approx(100 * np.mean(expected))
    assert result.scores["auc_low"] <= result.scores["auc"] <= result.scores["auc_high"]
    # Whoever reads the plot knows the taste; the popularity of genres is the same list for all.
    assert result.scores["auc"] > 80 > result.scores["genre_popularity_auc"]
    assert result.facts["candidates"] == 15 and result.facts["users"] == 10


@pytest.mark.parametrize(
    ("settings", "candidates"),
    [({"split": "rolling", "dates": ["2008-01-01", "2011-01-01"]}, 6), ({"split": "in_matrix"}, 45)],
)
def test_other_splits(folder: Path, settings: dict[str, object], candidates: int) -> None:
    ratings = pd.read_parquet(folder / "ratings.parquet")
    released = [f"{2000 + movie // 3}-06-01" for movie in ratings["movie_id"]]
    ratings["timestamp"] = pd.to_datetime(pd.Series(released)).astype("datetime64[s]").astype("int64")
    ratings.to_parquet(folder / "ratings.parquet")
    settings = {**settings, "split": Way(settings["split"])}
    result = prepared(folder, **settings, beside=["knn", "oracle"], history=2)(Words())
    assert result.facts["candidates"] == candidates and result.scores["oracle_auc"] > 50
    assert result.scores["auc"] > 80
    assert result.facts["users"] <= 10 <= result.facts["users_judged_on_a_split"] * 2
    difference = result.facts["less"]["knn"]["auc"][0]
    assert difference == pytest.approx(result.scores["auc"] - result.scores["knn_auc"], abs=0.006)


def test_a_scorer_without_encoder_needs_none(folder: Path) -> None:
    def fails(texts: list[str]) -> torch.Tensor:
        raise AssertionError("the encoder was called")

    result = prepared(folder, method="tf_idf_knn", beside=["genre_popularity", "user_genres"])(fails)
    assert set(result.facts["less"]) == {"genre_popularity", "user_genres"}


def test_a_future_event_changes_nothing(folder: Path) -> None:
    """Interactions with new movies, planted or taken away, move no score of an older split's scorers."""
    before = prepared(folder, method="ridge_factors", beside=["ridge_popularity", "tf_idf_knn"])
    ratings = pd.read_parquet(folder / "ratings.parquet")
    new = ratings["movie_id"] >= 30
    planted = ratings[~((ratings["user_id"] == 3) & new)]
    planted.to_parquet(folder / "ratings.parquet")
    after = prepared(folder, method="ridge_factors", beside=["ridge_popularity", "tf_idf_knn"])
    first, second = before(Words()), after(Words())
    assert len(second.rows) == len(first.rows) - 1
    others = [row for row in first.rows if row["user"] != 3]
    assert [row["auc"] for row in second.rows] == [row["auc"] for row in others]


def test_settings_of_scorers_and_splits(folder: Path) -> None:
    with pytest.raises(LabError, match=r"evaluator\.method=cosin: no such scorer.*cosine"):
        NewReleases(method="cosin")
    with pytest.raises(LabError, match=r"evaluator\.beside=ease knows movies by who saw them"):
        NewReleases(beside=["ease"])
    with pytest.raises(LabError, match=r"needs evaluator\.dates"):
        NewReleases(split=Way.rolling)
    with pytest.raises(LabError, match=r"evaluator\.dates=then is no date"):
        NewReleases(split=Way.rolling, dates=["then"])
    with pytest.raises(LabError, match="released_after=2030-01-01: no interaction is in the test period"):
        prepared(folder, released_after="2030-01-01")
    with pytest.raises(LabError, match="choose a later date"):
        prepared(folder, released_after="2000-06-01")


def test_users_unknown_to_training_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ratings = pd.read_parquet(folder / "ratings.parquet")
    stranger = pd.DataFrame({"user_id": [99], "movie_id": [40], "timestamp": [1_500_000_000]})
    pd.concat([ratings, stranger]).to_parquet(folder / "ratings.parquet")
    facts = prepared(folder)(Words()).facts
    assert "1 users have positives but no history in training: not judged" in caplog.text
    assert facts["users"] == 10 and facts["users_without_positive"] == 1


def test_a_catalogue_of_one_is_refused(folder: Path) -> None:
    movies = pd.read_parquet(folder / "movies.parquet")
    movies.loc[movies["movie_id"] > 30, "plot"] = ""
    movies.to_parquet(folder / "movies.parquet")
    with pytest.raises(LabError, match="A catalogue of one item"):
        prepared(folder)(Words())


def test_vectors_are_computed_once_a_model(folder: Path, tiny_teacher: Path) -> None:
    evaluator = prepared(folder)
    first = evaluator(evaluator.open(str(tiny_teacher), None))
    (kept,) = (folder / "vectors").glob("*.npy")
    np.save(kept, np.load(kept)[::-1])
    model = evaluator.open(str(tiny_teacher), None)
    assert evaluator(model).scores != first.scores  # read, not computed
    evaluator.open(str(tiny_teacher), None)
    assert evaluator(model).scores == first.scores  # another model than that which was opened: computed


def test_k_nearest_of_a_history_vote() -> None:
    draw = np.random.default_rng(0)
    vectors, train = draw.normal(size=(9, 4)), draw.random((5, 9)) < 0.5
    got = scorers.neighbours(vectors, train, 2)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for user in range(5):
        for item in range(9):
            near = sorted(
                (float(unit[other] @ unit[item]) for other in np.flatnonzero(train[user])), reverse=True
            )[:2]
            assert got[user, item] == pytest.approx(np.mean(near) if near else 0.0)


def test_what_is_left_out_is_counted(folder: Path) -> None:
    movies = pd.read_parquet(folder / "movies.parquet")
    movies.loc[0, "plot"] = None
    movies.loc[1, "release_date"] = None
    movies.to_parquet(folder / "movies.parquet")
    facts = prepared(folder, released_before="2014-01-01")(Words()).facts
    assert facts["movies_without_plot"] == 1 and facts["movies_with_plot_without_date"] == 1
    assert facts["movies_too_late"] == 3 and facts["movies"] == 40


def test_the_data_is_part_of_the_identity(folder: Path) -> None:
    first = prepared(folder).identity()
    ratings = pd.read_parquet(folder / "ratings.parquet")
    ratings.iloc[:-1].to_parquet(folder / "ratings.parquet")
    assert prepared(folder).identity() != first


def test_what_does_not_fit_is_named(folder: Path) -> None:
    with pytest.raises(LabError, match=r"movies\.parquet is not there"):
        prepared(folder / "nowhere")
    with pytest.raises(LabError, match=r"evaluator\.released_after=soon is no date"):
        NewReleases(released_after="soon")
    with pytest.raises(LabError, match=r"evaluator\.k=0"):
        NewReleases(k=0)
    movies = pd.read_parquet(folder / "movies.parquet")
    movies.drop(columns="genres").to_parquet(folder / "movies.parquet")
    with pytest.raises(LabError, match="column 'genres' is missing"):
        prepared(folder)
