"""A folder of peft with an adapter alone is a model wherever one is named: against peft's own model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan as evaluation
from minilm_lab.commands.export import plan as export
from minilm_lab.commands.finetune import plan as finetuning
from minilm_lab.errors import LabError
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.resolve import resolve

from .helpers import tokenizer_of
from .test_language_model import causal_of

peft = pytest.importorskip("peft", reason="extra `decoders` is not installed")
TEXTS = ["the cat sat on a mat", "rain fell"]


def adapter(model: PreTrainedModel, folder: Path, base: Path | str, **settings: Any) -> Any:
    """Write an adapter that does something, by peft alone; return peft's model."""
    settings = {"target_modules": ["query", "value"], **settings}
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, **settings)).eval()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    adapted.save_pretrained(folder)
    about = json.loads((folder / "adapter_config.json").read_text())
    about["base_model_name_or_path"] = str(base)
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return adapted


def place_of(folder: Path, cache: Path) -> Path:
    found = resolve(str(folder), runs=cache / "none", cache=cache, key="source").folder
    assert found is not None
    return found


@pytest.mark.parametrize("task", [None, "FEATURE_EXTRACTION"])
def test_vectors_are_those_of_peft(task: str | None, tiny_teacher: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_teacher)
    adapted = adapter(model, tmp_path / "lora", tiny_teacher, task_type=task)
    encoder = Encoder.load(str(place_of(tmp_path / "lora", tmp_path / "cache")))
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    for text, vector in zip(TEXTS, encoder(TEXTS), strict=True):
        with torch.no_grad():
            wanted = adapted(**tokenizer([text], return_tensors="pt")).last_hidden_state.mean(1)[0]
        assert torch.allclose(vector, wanted, atol=1e-4)
    plain = Encoder.load(str(tiny_teacher))(TEXTS)
    assert not torch.allclose(encoder(TEXTS), plain, atol=1e-2)


def test_a_head_comes_along(tiny_teacher: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, num_labels=5)
    adapted = adapter(model, tmp_path / "lora", tiny_teacher, task_type="SEQ_CLS")
    place = place_of(tmp_path / "lora", tmp_path / "cache")
    ours = AutoModelForSequenceClassification.from_pretrained(place).eval()
    batch = AutoTokenizer.from_pretrained(place)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(ours(**batch).logits, adapted(**batch).logits, atol=1e-4)
    assert ours.config.num_labels == 5


def test_a_head_that_nobody_brings_is_none(tiny_teacher: Path, tmp_path: Path) -> None:
    """As the lab's own adapter folders are: of a classifier, whose head lies in the merged model beside them."""
    model = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, num_labels=5)
    adapted = adapter(model, tmp_path / "lora", tiny_teacher)
    place = place_of(tmp_path / "lora", tmp_path / "cache")
    assert json.loads((place / "config.json").read_text())["architectures"] == ["BertModel"]
    batch = AutoTokenizer.from_pretrained(place)(TEXTS[:1], return_tensors="pt")
    with torch.no_grad():
        wanted = adapted.get_base_model().bert(**batch).last_hidden_state
        assert torch.allclose(AutoModel.from_pretrained(place)(**batch).last_hidden_state, wanted, atol=1e-4)


def test_a_decoder_with_an_added_token(tmp_path: Path) -> None:
    base = tmp_path / "base"
    model, tokenizer = causal_of("llama"), tokenizer_of("llama")
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    tokenizer.add_tokens(["<new>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    adapted = adapter(
        model,
        tmp_path / "lora",
        "../base",
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
    )
    tokenizer.save_pretrained(tmp_path / "lora")
    place = place_of(tmp_path / "lora", tmp_path / "cache")
    ours = AutoModelForCausalLM.from_pretrained(place).eval()
    ids = torch.tensor([[5, 9, len(tokenizer) - 1, 7]])
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, adapted(input_ids=ids).logits, atol=1e-4)


def test_adapter_and_model_decide_the_identity_and_not_their_place(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    adapter(AutoModel.from_pretrained(tiny_teacher), tmp_path / "lora", tiny_teacher)
    shutil.copytree(tmp_path / "lora", tmp_path / "copy")

    def identity(name: str) -> Any:
        return resolve(str(tmp_path / name), runs=tmp_path, cache=tmp_path / "cache", key="source").identity

    assert identity("lora") == identity("copy")
    about = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    (tmp_path / "copy" / "adapter_config.json").write_text(json.dumps({**about, "lora_alpha": 7}))
    assert identity("lora") != identity("copy")


def test_every_command_takes_it(
    tiny: list[str], tiny_tune: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_teacher, tmp_path / "base"))
    sentences = pytest.importorskip("sentence_transformers", reason="extra `export` is not installed")
    modules = [{"idx": n, "name": str(n), "path": p, "type": t} for n, p, t in [
        (0, "", "sentence_transformers.models.Transformer"),
        (1, "1_Pooling", "sentence_transformers.models.Pooling"),
    ]]  # fmt: skip
    (base / "modules.json").write_text(json.dumps(modules))
    (base / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 48, "pooling_mode_cls_token": True}
    (base / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    adapted = adapter(AutoModel.from_pretrained(base), tmp_path / "lora", base)
    source = [f"source={tmp_path / 'lora'}"]
    where = [word for word in tiny if word.startswith(("paths", "logger", "impl"))]
    record = finetuning(compose_command("finetune", [*tiny, *tiny_tune, *source])).make()
    assert record["source"]["config"] == {"folder": place_of(tmp_path / "lora", tmp_path / "cache").name}
    data = [word.replace("task.", "evaluator.task.") for word in tiny_tune if word.startswith("task.")]
    words = ["evaluator=knn", "task@evaluator.task=classification", *data, "evaluator.k=3"]
    cfg = compose_command("evaluate", [*where, *source, *words, "evaluator.length=24"])
    assert 0 <= evaluation(cfg).make()["score"]["value"] <= 100
    out = tmp_path / "out"
    paths = [word for word in where if word.startswith("paths")]
    words = [f"run={tmp_path / 'lora'}", f"out={out}", "to=[sentence_transformers]", *paths]
    export(compose_command("export", words)).write()
    vectors = sentences.SentenceTransformer(str(out), device="cpu").encode(TEXTS[:1])
    batch = AutoTokenizer.from_pretrained(base)(TEXTS[:1], return_tensors="pt")
    with torch.no_grad():
        wanted = adapted(**batch).last_hidden_state[:, 0]
    assert torch.allclose(torch.tensor(vectors), wanted, atol=1e-4)
    assert "| adapter, merged | lora |" in (out / "README.md").read_text()


def test_what_is_no_model_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    adapter(AutoModel.from_pretrained(tiny_teacher), folder, tmp_path / "gone")
    with pytest.raises(
        LabError, match=r"names \S+/gone as the model that it adapts, which is not here: write"
    ):
        place_of(folder, tmp_path / "cache")
    narrow = AutoModel.from_pretrained(tiny_teacher)
    narrow.encoder.layer = narrow.encoder.layer[:2]
    narrow.config.num_hidden_layers = 2
    narrow.save_pretrained(tmp_path / "two")
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(tmp_path / "two")
    about = json.loads((folder / "adapter_config.json").read_text())
    about["base_model_name_or_path"] = str(tmp_path / "two")
    (folder / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(LabError, match="does not fit the model that it names: 8 weights without a place"):
        place_of(folder, tmp_path / "cache")
    shutil.copy(tiny_teacher / "model.safetensors", folder)
    with pytest.raises(LabError, match=r"and a whole model \(model.safetensors\), and which is meant"):
        place_of(folder, tmp_path / "cache")
    prompts = peft.get_peft_model(
        causal_of("llama"), peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    causal_of("llama").save_pretrained(tmp_path / "llama")
    tokenizer_of("llama").save_pretrained(tmp_path / "llama")
    prompts.peft_config["default"].base_model_name_or_path = str(tmp_path / "llama")
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(
        LabError, match="adapters of type PROMPT_TUNING, which are no part of a model's weights"
    ):
        place_of(tmp_path / "prompts", tmp_path / "cache")
