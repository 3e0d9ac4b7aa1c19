"""Whether the hub answers: an error that it sends is an answer, an error on the way is none."""

from __future__ import annotations

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from minilm_lab import hub_access


def _not_found() -> RepositoryNotFoundError:
    request = httpx.Request("GET", "https://example.org")
    return RepositoryNotFoundError("404: no such repository", response=httpx.Response(404, request=request))


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize(
    "error, answers",
    [(None, True), (_not_found(), True), (ConnectionError("no route"), False), (TimeoutError(), False)],
    ids=["known", "not found", "no route", "time-out"],
)
def test_answers(kind: str, error: Exception | None, answers: bool, monkeypatch) -> None:
    asked = []

    def ask(_self: object, name: str, timeout: float) -> None:
        asked.append((name, timeout))
        if error is not None:
            raise error

    def other(*_: object, **__: object) -> None:
        pytest.fail("asked for the other kind")

    monkeypatch.setattr(huggingface_hub.HfApi, f"{kind}_info", ask)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info" if kind == "model" else "model_info", other)
    assert hub_access.answers("owner/name", kind) is answers
    assert hub_access.why_not("owner/name", kind) is error
    assert asked == [("owner/name", hub_access.TIMEOUT)] * 2
