"""Tokenise a split once: every further run on the same examples with the same tokenizer reads its features."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.data.splits import content
from minilm_lab.locks import locked
from minilm_lab.tasks import feature_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.splits import Splits
    from minilm_lab.tasks.base import Task
    from minilm_lab.tasks.batching import Samples

log = logging.getLogger(__name__)

#: Goes up whenever the same task, examples and tokenizer give other features than before.
FORMAT = 2
#: What decides tokens beside the rules of a fast tokenizer.
_DECIDING = (
    "model_input_names",
    "padding_side",
    "truncation_side",
    "pad_token_id",
    "cls_token_id",
    "sep_token_id",
)


class FeatureCache:
    """``Task.featurize`` through ``<cache>/features/<key>/`` for one tokenizer.

    The key is a checksum of the task's settings, the examples, the tokenizer's rules and the libraries' versions.
    Features that are broken or cut short are made again; of several processes that need the same ones, one makes
    them and the others wait. What cannot be stored, or has no key, is made without the cache.
    """

    def __init__(self, cache: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.folder, self.tokenizer = Path(cache) / "features", tokenizer
        self.rules = _rules(tokenizer)

    def featurize(self, task: Task, splits: Splits, name: str) -> Samples:
        """See ``Task.features``. Its warnings are given again when features come from the cache."""
        key = self.key(task, splits, name)
        if key is None:
            return task.features(splits, name, self.tokenizer)
        place = self.folder / key
        found = _opened(place)
        if found is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                with locked(
                    self.folder / f"{key}.lock", f"Another process tokenises '{task.name}'; waiting for it."
                ):
                    found = _opened(place)
                    if found is None:
                        return self._make(place, task, splits, name)
            except _Unwritable as error:
                log.warning("paths.cache: the tokens of '%s' are not kept: %s", task.name, error)
                return error.features
            except OSError as error:
                log.warning("paths.cache: the tokens of '%s' are not kept: %s", task.name, error)
                return task.features(splits, name, self.tokenizer)
        features, notes = found
        for warning in notes["warnings"]:
            log.warning("%s", warning)
        return features

    def key(self, task: Task, splits: Splits, name: str) -> str | None:
        """32 hexadecimal digits, or None where something that decides the features has no checksum."""
        if self.rules is None:
            return None
        what = [
            FORMAT,
            self.rules,
            name == "train",
            f"{type(task).__module__}:{type(task).__qualname__}",
            task.identity(),
            splits.labels,
            content(splits.named(name)),
        ]
        try:
            text = json.dumps(what, sort_keys=True)
        except (TypeError, ValueError):
            return None
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _make(self, place: Path, task: Task, splits: Splits, name: str) -> Samples:
        """Tokenise and keep; the caller holds the lock."""
        with _warnings() as given:
            features = task.features(splits, name, self.tokenizer)
        partial = place.with_name(f"{place.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir()
            feature_files.write(partial, features, {"task": task.name, "warnings": given})
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
        except feature_files.CannotStore as reason:
            log.debug("features of %s are not kept: %s", task.name, reason)
        except OSError as error:
            raise _Unwritable(error, features) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return features


class _Unwritable(Exception):
    """The features were made and could not be kept."""

    def __init__(self, error: OSError, features: Samples) -> None:
        super().__init__(error.strerror or str(error))
        self.features = features


def _opened(place: Path) -> tuple[Samples, dict[str, Any]] | None:
    if not place.is_dir():
        return None
    try:
        return feature_files.read(place)
    except feature_files.BrokenFiles as error:
        log.warning("The tokens in %s are broken (%s); they are made again.", place, error)
        return None


def _rules(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Checksum of all that decides this tokenizer's output; None for one in Python, whose rules are code."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    rules = json.loads(backend.to_str())
    for name in ("truncation", "padding"):  # left behind by the last call
        rules.pop(name, None)
    told = {name: getattr(tokenizer, name, None) for name in _DECIDING}
    versions = {name: metadata.version(name) for name in ("tokenizers", "transformers")}
    text = json.dumps([rules, told, versions, type(tokenizer).__name__], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the lab warns of meanwhile."""
    given: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(Exception):
                given.append(record.getMessage())

    keep = Keep(logging.WARNING)
    lab = logging.getLogger("minilm_lab")
    lab.addHandler(keep)
    try:
        yield given
    finally:
        lab.removeHandler(keep)
