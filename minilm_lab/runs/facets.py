"""A run's settings as people filter and group by them: `student.layers`, `objective.relations`, `task.name`, `seed`.

The what-config of a run says what makes its identity. A fine-tuning names its student there by a hash alone; its
facets have the settings of that student's distillation in full, and the short names of all parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def facets(
    what: Mapping[str, Any], names: Mapping[str, str], origin: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the settings of a run, nested by group; lists are texts, since dashboards cannot group by lists.

    Args:
        what: what makes the run's identity.
        names: short names of its parts: ``{"teacher": "all_minilm_l6", "task": "sst2", …}``.
        origin: of a fine-tuning, what was fine-tuned: ``{"kind", "run", "config"}``.
    """
    parts: dict[str, Any] = {}
    if origin is not None:
        made = dict(origin.get("config") or {})
        source = {"kind": origin.get("kind"), "run": origin.get("run")}
        if origin.get("kind") == "path":
            source, made = source | made, {}
        parts["source"] = source
        if "seed" in made:  # of the distillation; `seed` is the run's own
            parts["distillation"] = {"seed": made.pop("seed")}
        parts |= made
    parts |= {key: value for key, value in what.items() if key not in parts or key != "source"}
    for group, name in names.items():
        if isinstance(parts.get(group), Mapping):
            parts[group] = {"name": name, **parts[group]}
    return {key: _plain(value) for key, value in parts.items()}


def flatten(nested: Mapping[str, Any], before: str = "", separator: str = ".") -> dict[str, Any]:
    """Return ``{"student.layers": 3, …}`` for ``{"student": {"layers": 3}}``."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{before}{key}{separator}", separator)
        else:
            flat[f"{before}{key}"] = value
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if all(isinstance(item, (str, int, float)) for item in value):
            return ",".join(map(str, value))
        return json.dumps(value)
    return value
