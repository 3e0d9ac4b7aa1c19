"""Compose configs, and explain in one line what is wrong with an override."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minilm_lab.commands.trust import guard_hydra
from minilm_lab.errors import LabError, nearest
from minilm_lab.paths import is_there

# Whoever composes imports this module: nothing is composed unchecked.
guard_hydra()

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException)


FORMER = {"probe": "evaluator", "task@probe.task": "evaluator (task@evaluator.task=…)"}
"""Former name of a group -> its name."""


def conf_folder() -> Path:
    """The folder of configs: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    raise LabError(f"the configs are missing beside {package}; install the lab again (pip install -e .)")


def compose_command(command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the config of a command as the command line would; LabError explains a bad override."""
    try:
        return _compose(command, overrides)
    except COMPOSITION_ERRORS as error:
        raise LabError(explain(error, command, overrides)) from error


def _compose(command: str, overrides: Sequence[str]) -> DictConfig:
    # Inside a running Hydra job the global state belongs to that job: put it back afterwards.
    instance = GlobalHydra.instance()
    outer = instance.hydra
    instance.clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name=command):
            return compose(command, overrides=expand(of_command(command, overrides)))
    finally:
        instance.hydra = outer


def of_command(command: str, words: Sequence[str]) -> list[str]:
    """The words of `author` and `inspect` as Hydra takes them, others' as they are.

    The `task` of `author` is one of a shop's five, not of the group of what is trained; and its features are texts, whatever is in them.
    """
    if command == "inspect":  # a task is there only where one is named
        return [f"+{word}" if word.startswith("task=") else word for word in words]
    if command != "author":
        return list(words)
    from minilm_lab.studies.authoring.spec import FEATURES

    return [_of_author(word, FEATURES) for word in words]


def _of_author(word: str, features: Container[str]) -> str:
    key, equals, value = word.partition("=")
    if key == "task" and equals:
        return f"write={value}"
    quoted = len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]
    if key not in features or quoted or value in ("", "null"):
        return word
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    # "${" would be read as a reference to another setting.
    return f"{key}='" + escaped.replace("${", "\\${") + "'"


def expand(overrides: Sequence[str]) -> list[str]:
    """Write `objective=[a,b]` as Hydra takes it: the objective `sum` with the terms a and b."""
    words: list[str] = []
    for word in map(_as_path, overrides):
        if word.startswith("where="):  # Hydra wants quotes around a value with "=" in it
            word = "where=" + word.removeprefix("where=").replace("=", ":")
        if word.startswith("--experimental-rerun"):
            raise LabError(
                f"{word}: Hydra would run a pickle file; use `minilm-lab rerun run=<folder or identity>`"
            )
        if settings := _of_mapping(word):
            words += settings
            continue
        found = re.fullmatch(r"objective=\[([^\]]*)\]", word.replace(" ", ""))
        if found is None:
            _check_choice(word)
            words.append(word)
            continue
        names = [name for name in found.group(1).split(",") if name]
        if len(set(names)) != len(names) or not names:
            raise LabError(f"{word}: give different objectives, such as objective=[minilmv2,mlm_kd]")
        for name in names:
            _check_choice(f"objective={name}")
        words.append("objective=sum")
        words += [f"+objective@objective.terms.{name}={name}" for name in names]
        words += [f"+objective.weights.{name}=1.0" for name in names]
    return words


def _of_mapping(word: str) -> list[str]:
    """`task.extra_splits={test: test}` as `++task.extra_splits.test='test'`, a word an entry; nothing of any other word.

    Hydra would refuse entries that the config does not name yet, though a mapping is there to be given some.
    """
    if not re.fullmatch(r"[\w.@+]+=\{.*\}", word, re.DOTALL):
        return []
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException:  # it is explained later
        return []
    value: Any = override._value  # with its quotes
    if not isinstance(value, dict) or not all(re.fullmatch(r"\w+", str(name)) for name in value):
        return []  # such as choose={tune.lr: […]}, whose names are settings

    def entries(key: str, value: dict[Any, Any]) -> Iterator[str]:
        for name, inner in value.items():
            if isinstance(inner, dict) and inner:
                yield from entries(f"{key}.{name}", inner)
            else:
                yield f"++{key}.{name}={Override._get_value_element_as_str(inner)}"

    return list(entries(override.get_key_element().lstrip("+"), value))


_PATHS = re.compile(
    r"(\+{0,2}(?:[\w@]+\.)*(?:\w*path|source|out|run|against)|paths\.\w+|tune\.teacher)=(.+)", re.DOTALL
)
"""Settings whose value is a path, or may be one."""


def _as_path(word: str) -> str:
    """Quote a path that Hydra would read as something else: with spaces, commas, brackets, "=", letters of any script."""
    match = _PATHS.fullmatch(word)
    if match is None or match[2][0] in "'\"":
        return word
    value = str(Path(match[2]).expanduser()) if match[2].startswith("~") else match[2]
    try:
        plain = OverridesParser.create().parse_override(f"{match[1]}={value}").value()
        if plain == value or not is_there(Path(value)):  # such as two names to sweep over
            return f"{match[1]}={value}"
    except HydraException:
        pass
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{match[1]}='{escaped}'"


def _check_choice(word: str) -> None:
    """Refuse `teacher=5`, at which Hydra stumbles: the options of a group are names."""
    found = re.fullmatch(r"\+{0,2}([a-z_]+)(@[\w.]*)?=(.*)", word, re.DOTALL)
    if found is None or not (conf_folder() / found[1]).is_dir():
        return
    try:
        value = OverridesParser.create().parse_override(f"{found[1]}={found[3]}").value()
    except HydraException:  # it is explained later
        return
    wrong = [one for one in (value if isinstance(value, list) else [value]) if not isinstance(one, str)]
    if wrong and wrong != [None] and not isinstance(value, Sweep):
        options = [file.stem for file in (conf_folder() / found[1]).glob("*.yaml")]
        raise LabError(f"{word}: {_options(found[1], options)}; choose one by its name")


def explain(error: BaseException, command: str, overrides: Sequence[str]) -> str:
    """Say what is wrong and what would be right."""
    if isinstance(error, OverrideParseException):
        return f"the override '{error.override}' cannot be parsed; write group=option or group.key=value"
    if isinstance(error, MissingConfigException) and error.options is not None:
        missing = str(error.missing_cfg_file).split("/")
        group, option = "/".join(missing[:-1]), missing[-1]
        options = _public(error.options)
        return f"{group}={option}: no such option.{nearest(option, options)} {_options(group, options)}"
    text = str(error)
    if found := re.search(r"Could not override '([^']+)'", text):
        if found.group(1) in FORMER:
            return f"{found.group(1)}: this group is called {FORMER[found.group(1)]} now"
        return _unknown_key(found.group(1), command, overrides)
    if found := re.search(r"(?:Key|in) '?([\w.]+)'? is not in struct", text):
        return _unknown_key(found.group(1), command, overrides)
    if text.startswith("Error merging override") and error.__cause__ is not None:
        return f"{text.splitlines()[0]}: {str(error.__cause__).splitlines()[0]}"
    return text.splitlines()[0]


def _options(group: str, options: Sequence[str]) -> str:
    return f"conf/{group} has: {', '.join(_public(options))}"


def _public(options: Sequence[str]) -> list[str]:
    """Without the files that only others build on, such as conf/task/_glue.yaml."""
    return sorted(name for name in options if not name.startswith("_"))


def _groups(choices: Mapping[str, str | None]) -> str:
    """What `--help` says: the groups that this command reads and their options, the chosen one in brackets.

    `${groups:${hydra.runtime.choices}}` in conf/base.yaml. Hydra's own list has every group of every command.
    """
    loader = GlobalHydra.instance().config_loader()
    lines = []
    for group, chosen in sorted(choices.items()):
        if re.fullmatch(r"[a-z_]+", group):  # not hydra/launcher, nor objective@objective.terms.minilm
            options = _public(loader.get_group_options(group))
            named = (f"[{name}]" if name == chosen else name for name in options)
            lines.append(f"{group}: {', '.join(named)}")
    return "\n".join(lines)


OmegaConf.register_new_resolver("groups", _groups, replace=True)


def _unknown_key(key: str, command: str, overrides: Sequence[str]) -> str:
    groups = sorted(p.name for p in conf_folder().iterdir() if p.is_dir())
    chosen = [word for word in overrides if word.split("=")[0] in groups]
    try:
        composed = _compose(command, chosen)
    except (LabError, *COMPOSITION_ERRORS):  # not explained in its turn: it may be this very word
        composed = _compose(command, [])
    keys = sorted(_keys(OmegaConf.to_container(composed, resolve=False)))
    name = key.split("@")[0]
    parent, _, last = name.rpartition(".")
    split = [k.rpartition(".") for k in keys]
    siblings = [own for above, _, own in split if above == parent and own != "_target_"]
    if not parent:
        hint = nearest(name, {*groups, *siblings})
        return f"{name}: no such group or setting.{hint} Groups: {', '.join(groups)}"
    if siblings:
        return f"{name}: no such setting.{nearest(last, siblings)} {parent} has: {', '.join(siblings)}"
    return f"{name}: no such setting.{nearest(name, keys)}"


def _keys(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    found = []
    for name, inner in value.items():
        found.append(f"{prefix}{name}")
        found.extend(_keys(inner, f"{prefix}{name}."))
    return found
