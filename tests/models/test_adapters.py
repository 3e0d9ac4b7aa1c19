"""Adapters: which maps, what is trained, folders, merging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from minilm_lab.errors import LabError
from minilm_lab.models.adapters import Adapter, base_of, is_adapter, load_adapter, merged
from minilm_lab.models.causal import load_causal
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel

from .helpers import tokenizer_of
from .test_language_model import causal_of, prompts_of, saved_causal

pytest.importorskip("peft", reason="peft is an extra")
IDS = torch.arange(20, 60).view(2, 20)


def trained(name: str = "llama", seed: int = 1, base: str = "", model: Any = None, **settings: Any) -> Any:
    """A model whose adapters do something."""
    adapted = Adapter("lora", dropout=0.0, **settings).add(model or causal_of(name), seed, base)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapted.eval()


@pytest.mark.parametrize(
    ("name", "targets", "ends"),
    [
        ("llama", ["attention"], {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("llama", ["all"], {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("llama", ["q_proj", "v_proj"], {"q_proj", "v_proj"}),
        ("gpt2", ["attention"], {"c_attn", "attn.c_proj"}),
        ("gpt-neox", ["attention"], {"query_key_value", "attention.dense"}),
    ],
)
def test_what_is_adapted(name: str, targets: list[str], ends: set[str]) -> None:
    model = causal_of(name)
    wanted = {
        n
        for n, m in model.named_modules()
        if any(n.endswith(f".{end}") for end in ends) and "lm_head" not in n
    }
    assert set(Adapter("lora", targets=targets).modules(model)) == wanted
    adapted = Adapter("lora", targets=targets).add(model, 0)
    assert set(adapted.peft_config["default"].target_modules) == {e.removeprefix("attention.") for e in ends}
    hit = {n for n, m in adapted.get_base_model().named_modules() if hasattr(m, "lora_A")}
    assert hit == wanted
    names = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert names and all("lora_" in n for n in names)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_new_adapter_changes_nothing_and_the_seed_alone_draws_it(name: str) -> None:
    before = causal_of(name)(input_ids=IDS).logits
    models = [causal_of(name) for _ in range(3)]
    state = torch.get_rng_state()
    adapted, again, other = (
        Adapter("lora").add(m, seed).eval() for m, seed in zip(models, (3, 3, 4), strict=True)
    )
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(adapted(input_ids=IDS).logits, before)
    for (n, a), b, c in zip(adapted.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert "lora_A" not in n or not torch.equal(a, c)


def test_tied_embeddings_are_never_adapted() -> None:
    for word in ("lm_head", "embed_tokens"):
        with pytest.raises(LabError, match="tied"):
            Adapter("lora", targets=["attention", word]).modules(causal_of("llama-tied"))
    assert "lm_head" in Adapter("lora", targets=["lm_head"]).modules(causal_of("llama"))
    table = causal_of("llama-tied")
    adapted = trained(model=table, targets=["all"])
    assert adapted.get_output_embeddings().weight is adapted.get_input_embeddings().weight


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}, {"targets": ["all"], "rank": 3}])
@pytest.mark.parametrize("name", ["llama-tied", "gpt2"])
def test_a_merged_model_has_the_same_logits_and_no_adapter(name: str, settings: dict[str, Any]) -> None:
    adapted = trained(name, **settings)
    with torch.no_grad():
        before, plain = adapted(input_ids=IDS).logits, causal_of(name)(input_ids=IDS).logits
    assert (before - plain).abs().max() > 0.1
    model = merged(adapted, IDS)
    assert type(model) is type(causal_of(name)) and not any("lora" in n for n, _ in model.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=1e-3, atol=1e-3)


def test_merging_that_would_change_the_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="float32"):
        merged(trained().bfloat16(), IDS)
    adapted = trained()
    monkeypatch.setattr(adapted.base_model, "merge_and_unload", lambda **_: causal_of("llama"))
    with pytest.raises(LabError, match="changes the output"):
        merged(adapted, IDS)


def test_an_adapter_folder_is_a_model(tmp_path: Path) -> None:
    base = saved_causal(tmp_path / "base")
    model, _ = load_causal(str(base))
    adapted = trained(model=model, base=str(base))
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    assert is_adapter(folder) and not is_adapter(base) and base_of(folder) == (str(base), None)
    assert (folder / "adapter_model.safetensors").stat().st_size < 0.5 * (
        base / "model.safetensors"
    ).stat().st_size
    engine = LanguageModel.load(str(folder))
    with torch.no_grad():
        expected = adapted(input_ids=torch.tensor([prompts_of()[0]])).logits[0, -1]
    torch.testing.assert_close(engine.next_logits(prompts_of()[:1])[0], expected, rtol=1e-4, atol=1e-4)
    greedy = Decoding(length=5)
    mine = LanguageModel(adapted, engine.tokenizer).generate(prompts_of(), greedy)
    assert [a.tokens for a in engine.generate(prompts_of(), greedy)] == [a.tokens for a in mine]
    tokenizer_of("roberta").save_pretrained(folder)
    assert LanguageModel.load(str(folder)).tokenizer.unk_token == "<unk>"
    frozen, more = (
        load_adapter(load_causal(str(base))[0], folder),
        load_adapter(load_causal(str(base))[0], folder, trainable=True),
    )
    assert not any(p.requires_grad for n, p in frozen.named_parameters() if "lora" in n)
    assert all(p.requires_grad == ("lora" in n) for n, p in more.named_parameters())


def test_training_changes_the_adapters_alone() -> None:
    adapted = Adapter("lora", rank=2).add(causal_of("llama"), 0).train()
    before = {n: p.detach().clone() for n, p in adapted.named_parameters()}
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    nn.functional.cross_entropy(
        adapted(input_ids=IDS).logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()
    ).backward()
    optimizer.step()
    changed = {n for n, p in adapted.named_parameters() if not torch.equal(p, before[n])}
    assert changed and all("lora_B" in n for n in changed)  # A's first gradient is 0 where B is


def test_none_is_the_model_itself() -> None:
    model = causal_of("gpt2")
    assert Adapter().add(model, 0) is model and all(p.requires_grad for p in model.parameters())


def test_bad_input(tmp_path: Path) -> None:
    for bad in ({"kind": "ia3"}, {"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": []}):
        with pytest.raises(LabError, match="adapter"):
            Adapter(**bad)
    with pytest.raises(LabError, match="Did you mean 'q_proj'"):
        Adapter("lora", targets=["q_pro"]).modules(causal_of("llama"))
    trained().save_pretrained(tmp_path)
    with pytest.raises(LabError, match="base_model_name_or_path"):
        LanguageModel.load(str(tmp_path))
    other = saved_causal(tmp_path / "other", "gpt2")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**settings, "base_model_name_or_path": str(other)})
    )
    with pytest.raises(LabError, match="does not fit"):
        LanguageModel.load(str(tmp_path))
