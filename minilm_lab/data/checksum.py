"""Checksum of settings (BLAKE2b)."""

from __future__ import annotations

import hashlib
import json


def settings_checksum(settings: object) -> str:
    """Return 32 hexadecimal digits that depend on the JSON value `settings`, not on the order of its keys."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
