"""Look into a checkpoint without loading it: names of its tensors, and single small ones."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minilm_lab import hub_access
from minilm_lab.errors import LabError
from minilm_lab.models.resolve import Model
from minilm_lab.runs.files import read_json


def tensor_files(origin: Model) -> dict[str, str] | None:
    """Name of each tensor of a checkpoint -> the safetensors file that holds it.

    None where that cannot be told without loading the weights: another format, or a hub that does not answer.
    """
    if origin.folder is None:
        return _on_hub(origin)
    index = read_json(origin.folder / "model.safetensors.index.json")
    if isinstance(index, dict):
        return dict(index.get("weight_map", {}))
    file = origin.folder / "model.safetensors"
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stream:
            return dict.fromkeys(stream.keys(), file.name)
    except (OSError, SafetensorError) as error:
        raise _unreadable(file, error) from error


def _on_hub(origin: Model) -> dict[str, str] | None:
    if hub_access.offline() or not hub_access.answers(origin.where, "model"):
        return None
    try:
        found = HfApi().get_safetensors_metadata(
            origin.where, revision=origin.revision, timeout=hub_access.TIMEOUT
        )
    except (HfHubHTTPError, OSError, ValueError, RuntimeError):  # no safetensors there
        return None
    return dict(found.weight_map)


def read_tensors(folder: Path, files: dict[str, str], names: set[str]) -> dict[str, Tensor]:
    """Read the tensors `names`; `files` is what `tensor_files` answered for `folder`."""
    read = {}
    for name in sorted(names):
        file = folder / files[name]
        try:
            with safe_open(file, framework="pt") as stream:
                read[name] = stream.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise _unreadable(file, error) from error
    return read


def _unreadable(file: Path, error: Exception) -> LabError:
    return LabError(f"{file} cannot be read ({error}); save the model again with save_pretrained")
