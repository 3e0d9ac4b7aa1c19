"""What is saved loads again, bit for bit; a failure leaves what was there."""

from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from minilm_lab.errors import LabError
from minilm_lab.models.saving import add_score, model_card, save_model
from minilm_lab.models.student import Student, build_student

from .helpers import FAMILIES, NARROW, body_of, config_of, tokenizer_of


def _student(family: str = "bert", dropout: float | None = None):
    shape = Student("s", layers=2, hidden_size=NARROW[family], ffn_size=40, dropout=dropout)
    return build_student(shape, body_of(family), 3, seed=0)


def _card() -> str:
    facts = {"teacher": "tiny, layer 3", "tokens seen": "1,234"}
    return model_card("small", {"seed": 3}, facts, ["pooler.dense.weight", "encoder.layer.1.output.bias"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_student_loads_bitwise(family: str, tmp_path: Path) -> None:
    student, folder = _student(family, dropout=0.0), tmp_path / "student"
    save_model(folder, student, tokenizer_of(family), _card())
    loaded, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(student)
    assert loaded.state_dict().keys() == student.state_dict().keys()
    if family == "qwen2":  # beside such a model the library reads every tokenizer as Qwen2's own
        tokenizer = tokenizer_of(family)
    inputs = tokenizer(["w3 w4 w5", "w6"], padding=True, return_tensors="pt")
    assert inputs["input_ids"].tolist() == tokenizer_of(family)(["w3 w4 w5", "w6"], padding=True)["input_ids"]
    inputs.pop("token_type_ids", None)
    ours, theirs = (m.eval()(**inputs).last_hidden_state for m in (student, loaded))
    assert torch.equal(ours, theirs)
    config = json.loads((folder / "config.json").read_text())
    names = {
        "distilbert": ("n_layers", "dim", "hidden_dim"),
        "gpt2": ("n_layer", "n_embd", "n_inner"),
    }.get(loaded.config.model_type, ("num_hidden_layers", "hidden_size", "intermediate_size"))
    assert [config[name] for name in names] == [2, NARROW[family], 40]
    # Distilled without dropout, fine-tuned with the teacher's.
    drops = [{m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} for model in (student, loaded)]
    usual = {
        m.p for m in AutoModel.from_config(config_of(family)).modules() if isinstance(m, torch.nn.Dropout)
    }
    assert drops[1] == usual and drops[0] <= {0.0}
    assert (folder / "model.safetensors").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["student"]


def test_the_card() -> None:
    card = _card()
    for part in (
        "# small\n",
        "| teacher | tiny, layer 3 |",
        "| tokens seen | 1,234 |",
        "- `pooler.dense.weight`\n- `encoder.layer.1.output.bias`",
        '"seed": 3',
    ):
        assert part in card
    assert card.startswith("---\nlicense: other\n")
    assert "## Untrained by distillation" in card and "\n- nothing\n" in model_card("s", {}, {}, [])


def test_a_score_is_added_once(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(_card(), encoding="utf-8")
    row = ("sst2", "accuracy", "91.2", 0, "full | dev")
    add_score(tmp_path, row)
    add_score(tmp_path, row)
    add_score(tmp_path, ("sst2", "accuracy", "90.9", 1, "full"))
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.count("| sst2 | accuracy | 91.2 | 0 | full / dev |") == 1
    assert text.count("| sst2 | accuracy | 90.9 | 1 | full |") == 1
    table = text.split("## Scores")[1].split("## Configuration")[0].strip().splitlines()
    assert len([line for line in table if line.startswith("|")]) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_a_score_without_a_card_is_nothing(tmp_path: Path) -> None:
    add_score(tmp_path, ("sst2", "accuracy", "91.2", 0, "full"))
    assert list(tmp_path.iterdir()) == []


def _add_many(folder: Path, task: str) -> None:
    for n in range(40):
        add_score(folder, (task, "accuracy", n, 0, "full"))


def test_two_processes_lose_no_score(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(_card(), encoding="utf-8")
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_add_many, args=(tmp_path, task)) for task in ("sst2", "cola")]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (text.count("| sst2 | accuracy |"), text.count("| cola | accuracy |")) == (40, 40)


def _save_on_a_full_disk(folder: Path, answer) -> None:
    # A limit on the size of files stands for a disk that is full: writing the weights fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        save_model(folder, _student(), tokenizer_of(), "new")
        answer.put("saved")
    except BaseException as error:
        answer.put((type(error).__name__, str(error)))


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    save_model(folder, _student(), tokenizer_of(), "old")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    job = context.Process(target=_save_on_a_full_disk, args=(folder, answer))
    job.start()
    kind, message = answer.get(timeout=60)
    job.join(60)
    assert kind == LabError.__name__
    assert f"{folder} could not be written" in message and "Free some space" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["student"]


def test_saving_replaces_what_was_there_and_what_a_kill_left(tmp_path: Path) -> None:
    folder, left = tmp_path / "student", tmp_path / ".student.new.tmp"
    for rubbish in (folder, left):
        rubbish.mkdir()
        (rubbish / "rubbish").write_text("x")
    save_model(folder, _student(), tokenizer_of())
    assert not (folder / "rubbish").exists() and not left.exists()
    AutoModel.from_pretrained(folder)
