"""What an export is refused for, before any weights are loaded; and its folders without ONNX."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from models.helpers import batch, masked_lm_of, saved
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from minilm_lab.errors import LabError
from minilm_lab.exporting.job import Export, prepare
from minilm_lab.exporting.request import Request
from minilm_lab.models.resolve import resolve
from minilm_lab.tasks.hub import HubTask

from .conftest import MakeRun


@pytest.fixture
def ready(similarity: HubTask, tmp_path: Path) -> Any:
    """Prepares an export to `tmp_path/out`."""

    def make(source: Path | str, **settings: Any) -> Export:
        request = Request(run=str(source), out=str(tmp_path / "out"), **settings)
        return prepare(
            request,
            resolve(str(source), runs=tmp_path / "runs", cache=tmp_path, key="run"),
            similarity,
            None,
            tmp_path,
        )

    return make


@pytest.fixture(autouse=True)
def no_weights_while_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may be loaded by `Export.write` only."""
    inside = []
    load, write = PreTrainedModel.from_pretrained.__func__, Export.write  # type: ignore[attr-defined]

    def guarded(cls: Any, *given: Any, **named: Any) -> Any:
        assert inside, "weights were loaded while the export was checked"
        return load(cls, *given, **named)

    def allowed(self: Export) -> Any:
        inside.append(True)
        return write(self)

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", classmethod(guarded))
    monkeypatch.setattr(Export, "write", allowed)


def hidden(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        model = AutoModel.from_pretrained(folder).eval()
        return model(input_ids=ids, attention_mask=mask).last_hidden_state


def test_a_hugging_face_folder(ready: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    measured = ready(tiny_teacher).write()
    assert measured.difference is None
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    ids = torch.arange(10).reshape(2, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    torch.testing.assert_close(hidden(out, ids, mask), hidden(tiny_teacher, ids, mask), rtol=0, atol=0)
    text = "the cat sat on a mat"
    assert AutoTokenizer.from_pretrained(out)(text) == AutoTokenizer.from_pretrained(tiny_teacher)(text)
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "transformers" and card.data.license == "other"
    assert "AutoModel.from_pretrained" in card.text and "Masked-LM" not in card.text


def test_the_card_of_a_student_goes_on(ready: Any, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("small-l3", "0123456789", config={"scale": {"length": 16}})
    (run / "student" / "README.md").write_text(
        "---\nlicense: mit\ntags: [minilm-lab]\n---\n# small-l3\n\nIt has no head.\n\n| | |\n|---|---|\n"
        "| teacher | big, layer 12 |\n\n## Untrained by distillation\n\n- `encoder.x`\n\n## Scores\n\n| a | b |\n"
    )
    ready("small-l3", to=["sentence_transformers"]).write()
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "sentence-transformers")
    for kept in ("| teacher | big, layer 12 |", "## Untrained by distillation", "- `encoder.x`", "| a | b |"):
        assert kept in card.text
    assert "It has no head." not in card.text
    # Positions behind the blocks of distillation have seen no training.
    assert "cut to 16 tokens" in card.text
    assert '"max_seq_length": 16' in (tmp_path / "out" / "sentence_bert_config.json").read_text()


def test_of_a_foreign_card_only_the_licence_is_taken(ready: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_teacher, tmp_path / "foreign"))
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Foreign\n\n## Their words\n\nmine\n")
    ready(source).write()
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "apache-2.0" and "Their words" not in card.text
    (source / "README.md").write_text("---\n: [\n---\n# Broken\n")
    ready(source, overwrite=True).write()


def test_heads_are_named_for_what_they_are(ready: Any, tmp_path: Path) -> None:
    model = masked_lm_of("bert")
    saved(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    ids, mask = batch(model.base_model, "right")
    assert mask is not None
    for head, words in (("zero", "**Not trained.**"), ("trained", "as it was trained")):
        ready(tmp_path / "model", mlm_head=head, overwrite=True).write()
        assert words in (tmp_path / "out" / "README.md").read_text()
        whole = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
        with torch.no_grad():
            logits = whole(input_ids=ids, attention_mask=mask.long()).logits
            expected = model(input_ids=ids, attention_mask=mask.long()).logits
        torch.testing.assert_close(logits, expected if head == "trained" else torch.zeros_like(expected))
    # Without a word about heads, the folder has none.
    ready(tmp_path / "model", overwrite=True).write()
    again = (tmp_path / "out").rename(tmp_path / "again")
    with pytest.raises(LabError, match="carries no trained masked-LM head"):
        ready(again, mlm_head="trained")


def test_a_pooler_that_the_checkpoint_lacks_is_not_made_up(ready: Any, tmp_path: Path) -> None:
    model = masked_lm_of("bert")
    saved(tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    ready(tmp_path / "model").write()
    _, found = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert {name.split(".")[0] for name in found["missing_keys"]} == {"pooler"}


def test_half_precision_becomes_float32(ready: Any, tmp_path: Path) -> None:
    saved(tmp_path / "model", half=True)
    ready(tmp_path / "model").write()
    assert AutoModel.from_pretrained(tmp_path / "out").dtype == torch.float32


def test_a_classifier_is_refused(ready: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny_teacher, tmp_path / "five"))
    config = AutoConfig.from_pretrained(source)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(source)
    with pytest.raises(LabError, match="BertForSequenceClassification, fine-tuned for one task"):
        ready(source)


def test_what_is_refused_early(ready: Any, tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"carries no trained masked-LM head.*pretrain head=mlm"):
        ready(tiny_teacher, mlm_head="trained")
    gpt = saved(tmp_path / "gpt2", "gpt2")
    with pytest.raises(LabError, match="mlm_head=zero: a 'gpt2' model has no masked-LM head"):
        ready(gpt, mlm_head="zero")
    tokenizer = AutoTokenizer.from_pretrained(gpt)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(gpt)
    with pytest.raises(LabError, match="no padding token"):
        ready(gpt, to=["onnx_int8"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("")
    with pytest.raises(LabError, match="overwrite=true"):
        ready(tiny_teacher)


def test_a_model_too_large_for_one_file(
    ready: Any, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minilm_lab.exporting.graph._LARGEST", 100_000)
    with pytest.raises(LabError, match=r"to=\[onnx\]: .* more than the 2 GB"):
        ready(tiny_teacher, to=["onnx"])


def test_pushing_needs_a_login(ready: Any, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("minilm_lab.exporting.job.check_login", asked.append)
    ready(tiny_teacher, push="me/small")
    assert asked == ["me/small"]
