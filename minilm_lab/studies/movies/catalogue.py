"""Movies and who saw them, from packages, a folder, or tables of one's own; what is left out is counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from minilm_lab.errors import LabError
from minilm_lab.runs.fingerprints import file_checksums
from minilm_lab.studies.movies import embedded, tables
from minilm_lab.studies.recommendation import splits
from minilm_lab.studies.recommendation.splits import Interactions, Matrix

FILES = ("movies.parquet", "ratings.parquet")
COLUMNS = ({"movie_id", "plot", "genres", "release_date"}, {"user_id", "movie_id", "timestamp"})


@dataclass(frozen=True)
class Catalogue:
    """Interactions, and what is known of the items beside their text."""

    data: Interactions
    titles: list[str]
    """As people read them; the id where a table has none."""
    genres: Matrix
    """(items, genres)."""
    genre_names: list[str]
    left_out: dict[str, int]
    """Why movies are out -> how many, for the record."""
    checksums: list[str]
    """Of the content."""

    @property
    def texts(self) -> list[str]:
        """What an encoder reads of each item."""
        return list(self.data.items["text"])


@dataclass(frozen=True)
class Place:
    """Where the tables are."""

    path: str
    """A name of `embedded.NAMES`, or a folder, absolute or in the hub, with `FILES`; unless the two below are given."""
    interactions: str | None = None
    items: str | None = None
    """Files or folders of one's own, see `tables.read`, as are the next two."""
    columns: dict[str, str] | None = None
    events: list[str] | None = None


def read(place: Place, hub: str | None, cache: Path, released_before: str | None, dated: bool) -> Catalogue:
    """Read the tables and join them; see `join`.

    LabError for files or columns that are missing, and all of `tables.read` and `splits.read`.
    """
    if place.interactions is not None or place.items is not None:
        if place.interactions is None or place.items is None:
            raise LabError("evaluator.interactions and evaluator.items go together: give both, or neither.")
        theirs = tables.files_of(place.interactions, "interactions")
        items = tables.files_of(place.items, "items")
        movies, ratings, left_out = tables.read(theirs, items, place.columns or {}, place.events or [])
        made = join(movies, ratings, released_before, file_checksums([*theirs, *items]), dated)
        return replace(made, left_out=made.left_out | left_out)
    if place.path in embedded.NAMES:
        movies, ratings = embedded.movielens_100k(cache, plots=place.path.endswith("_plots"))
        return join(movies, ratings, released_before, [place.path, embedded.RATINGS, embedded.PLOTS], dated)
    inside = hub is not None and not Path(place.path).is_dir()
    folder = Path(str(hub)).expanduser() / place.path if inside else Path(place.path)
    paths = [folder / name for name in FILES]
    if absent := [str(file) for file in paths if not file.is_file()]:
        raise LabError(
            f"evaluator.path={place.path}: {absent[0]} is not there. Give a folder with {' and '.join(FILES)}, "
            f"paths.hub, the folder in which grouplens/ lies, or a set out of packages: {', '.join(embedded.NAMES)}."
        )
    movies, ratings = (pd.read_parquet(file) for file in paths)
    for file, frame, columns in zip(paths, (movies, ratings), COLUMNS, strict=True):
        if missing := sorted(columns - set(frame)):
            raise LabError(f"{file}: column {missing[0]!r} is missing; there are: {', '.join(frame)}.")
    return join(movies, ratings, released_before, file_checksums(paths), dated)


def join(
    movies: pd.DataFrame,
    ratings: pd.DataFrame,
    released_before: str | None,
    checksums: list[str],
    dated: bool,
) -> Catalogue:
    """Check and join the two tables; movies without text, those from `released_before` on, and where the split is `dated`
    those without date are out, and counted."""
    dates = tables.moments(movies["release_date"], "movies", "release_date")
    text = movies["plot"].fillna("").astype(str).str.strip()
    undated = dates.isna() & (text != "") if dated else pd.Series(False, index=movies.index)
    late = pd.Series(False, index=movies.index)
    if released_before is not None:
        late = dates >= pd.Timestamp(released_before)
    left_out = {
        "movies_without_plot": int((text == "").sum()),
        "movies_with_plot_without_date": int(undated.sum()),
        "movies_too_late": int(late.sum()),
    }
    items = pd.DataFrame({"id": movies["movie_id"], "text": text, "date": dates})
    rows = ratings.rename(columns={"user_id": "user", "movie_id": "item", "timestamp": "time"})
    # A movie without a date is on neither side of it: as one without a text, out and counted.
    data = splits.read(rows[["user", "item", "time"]], items.assign(text=text.mask(undated | late, "")))
    left_out["interactions_left_out"] = len(rows) - len(data.rows)
    known = movies.set_index("movie_id")
    lists = [list(cell) if np.iterable(cell) else [] for cell in data.items["id"].map(known["genres"])]
    names = sorted({genre for cell in lists for genre in cell})
    members = np.asarray([[genre in cell for genre in names] for cell in lists], dtype=bool)
    titles = data.items["id"].map(known["title"] if "title" in known else known.index.to_series())
    shaped = members.reshape(len(lists), len(names))
    return Catalogue(data, list(map(str, titles)), shaped, names, left_out, checksums)
