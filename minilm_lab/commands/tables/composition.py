"""Configs under many lists of overrides that are mostly the same: each group's choice is composed once.

A group's file writes to the group's own key, and plain values come after all groups, in their order. So what Hydra composes of
many words is, key by key, what it composes of one choice at a time. Other words (`experiment=`, whose files write
everywhere, `+key`, `~key`, `objective=[a,b]`) are left to Hydra, with all words at once where that is not sure.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from minilm_lab.commands.composing import COMPOSITION_ERRORS, compose_command, conf_folder

GLOBAL = "experiment"
"""The group whose files write into the whole config."""


class Composer:
    """Composes configs of a command; what it composed it keeps."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._groups = {path.name for path in conf_folder().iterdir() if path.is_dir()}
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        """By the words that write everywhere."""
        self._parts: dict[tuple[str, ...], DictConfig] = {}
        """By these and the choice of the group."""

    def compose(self, words: Sequence[str]) -> DictConfig:
        """The config that `compose_command` gives, a new one each time; LabError explains a bad override."""
        shared = [word for word in words if word.startswith(f"{GLOBAL}=")]
        choices = {
            name: word for word in words if (name := word.partition("=")[0]) in self._groups - {GLOBAL}
        }
        values = [word for word in words if word not in shared and word not in choices.values()]
        values = [word for word in values if word.partition("=")[0] not in choices]
        if all(map(_is_choice, choices.values())) and all(map(_is_value, values)):
            cfg = copy.deepcopy(self._base(shared))
            for name, part in self._chosen(shared, choices).items():
                cfg[name] = part
            if all(_applied(cfg, word) for word in values):
                return cfg
        return compose_command(self._command, words)

    def variants(
        self, words: Sequence[str], settings: Sequence[tuple[str, ...]]
    ) -> Iterator[tuple[tuple[str, ...], DictConfig]]:
        """Each of `settings`, which all set the same keys, and the config of `words` with it, valid until the next one."""
        cfg = self.compose(words)
        for setting in settings:
            plain = all(_is_value(word) and word.partition("=")[0] not in self._groups for word in setting)
            if not (plain and all(_applied(cfg, word) for word in setting)):
                cfg = self.compose([*words, *setting])
            yield setting, cfg

    def _base(self, shared: Sequence[str]) -> DictConfig:
        if tuple(shared) not in self._bases:
            self._bases[tuple(shared)] = compose_command(self._command, shared)
        return self._bases[tuple(shared)]

    def _chosen(self, shared: Sequence[str], choices: Mapping[str, str]) -> dict[str, DictConfig]:
        """The part of each group that is chosen; those that are new are composed together."""
        keys = {name: (*shared, choice) for name, choice in choices.items()}
        if new := [name for name, key in keys.items() if key not in self._parts]:
            cfg = compose_command(self._command, [*shared, *(choices[name] for name in new)])
            self._parts |= {keys[name]: cfg[name] for name in new}
        return {name: self._parts[key] for name, key in keys.items()}


def _is_choice(word: str) -> bool:
    return re.fullmatch(r"[a-z_]+=\w+", word) is not None


def _is_value(word: str) -> bool:
    return re.match(r"[a-z_]+(\.\w+)*=", word) is not None


def _applied(cfg: DictConfig, word: str) -> bool:
    """Set a value as Hydra would; False if there is something wrong with it, which Hydra then explains."""
    try:
        override = _parsed(word)
        if override.is_sweep_override():
            return False
        OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
    except COMPOSITION_ERRORS:
        return False
    return True


@lru_cache(maxsize=4096)
def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)
