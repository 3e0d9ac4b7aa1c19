"""Submodules by path, and twins of a model that share everything with it but one submodule."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def get(module: nn.Module, path: str) -> Any:
    """Return the submodule at a dotted `path`."""
    return module.get_submodule(path)


def maybe(module: nn.Module, path: str) -> nn.Module | None:
    """Return the submodule at a dotted `path`, or None where there is none."""
    try:
        found: nn.Module | None = module.get_submodule(path)
    except AttributeError:
        return None
    return found


def with_module(root: nn.Module, path: str, new: nn.Module | None) -> Any:
    """Return a copy of `root` that has `new` at `path` and shares every other submodule and parameter."""
    twin = copy.copy(root)
    twin._modules = dict(root._modules)
    head, _, rest = path.partition(".")
    twin._modules[head] = with_module(get(root, head), rest, new) if rest else new
    return twin
