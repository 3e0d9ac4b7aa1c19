"""A run is known by what it computes: a hash of its resolved what-config."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

FORMAT = 2
"""Raise when the meaning of a setting changes, so that old records are not taken for new ones."""


def identity_of(command: str, what: dict[str, Any]) -> str:
    """Return 10 hexadecimal digits for (command, what-config); the order of keys does not matter."""
    text = json.dumps(
        {"format": FORMAT, "command": command, "what": what}, sort_keys=True, ensure_ascii=False
    )
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def slug(*parts: object) -> str:
    """Join `parts` to a name that is safe as a folder: letters, digits, '-', '_' and '.', 80 at most."""
    joined = "-".join(str(part) for part in parts if part not in (None, ""))
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", joined).strip("-.")[:80].rstrip("-.") or "run"
