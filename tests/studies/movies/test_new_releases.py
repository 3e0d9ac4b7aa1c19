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
from minilm_lab.studies.movies.new_releases import NewReleases


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
