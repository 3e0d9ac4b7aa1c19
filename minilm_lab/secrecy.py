"""Keys of services stay in the environment: no config, record or message of a run may hold one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from minilm_lab.errors import LabError

#: Names of environment variables that hold secrets: WANDB_API_KEY, HF_TOKEN, AWS_SECRET_ACCESS_KEY, DB_PASSWORD …
SECRET = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASS|CREDENTIALS?)(_|$)", re.IGNORECASE)
#: A shorter value ("1", "true") is no key, and may well be part of a harmless setting.
SHORTEST = 8


def secrets() -> dict[str, str]:
    """Environment variable -> value, of those that hold a secret."""
    return {
        name: value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST
    }


def without_secrets(text: str) -> str:
    """Return `text` with the values of secrets replaced by their names."""
    for variable, value in secrets().items():
        text = text.replace(value, f"<{variable}>")
    return text


def check_name(variable: str) -> None:
    """Refuse to read a secret into a config."""
    if SECRET.search(variable):
        raise LabError(
            f"${{oc.env:{variable}}}: a config is written into records, and {variable} holds a secret; "
            "the libraries read it from the environment by themselves"
        )


def check_config(values: Any, key: str = "") -> None:
    """Raise LabError if a key or a text of a plain config holds the value of a secret; it names the setting."""
    hidden = secrets()
    if hidden:
        _check(values, key, hidden)


def _check(values: Any, key: str, hidden: Mapping[str, str]) -> None:
    if isinstance(values, Mapping):
        for name, inner in values.items():
            _check(str(name), f"a key of {key or 'the config'}", hidden)
            _check(inner, f"{key}.{name}" if key else str(name), hidden)
    elif isinstance(values, (list, tuple)):
        for number, inner in enumerate(values):
            _check(inner, f"{key}[{number}]", hidden)
    elif isinstance(values, str):
        for variable, value in hidden.items():
            if value in values:
                raise LabError(
                    f"{key} holds the value of {variable}, a secret that would be written into records; take it out"
                )
