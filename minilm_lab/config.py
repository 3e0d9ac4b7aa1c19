"""From a composed Hydra config to typed objects: the dataclass is both the schema and the object.

Every group file names its dataclass with `_target_` and gives its fields. `build` checks the keys (and
names the nearest right one), converts the types through OmegaConf's structured configs and constructs the
dataclass, whose `__post_init__` refuses impossible values. Nothing here loads a model or reads data.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from omegaconf.resolvers import oc

from minilm_lab.errors import LabError, first_line, nearest
from minilm_lab.once import once
from minilm_lab.secrecy import check_name

_NO_DEFAULT = object()

#: Only classes of the lab are built from a config: a config is data, it must not run other code.
ALLOWED_PREFIX = "minilm_lab."
#: What an option of each group is: the class, or a class it extends (or, for loggers, the module it is in).
KINDS = {
    "adapter": "minilm_lab.models.adapters.Adapter",
    "assistant": "minilm_lab.models.assistant.Assistant",
    "corpus": "minilm_lab.data.corpus.Corpus",
    "evaluator": "minilm_lab.evaluation.base.Evaluator",
    "head": "minilm_lab.training.settings.Head",
    "impl": "minilm_lab.training.settings.Impl",
    "logger": "minilm_lab.training.loggers",
    "objective": "minilm_lab.objectives.base.Objective",
    "optim": "minilm_lab.training.settings.Optim",
    "paths": "minilm_lab.training.settings.Paths",
    "scale": "minilm_lab.training.settings.Scale",
    "student": "minilm_lab.models.student.Student",
    "task": "minilm_lab.tasks.base.Task",
    "teacher": "minilm_lab.models.teacher.Teacher",
    "trainer": "minilm_lab.training.settings.TrainerSettings",
    "tune": "minilm_lab.training.settings.Tune",
}


def _environment(name: str, default: Any = _NO_DEFAULT) -> Any:
    check_name(name)
    return oc.env(name) if default is _NO_DEFAULT else oc.env(name, default)


# ${oc.env:NAME} reads settings, never secrets: what is in a config is written into records.
OmegaConf.register_new_resolver("oc.env", _environment, replace=True)


def locate(target: str, key: str) -> type[Any]:
    """Return the dataclass that the `_target_` of the group `key` names; LabError if there is none in the lab."""
    where = f"{key}._target_={target[:200]}"
    module, _, name = target.rpartition(".")
    # A part with an underscore in front is private; `minilm_lab.__main__` would even run a command.
    if not target.startswith(ALLOWED_PREFIX) or any(part.startswith("_") for part in target.split(".")):
        raise LabError(f"{where} is not part of the lab (it must start with '{ALLOWED_PREFIX}')")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LabError(f"{where} cannot be imported ({error})") from error
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise LabError(f"{where} is not a dataclass")
    if not found.__module__.startswith(ALLOWED_PREFIX):  # a library's, which a module of the lab imports
        raise LabError(f"{where} is {found.__module__}.{name}, which is not part of the lab")
    return found


def build(node: Any, key: str) -> Any:
    """Check the group `node` against its dataclass and return the object.

    `key` is where the group stands in the config ("teacher", "optim"); errors name it.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise LabError(f"{key}: choose a file of the group conf/{key} (got {node!r})")
    try:
        values = OmegaConf.to_container(node, resolve=True)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        where = f"{key}.{error.full_key}" if error.full_key else key
        raise LabError(f"{where}: {first_line(error)}") from error
    assert isinstance(values, dict)
    schema = locate(str(values.pop("_target_")), key)
    kind = KINDS.get(key)
    names = [f"{base.__module__}.{base.__qualname__}" for base in schema.__mro__]
    if kind is not None and not any(f"{name}.".startswith(f"{kind}.") for name in names):
        raise LabError(f"{key}._target_={names[0]} is no {key}; choose a file of the group conf/{key}")
    return once((schema, key, json.dumps(values, default=repr)), lambda: from_values(schema, values, key))


def section(cfg: DictConfig, key: str) -> Any:
    """`build` of the group `key` of a composed config, which may lack it or lead nowhere."""
    try:
        node = cfg.get(key)
    except OmegaConfBaseException as error:
        raise LabError(f"{key}: {first_line(error)}; choose a file of the group conf/{key}") from error
    return build(node, key)


def option(values: Mapping[str, Any], group: str, where: str) -> Any:
    """The object of a file of conf/`group` that stands inside of another option; `where` names it in messages."""
    settings = {str(key): value for key, value in values.items()}
    target = settings.pop("_target_", None)
    if target is None:
        raise LabError(f"{where} has no _target_; write {group}@{where}=<a file of conf/{group}>.")
    schema = locate(str(target), where)
    if KINDS[group] not in [f"{base.__module__}.{base.__qualname__}" for base in schema.__mro__]:
        raise LabError(f"{where}={target} is not a {group}.")
    return from_values(schema, settings, where)


def from_values(schema: type[Any], values: Mapping[Any, Any], key: str) -> Any:
    """Construct the dataclass `schema` from plain `values`; every error names the key and its value."""
    known = {field.name: field for field in dataclasses.fields(schema) if field.init}
    for name in values:
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise LabError(f"{key}.{name}: no such setting.{nearest(str(name), known)} {key} has: {allowed}")
    for name, field in known.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if (values.get(name, field.default) == MISSING) or (required and name not in values):
            raise LabError(f"{key}.{name} must be given, for example {key}.{name}=…")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), dict(values))
        container = OmegaConf.to_container(merged)
        _check_finite(container, key)
        _check_words(values, container, key)
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise _explained(error, values, key) from error


def _check_finite(value: Any, key: str) -> None:
    """Refuse NaN and infinity, which compare with limits in surprising ways, wherever a number stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_finite(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_finite(inner, f"{key}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise LabError(f"{key}={value} must be a finite number")


def _check_words(given: Any, read: Any, key: str) -> None:
    """Refuse a truth value where a word stands: YAML makes one of `no`, `yes`, `on` and `off`."""
    if isinstance(given, Mapping) and isinstance(read, dict):
        for name in given:
            _check_words(given[name], read.get(name), f"{key}.{name}")
    elif isinstance(given, list) and isinstance(read, list):
        for number, pair in enumerate(zip(given, read, strict=True)):
            _check_words(*pair, f"{key}[{number}]")
    elif isinstance(given, bool) and isinstance(read, str):
        raise LabError(
            f"{key}={given}: a word is wanted, and YAML reads yes, no, on, off, true and false as truth values. "
            f"Put it in quotation marks: 'no'."
        )


def _explained(error: OmegaConfBaseException, values: Mapping[Any, Any], key: str) -> LabError:
    """The LabError for what OmegaConf found wrong in `values`, at whatever depth."""
    path = re.findall(r"[^.\[\]]+", str(error.full_key or ""))
    where = ".".join([key, *path])
    if isinstance(error, MissingMandatoryValue):
        return LabError(f"{where} must be given, for example {where}=…")
    if isinstance(error, ConfigKeyError) and error.parent_node is not None:
        known = [str(name) for name in error.parent_node]
        parent = where.rpartition(".")[0]
        hint = nearest(path[-1], known)
        return LabError(f"{where}: no such setting.{hint} {parent} has: {', '.join(sorted(known))}")
    value = _value_at(values, path)
    if isinstance(value, (str, int, float)) and "is not a ListConfig" in str(error):
        said = _short(str(value))
        return LabError(f"{where}={said}: a list is wanted; write '{where}=[{said}]'")
    return LabError(f"{where}={_short(repr(value))}: {_short(first_line(error))}")


def _value_at(values: Any, path: Sequence[str]) -> Any:
    for step in path:
        try:
            values = values[int(step)] if isinstance(values, list) else values[step]
        except (KeyError, IndexError, TypeError, ValueError):
            break
    return values


def _short(text: str, most: int = 500) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(thing: Any) -> Any:
    """Turn dataclasses (nested, in lists and dicts) into plain containers that JSON can write."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: plain(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {str(k): plain(v) for k, v in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(v) for v in thing]
    return thing
