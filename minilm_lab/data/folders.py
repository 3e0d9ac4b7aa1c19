"""Which files of a folder hold data, and of which split; what is passed over is said, with counts."""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from minilm_lab.data.formats import TABLES, kind_of, plain_name
from minilm_lab.data.glue import SPLITS
from minilm_lab.errors import LabError, nearest

log = logging.getLogger(__name__)

WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Split -> the words in the name of a file that say so."""
_SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})")
_COPY = re.compile(
    r"(?P<of>.+?)(?: ?\(\d+\)| - copy.*|[-_. ](?:copy|old|bak|backup|orig|kopie|copie)\d*(?: \d+)?)", re.I
)
_OLD_FOLDERS = {"old", "bak", "backup", "backups", "archive", "copy", "tmp", "trash"}
_NO_DATA = {
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
    "state.json",
    "readme.md",
    "license.md",
}
_HIDDEN = (".", "__")


def data_files(folder: Path, kinds: Collection[str]) -> list[Path]:
    """Return the files below `folder` that hold data of these kinds, by name.

    Hidden files and folders, and copies of a file that is there too ("train (1).csv", "train_old.csv", "old/train.csv"),
    are passed over. Copies, and files of other kinds, are said with their number.
    """
    everything = sorted(
        (file for file in folder.rglob("*") if not _is_hidden(file.relative_to(folder)) and file.is_file()),
        key=lambda file: file.relative_to(folder).as_posix(),
    )
    names = set(everything)
    data = [file for file in everything if kind_of(file) in kinds and file.name.lower() not in _NO_DATA]
    copies = [file for file in data if _copy_of(file, names)]
    others = Counter(file.suffix or file.name for file in everything if kind_of(file) is None)
    if copies:
        _say(folder, copies, "copies of files that are there too")
    if others and data:
        kinds_said = ", ".join(f"{count} {ending}" for ending, count in others.most_common(5))
        log.warning("%s: %d files of other kinds are passed over: %s.", folder, others.total(), kinds_said)
    return [file for file in data if file not in set(copies)]


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(_HIDDEN) or part == "Thumbs.db" for part in name.parts)


def _copy_of(file: Path, names: Collection[Path]) -> bool:
    """Whether this is by its name an older or a second state of another file."""
    found = _COPY.fullmatch(plain_name(file))
    endings = file.name[len(plain_name(file)) :]
    if found is not None and file.with_name(found["of"] + endings) in names:
        return True
    if file.name.lower().startswith("copy of ") and file.with_name(file.name[8:]) in names:
        return True
    return file.parent.name.lower() in _OLD_FOLDERS and file.parent.parent / file.name in names


def _say(folder: Path, files: list[Path], why: str) -> None:
    shown = ", ".join(str(file.relative_to(folder)) for file in files[:5])
    log.warning(
        "%s: %d %s are passed over: %s%s.", folder, len(files), why, shown, ", …" if len(files) > 5 else ""
    )


def splits_of_folder(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each split, by the words in their names or else in those of their folders.

    A file that is called after the split alone (train.csv) is all of it: others (train_2.csv) are passed over, and
    said; so are files deeper down. Where no name says anything, all files are "train".
    Raises LabError where a split is there in two kinds of files: nobody says which is meant.
    """
    files = data_files(folder, {"csv", "tsv", "json", "parquet"})
    found: dict[str, list[Path]] = defaultdict(list)
    nameless: list[Path] = []
    for file in files:
        split = _split_of(file, folder)
        (nameless if split is None else found[split]).append(file)
    if not found:
        if len(nameless) > 1:
            shown = ", ".join(file.name for file in nameless[:5])
            log.warning(
                "%s: no name says a split, so all %d files are 'train': %s.", folder, len(nameless), shown
            )
        return {"train": nameless} if nameless else {}
    over = list(nameless)
    for split, candidates in found.items():
        depth = min(len(file.parts) for file in candidates)
        same = [file for file in candidates if len(file.parts) == depth]
        words = WORDS.get(split, (split,))
        exact = [
            file for file in same if plain_name(file).lower() in words or _SHARD.fullmatch(plain_name(file))
        ]
        taken = exact or same
        over += [file for file in candidates if file not in taken]
        kinds = sorted({file.name[len(plain_name(file)) :].lower() for file in taken})
        if len(kinds) > 1:
            raise LabError(
                f"{folder} has the split '{split}' as files of several kinds ({', '.join(kinds)}): "
                f"{', '.join(file.name for file in taken[:5])}. Name the file that is meant, or remove the other."
            )
        _check_versions(folder, split, taken)
        _check_shards(folder, split, taken)
        found[split] = taken
    if over:
        _say(folder, sorted(over), f"files that belong to no split of {', '.join(found)}")
    order = [*WORDS, *sorted(set(found) - set(WORDS))]
    return {split: found[split] for split in order if split in found}


def _split_of(file: Path, folder: Path) -> str | None:
    names = [plain_name(file), *reversed(file.relative_to(folder).parent.parts)]
    for name in names:
        shard = _SHARD.fullmatch(name)
        stem = name if shard is None else shard["split"]
        if stem in SPLITS:
            return SPLITS[stem]
        parts = re.split(r"[\W\d_]+", stem.lower())
        words = [split for part in parts for split, known in WORDS.items() if part in known]
        if shard is not None and (not words or len(parts) > 1):
            return stem  # the hub's names of parts say the split: validation_matched-00000-of-00001
        if words:
            return words[0]
    return None


def _check_versions(folder: Path, split: str, files: list[Path]) -> None:
    names = {file.with_name(re.sub(r"[-_]v\d[\d.]*$", "", plain_name(file))) for file in files}
    if len(names) < len(files):
        raise LabError(
            f"{folder} has the split '{split}' in several versions: {', '.join(file.name for file in files[:5])}. Name "
            f"the file that is meant, or give each version a folder of its own."
        )


def _check_shards(folder: Path, split: str, files: list[Path]) -> None:
    shards = [found for file in files if (found := _SHARD.fullmatch(plain_name(file)))]
    wanted = {int(shard["count"]) for shard in shards}
    if shards and (len(wanted) > 1 or len(shards) != next(iter(wanted))):
        log.warning(
            "%s: the split '%s' is %d files, and their names speak of %s.",
            folder,
            split,
            len(shards),
            " or ".join(map(str, sorted(wanted))),
        )


def card_of(folder: Path) -> dict[str, Any]:
    """The YAML at the head of a folder's README.md; empty where there is none."""
    import yaml

    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    text = readme.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return {}
    try:
        card = yaml.safe_load(text.split("\n---", 1)[0].removeprefix("---"))
    except yaml.YAMLError as error:
        raise LabError(f"{readme}: its head is no YAML ({' '.join(str(error).split())[:200]}).") from error
    return card if isinstance(card, dict) else {}


def splits_of_card(
    folder: Path, configs: list[Mapping[str, Any]], name: str | None, key: str
) -> dict[str, list[Path]]:
    """Return the files of each split of one configuration of a folder in the hub's layout.

    configs: as its README.md lists them; name: None = the only one, or the default; key: the setting, for errors.
    """
    known = {str(config.get("config_name", "default")): config for config in configs}
    chosen = name or next((n for n, config in known.items() if config.get("default") or n == "default"), None)
    chosen = chosen or (next(iter(known)) if len(known) == 1 else None)
    if chosen not in known:
        raise NoSuchConfigError(
            f"{key}config={name}: {folder} has no such configuration; it has: {', '.join(known)}."
            f"{nearest(str(name), known)}"
        )
    config = known[chosen]
    root = folder / str(config.get("data_dir", ""))
    patterns = config.get("data_files")
    if patterns is None:
        return splits_of_folder(root)
    return {split: _matching(root, chosen, split, given) for split, given in _by_split(patterns)}


class NoSuchConfigError(LabError):
    """The data set is there, but it has no configuration of this name."""


def _by_split(patterns: Any) -> Iterator[tuple[str, list[str]]]:
    if isinstance(patterns, str):
        patterns = [patterns]
    if isinstance(patterns, Mapping):
        patterns = [{"split": split, "path": path} for split, path in patterns.items()]
    if all(isinstance(entry, str) for entry in patterns):
        patterns = [{"split": "train", "path": patterns}]
    for entry in patterns:
        path = entry["path"]
        yield str(entry["split"]), [path] if isinstance(path, str) else list(path)


def _matching(root: Path, config: str, split: str, patterns: list[str]) -> list[Path]:
    """The files that the patterns of a README.md name; the folder itself is a path, whatever its name has in it."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        pattern = f"{pattern}/*" if pattern.endswith("**") else pattern
        found |= dict.fromkeys(
            f for f in sorted(root.glob(pattern)) if f.is_file() and not _is_hidden(f.relative_to(root))
        )
    if not found:
        raise LabError(
            f"{root}: README.md names {patterns} for '{split}' of '{config}', and no file is called so."
        )
    wrong = [
        file.name
        for file in found
        if not file.name.lower().endswith(TABLES) and kind_of(file) in (None, "text")
    ]
    if wrong:
        raise LabError(
            f"{root}: files of this kind cannot be read: {wrong[0]}; they end in {', '.join(TABLES)}."
        )
    return list(found)
