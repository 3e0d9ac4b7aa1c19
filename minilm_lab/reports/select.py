"""Find runs by their settings (`student.layers:3`) or by their identity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from minilm_lab.errors import LabError, nearest
from minilm_lab.reports.records import Record
from minilm_lab.runs.facets import facets, flatten

_SHORTEST = 4
"""Shortest beginning of an identity that names a run."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C loader, where PyYAML has it, is ten times as fast."""


def settings(record: Record) -> dict[str, Any]:
    """Return a run's settings by dotted name, as W&B has them: ``{"student.layers": 3, "seed": 0, …}``.

    A fine-tuning has those of its student's distillation too, once it has completed. `experiment` is the one for
    which the run was made first, where that was recorded.
    """
    config = _config(record)
    what = record.get("config") or config.get("what") or {}
    names, origin = record.get("names") or {}, record.get("source")
    nested = facets(what, names, origin) if isinstance(what, Mapping) else {}
    asked = (config.get("how") or {}).get("asked") or {}
    experiment = asked.get("experiment_name") if isinstance(asked, Mapping) else None
    return {"command": record.command, "experiment": experiment, **flatten(nested)}


def matching(records: Iterable[Record], where: Sequence[str], experiment: str | None = None) -> list[Record]:
    """Return the runs with all the given settings.

    Args:
        records: the runs to choose from.
        where: conditions such as ``"student.layers:3"`` or ``"student.layers=3"``; a list is
            written ``qq.kk.vv`` or ``[qq,kk,vv]``.
        experiment: keep the runs that were made for this experiment.

    Raises:
        LabError: a condition is no ``key:value``, or no run has a setting of that name.
    """
    wanted = dict(_condition(text) for text in where)
    if experiment is not None:
        wanted["experiment"] = experiment
    if not wanted:
        return list(records)
    known = [(record, settings(record)) for record in records]
    keys = {key for _, values in known for key in values}
    for key in wanted:
        if known and key not in keys:
            raise LabError(f"where={key}:…: no run has a setting {key}.{nearest(key, keys)}")
    return [
        record
        for record, values in known
        if all(key in values and _text(values[key]) == _text(value) for key, value in wanted.items())
    ]


def named(records: Sequence[Record], names: Sequence[str]) -> list[Record]:
    """Return the runs with these identities (or beginnings of them, or names), in the order of `names`.

    Raises:
        LabError: a name fits no run, or several.
    """
    return [_named(records, str(name)) for name in names]


def _named(records: Sequence[Record], name: str) -> Record:
    exact = [record for record in records if name in (record.identity, record.folder.name)]
    begins = [r for r in records if len(name) >= _SHORTEST and r.identity.startswith(name)]
    fitting = exact or begins or [record for record in records if record.name == name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        shown = ", ".join(f"{record.identity} ({record.command} {record.name})" for record in fitting)
        raise LabError(f"'{name}' fits {len(fitting)} runs: {shown}; give the identity")
    choices = [text for record in records for text in (record.identity, record.name)]
    raise LabError(f"'{name}' is no run.{nearest(name, choices)} `minilm-lab runs` lists their identities")


def _condition(text: str) -> tuple[str, str]:
    # Hydra wants quotes around a value with "=" in it, and none around one with ":".
    condition = re.fullmatch(r"\s*([^=:\s]+)\s*[=:](.*)", str(text))
    if condition is None:
        raise LabError(f"where={text}: write a setting and its value, such as where=student.layers:3")
    return condition[1], condition[2]


def _text(value: object) -> str:
    """One spelling of a value: 1e-4 is 0.0001, `[qq,kk]` is qq,kk and qq.kk, null is none."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value).strip().strip("[]").replace(" ", "")
    try:
        return repr(float(text))
    except ValueError:
        return text.replace(".", ",")


def _config(record: Record) -> Mapping[str, Any]:
    try:
        config = yaml.load((record.folder / "config.yaml").read_bytes(), Loader=_LOADER)
    except (OSError, yaml.YAMLError, RecursionError):
        return {}
    return config if isinstance(config, Mapping) else {}
