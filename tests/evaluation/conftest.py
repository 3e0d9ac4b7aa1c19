"""The place of real data, as the tests of tasks know it."""

from tasks.conftest import shared_hub

__all__ = ["shared_hub"]
