"""What a user asks for is checked, with words that help."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from minilm_lab.errors import LabError
from minilm_lab.exporting.request import Request


def ask(**settings: Any) -> Request:
    return Request(run="x", out="y", **settings)


def test_what_lies_in_the_folder() -> None:
    assert ask().has_weights and not ask().has_onnx
    assert ask(to=["sentence_transformers"]).has_weights
    assert ask(to=["onnx_int8"]).has_onnx and not ask(to=["onnx_int8"]).has_weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"to": []}, r"to=\[\] asks for nothing; give some of hf, "),
        ({"to": ["hf", "onxx"]}, "to=onxx: allowed are .*Did you mean 'onnx'"),
        ({"mlm_head": "zeros"}, "mlm_head=zeros: .*Did you mean 'zero'"),
        ({"mlm_head": "zero", "to": ["onnx"]}, r"mlm_head=zero is for to=\[hf\]"),
        ({"push": "model"}, "push=model must be <owner>/<name>"),
        ({"push": "a/b/c"}, "push=a/b/c must be"),
        ({"times": True}, "times=true .*add onnx"),
    ],
    ids=str,
)
def test_what_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        ask(**settings)


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there(name)
    )
    with pytest.raises(LabError, match=r"needs onnxscript: pip install 'minilm-lab\[export\]'"):
        ask(to=["onnx"])
    ask(to=["hf"])
