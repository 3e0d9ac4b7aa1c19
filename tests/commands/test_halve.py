"""`minilm-lab halve`: a sentence encoder in, half of it out, with its pooling and what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands import halve
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.evaluation.agreement import Agreement
from minilm_lab.exporting.sentence_transformers import write_modules
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.pooling import read_pooling


@pytest.fixture
def encoder(tiny_teacher: Path, tmp_path: Path) -> Path:
    """The tiny teacher as a sentence encoder that takes the first token's state."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_teacher, folder)
    write_modules(folder, 48, 32, normalize=False)
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    settings |= {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    pooling.write_text(json.dumps(settings))
    return folder


@pytest.fixture
def words(
    encoder: Path, tiny: list[str], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    task = {"_target_": "minilm_lab.tasks.hub.HubTask", "name": "t", "path": str(tiny_task), "text": ["text"]}

    def evaluators(paths: object, encoder: object) -> list[Agreement]:
        evaluator = Agreement(task=task, against=str(tmp_path / "encoder"), length=32)
        evaluator.prepare(None, tmp_path)
        return [evaluator]

    monkeypatch.setattr(halve, "_evaluators", evaluators)
    kept = [w for w in tiny if not w.startswith(("teacher", "objective", "student=", "scale.", "optim."))]
    return [
        *kept,
        "scale.steps=200",
        "scale.batch_size=16",
        "scale.length=24",
        "optim.lr=3e-3",
        "student.init.layers=uniform",
        f"source={encoder}",
        f"out={tmp_path / 'half'}",
    ]


def test_half_the_layers_with_the_pooling_of_the_whole(
    words: list[str], encoder: Path, tmp_path: Path
) -> None:
    score = halve.run(compose_command("halve", words))
    out = tmp_path / "half"
    assert AutoModel.from_pretrained(out).config.num_hidden_layers == 2
    pooling = read_pooling(str(out))
    assert pooling is not None and pooling.modes == ("cls",)
    card = (out / "README.md").read_text()
    line = next(line for line in card.splitlines() if line.startswith("| agreement"))
    _, _, whole, start, distilled, kept, _ = (cell.strip() for cell in line.split("|"))
    assert (whole, distilled, kept) == ("100.0", f"{score:.1f}", f"{score:.1f} %")
    assert score > float(start)
    # What the card says is what the folder does, through a reader of its own.
    texts = ["the cat sat on a mat", "two dogs running"]
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModel.from_pretrained(out).eval()
    with torch.no_grad():
        states = model(**tokenizer(texts, padding=True, return_tensors="pt")).last_hidden_state
    assert torch.allclose(Encoder.load(str(out))(texts), states[:, 0], atol=1e-5)


def test_again_it_answers_from_its_records(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = halve.run(compose_command("halve", words))
    monkeypatch.setattr("minilm_lab.training.distiller.distil", None)  # nothing is trained again
    other = [word for word in words if not word.startswith("out=")]
    assert halve.run(compose_command("halve", [*other, f"out={tmp_path / 'again'}"])) == pytest.approx(first)


def test_what_is_wrong_is_said_before_anything_is_trained(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "letter.txt").write_text("mine")
    with pytest.raises(LabError, match="half"):
        halve.run(compose_command("halve", words))
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "half" / "letter.txt").read_text() == "mine"
    with pytest.raises(LabError, match="source must be given"):
        halve.run(compose_command("halve", [word for word in words if not word.startswith("source")]))
