"""Upload an exported folder to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from minilm_lab.errors import LabError, first_line


def check_login(repository: str, api: Any = None) -> None:
    """Raise LabError unless the hub knows who we are."""
    try:
        (api or HfApi()).whoami()
    except LocalTokenNotFoundError as error:
        raise LabError(
            f"push={repository}: you are not logged in to the hub; run `hf auth login` or set HF_TOKEN"
        ) from error
    except Exception as error:  # also the HTTP library's own errors, which huggingface_hub does not wrap
        raise LabError(f"push={repository}: the hub does not let us in ({first_line(error)})") from error


def push(folder: Path, repository: str, private: bool, api: Any = None) -> str:
    """Upload `folder` to the model repository `repository` (made if need be) and return its address."""
    api = api or HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Export of minilm-lab", repo_type="model"
        )
    except Exception as error:  # as above
        kind = "" if isinstance(error, HfHubHTTPError) else f"{type(error).__name__}: "
        raise LabError(
            f"push={repository}: the upload failed ({kind}{first_line(error)}). {folder} is whole; try again "
            f"with `hf upload {repository} {folder}`"
        ) from error
    return f"{getattr(api, 'endpoint', 'https://huggingface.co')}/{repository}"
