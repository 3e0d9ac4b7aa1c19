"""How many cases a fuzz test tries, and how that is told: `--hypothesis-profile many` tries twenty times as many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

MANY = "many"
MANY_TIMES = 20
COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "print_blob": False,
    # Shrinking a case takes longer than finding it, and the cases are small.
    "phases": (Phase.explicit, Phase.generate),
}
settings.register_profile(MANY, **COMMON)


def cases(count: int) -> Callable[[Any], Any]:
    """Decorator: `count` examples, the same ones in every run; with the profile, many more and random ones."""
    many = settings.get_current_profile_name() == MANY
    return settings(max_examples=count * (MANY_TIMES if many else 1), derandomize=not many, **COMMON)


class Count:
    """Counts the cases of a test, for the line at the end of the run."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.properties: list[tuple[str, object]] = request.node.user_properties
        self.cases = self.refused = 0

    def case(self) -> None:
        """One more was tried."""
        self.cases += 1

    def refuse(self) -> None:
        """It was refused in words."""
        self.refused += 1

    def tell(self) -> None:
        """At the end of the test; reaches the terminal from other processes too."""
        self.properties += [("cases", self.cases), ("refused", self.refused)]
