"""Uploading, with a stand-in for the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalTokenNotFoundError

from minilm_lab.errors import LabError
from minilm_lab.exporting.push import check_login, push


class Hub:
    """Remembers what it was asked; raises `error` at the call named `at`."""

    endpoint = "https://hub.example"

    def __init__(self, at: str = "", error: Exception | None = None) -> None:
        self.at, self.error, self.calls = at, error, []

    def _called(self, name: str, *given: Any, **named: Any) -> None:
        self.calls.append((name, given, named))
        if name == self.at:
            assert self.error is not None
            raise self.error

    def whoami(self) -> None:
        self._called("whoami")

    def create_repo(self, repository: str, **named: Any) -> None:
        self._called("create_repo", repository, **named)

    def upload_folder(self, **named: Any) -> None:
        self._called("upload_folder", **named)


def test_a_repository_is_made_and_filled(tmp_path: Path) -> None:
    hub = Hub()
    assert push(tmp_path, "me/small", True, hub) == "https://hub.example/me/small"
    (made, given, settings), (filled, _, what) = hub.calls
    assert (made, given, settings) == ("create_repo", ("me/small",), {"private": True, "exist_ok": True})
    assert filled == "upload_folder"
    assert (what["repo_id"], what["folder_path"], what["repo_type"]) == ("me/small", tmp_path, "model")


@pytest.mark.parametrize("at", ["create_repo", "upload_folder"])
def test_an_upload_that_fails_says_how_to_try_again(at: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"push=me/small: .*the wire broke.*hf upload me/small {tmp_path}"):
        push(tmp_path, "me/small", True, Hub(at, ConnectionError("the wire broke")))


def test_not_logged_in() -> None:
    with pytest.raises(LabError, match=r"push=me/small: you are not logged in .*hf auth login"):
        check_login("me/small", Hub("whoami", LocalTokenNotFoundError("no token")))
    with pytest.raises(LabError, match=r"push=me/small: the hub does not let us in \(bad token\)"):
        check_login("me/small", Hub("whoami", PermissionError("bad token")))
    check_login("me/small", Hub())
