"""The check at start passes for every family and kind of reading, and sees what is wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from minilm_lab.errors import LabError
from minilm_lab.models import families, tapped
from minilm_lab.models.self_check import self_check
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher

from .helpers import FAMILIES, SHAPE, body_of, config_of, masked_lm_of

ALL = frozenset({1, 2, 3})
STOPPED = Needs(projections=frozenset({2}))
WORDS = SHAPE["vocab_size"]


@pytest.mark.parametrize("family", FAMILIES)
def test_passes(family: str) -> None:
    fresh = AutoModel.from_config(config_of(family))
    for body in (body_of(family), fresh):
        for needs in (
            *(Needs(projections=frozenset({layer})) for layer in ALL),
            *(Needs(scores=frozenset({layer})) for layer in ALL),
            Needs(hidden=frozenset({0})),
            Needs(ALL, ALL, ALL | {0}),
        ):
            assert self_check(Tapped(body, needs), WORDS) < 1e-4
    if families.FAMILIES[fresh.config.model_type].rotary:
        for grouped in ("repeat", "group"):
            assert (
                self_check(Tapped(body_of(family), Needs(ALL), rotary="after", grouped=grouped), WORDS) < 1e-4
            )
    assert self_check(Tapped(fresh, Needs()), WORDS) == 0


@pytest.mark.parametrize("family", ["bert", "deberta-v3", "modernbert", "distilbert", "albert"])
def test_passes_with_a_head(family: str) -> None:
    assert self_check(Tapped(masked_lm_of(family), Needs(ALL, logits=True)), WORDS) < 1e-4


def _wrong(kind: str, **changes: Any) -> families.Family:
    return dataclasses.replace(families.FAMILIES[kind], **changes)


@pytest.mark.parametrize("kind", ["bert", "mpnet", "llama"])
def test_catches_a_view_with_swapped_maps(kind: str, monkeypatch) -> None:
    query, key, value = families.FAMILIES[kind].maps
    # With as many key heads as query heads: else the widths would give it away.
    body = body_of(kind, **({"num_key_value_heads": 4} if kind == "llama" else {}))
    with monkeypatch.context() as patched:
        wrong = _wrong(kind, maps=(key, query, value))
        patched.setattr(tapped, "check_tapped", lambda _config, _what: wrong)
        view = Tapped(body, STOPPED)
    with pytest.raises(LabError, match=f"self-check: .*'{kind}' model at layer 2"):
        self_check(view, WORDS)


@pytest.mark.parametrize("read", ["projections", "scores"])
@pytest.mark.parametrize("fresh", [False, True], ids=["wide weights", "as initialised"])
@pytest.mark.parametrize(
    "maps",
    [
        ("key", "query", "value"),
        ("query", "key", "key"),
        ("query", "value", "key"),
        ("value", "key", "value"),
    ],
    ids=str,
)
def test_catches_a_wrong_table(maps: tuple[str, ...], fresh: bool, read: str, monkeypatch) -> None:
    """The table that the check itself reads is wrong: only the library's attention can tell."""
    torch.manual_seed(0)
    body = AutoModel.from_config(config_of("bert")) if fresh else body_of("bert")
    monkeypatch.setitem(families.FAMILIES, "bert", _wrong("bert", maps=maps))
    with pytest.raises(LabError, match="self-check"):
        self_check(Tapped(body, Needs(**{read: frozenset({2})})), WORDS)


def test_catches_scores_that_lack_a_term(monkeypatch) -> None:
    """MPNet's without its bias, and a causal model's that look ahead."""
    for kind, pretended in (("mpnet", families.FAMILIES["bert"]), ("gpt2", families.FAMILIES["bert"])):
        right = families.FAMILIES[kind]
        plain = families.Family(
            **{f.name: getattr(right, f.name) for f in dataclasses.fields(right)} | {"plain_scores": True}
        )
        assert type(plain) is type(pretended)
        with monkeypatch.context() as patched:
            patched.setitem(families.FAMILIES, kind, plain)
            view = Tapped(body_of(kind), Needs(scores=frozenset({2})))
            with pytest.raises(LabError, match=f"'{kind}' model at layer 2 gives other attention"):
                self_check(view, WORDS)


@pytest.mark.parametrize(
    "norm, what", [("output.LayerNorm", "query"), ("attention.output.LayerNorm", "query")]
)
def test_catches_a_wrong_norm(norm: str, what: str, monkeypatch) -> None:
    monkeypatch.setitem(families.FAMILIES, "bert", _wrong("bert", norm=norm))
    with pytest.raises(LabError, match=f"layer 2 gives other (attended values|attention|{what})"):
        self_check(Tapped(body_of("bert"), STOPPED), WORDS)


def test_catches_a_final_norm_that_is_not_told(monkeypatch) -> None:
    """Without it a hidden state below the last would be normalised."""
    monkeypatch.setitem(families.FAMILIES, "llama", _wrong("llama", final_norm=None))
    body = body_of("llama")
    assert self_check(Tapped(body, Needs(hidden=frozenset({1, 3}))), WORDS) < 1e-4
    view = Tapped(body, Needs(hidden=frozenset({1})))
    assert self_check(view, WORDS) < 1e-4  # read where it enters the next layer, before any norm


def test_catches_weights_that_are_not_finite() -> None:
    body = body_of("bert")
    view = Tapped(body, STOPPED)
    with torch.no_grad():
        body.encoder.layer[1].attention.self.value.bias[3] = float("nan")
    with pytest.raises(LabError, match="not finite"):
        self_check(view, WORDS)


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_no_trace(fails: bool, monkeypatch) -> None:
    body = body_of("bert").train()
    body.encoder.layer[0].eval()
    view = Tapped(body, Needs(frozenset({2}), frozenset({1}), frozenset({1})))
    view.body.encoder.training = False
    modules = [*body.modules(), *view.modules()]
    modes = [module.training for module in modules]
    hooks = [dict(module._forward_hooks) for module in modules]
    kernel, installed = body.config._attn_implementation, "_output_capturing_hooks_installed"
    if fails:
        monkeypatch.setitem(families.FAMILIES, "bert", _wrong("bert", maps=("key", "key", "value")))
        with pytest.raises(LabError):
            self_check(Tapped(body, STOPPED), WORDS)
        monkeypatch.undo()
    else:
        self_check(view, WORDS)
    assert [module.training for module in modules] == modes
    assert [dict(module._forward_hooks) for module in modules] == hooks
    assert not any(module._forward_pre_hooks for module in modules)
    assert all(p.grad is None for p in body.parameters())
    assert body.config._attn_implementation == kernel and installed not in vars(body)
    # The library's own way of showing hidden states still works.
    assert len(body(torch.tensor([[5, 6]]), output_hidden_states=True).hidden_states) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all_minilm_l6", "mpnet_base"])
def test_real_weights(name: str) -> None:
    """Where the cache has them: nothing is downloaded here."""
    folder = Path(__file__).parents[2] / ".cache" / "models" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; any command with teacher={name} fetches it")
    body = Teacher(name=name, package=name).body(folder.parents[1])
    depth = body.config.num_hidden_layers
    layers = frozenset(range(1, depth + 1))
    assert self_check(Tapped(body, Needs(layers, layers, layers | {0})), body.config.vocab_size) < 1e-4
    assert self_check(Tapped(body, Needs(frozenset({depth}))), body.config.vocab_size) < 1e-4
