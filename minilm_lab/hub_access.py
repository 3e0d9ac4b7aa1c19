"""Ask the model and data hub once whether it answers: its clients retry for half a minute without a network."""

from __future__ import annotations

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

#: Seconds that the hub has to answer.
TIMEOUT = 10.0


def offline() -> bool:
    """Whether the user asked for offline mode (HF_HUB_OFFLINE=1): only what was loaded before is there."""
    return bool(constants.HF_HUB_OFFLINE)


def why_not(name: str, kind: str) -> Exception | None:
    """Return None if the hub knows `name` (`kind`: "model" or "dataset"), else the error that says why not."""
    api = HfApi()
    ask = api.dataset_info if kind == "dataset" else api.model_info
    try:
        ask(name, timeout=TIMEOUT)
    except Exception as error:  # also the HTTP library's own errors, which huggingface_hub does not wrap
        return error
    return None


def answers(name: str, kind: str) -> bool:
    """Whether the hub can be reached at all; an error that it sends is an answer too."""
    error = why_not(name, kind)
    return error is None or isinstance(error, HfHubHTTPError)
