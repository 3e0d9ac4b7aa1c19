"""Tells at the end how many cases the fuzz tests tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .fuzzing import Count


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Iterator[Count]:
    """Counts cases."""
    counted = Count(request)
    yield counted
    counted.tell()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line a test that counts."""
    found: dict[str, dict[str, int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            properties = dict(getattr(report, "user_properties", ()))
            if "cases" in properties:
                found[report.nodeid] = properties
    if found:
        terminalreporter.section("cases tried")
        for name, told in sorted(found.items()):
            terminalreporter.line(f"{told['cases']:>6} cases, {told['refused']:>6} refused in words  {name}")
        terminalreporter.line(f"{sum(told['cases'] for told in found.values()):>6} cases in all")
