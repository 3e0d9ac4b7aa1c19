"""Numbers out of texts, the vote, and ways that are begun by navigation against a plain loop."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.reasoning import Reasoning, _asked, last_number, vote


@pytest.mark.parametrize(
    "text, number",
    [
        ("1,234.50", "1234.5"),  # the published code joined the digits: 123450
        ("-5", "-5"),  # … and lost the sign
        ("−3.25 degrees", "-3.25"),
        ("from 3 to 12 apples.", "12"),
        ("$1,000", "1000"),
        ("#### 72", "72"),
        ("7.", "7"),
        (".5", "0.5"),
        ("10-3 = 7", "7"),
        ("3, 4", "4"),
        ("x2 and B12", None),
        ("none", None),
    ],
)
def test_the_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_a_vote_takes_the_first_of_equals_and_leaves_out_what_is_no_number() -> None:
    a, b = Decimal(1), Decimal(2)
    assert vote([b, a, a, None]) == a and vote([b, a]) == b and vote([None, None]) is None
    assert vote([last_number("2.0"), a, last_number("2")]) == b


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    rows = [
        {"question": "Two dogs and a cat?", "answer": "2+1 #### 3"},
        {"question": "Rain?", "answer": "12"},
    ]
    file = tmp_path / "problems.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


@torch.no_grad()
def following(model: LanguageModel, ids: list[int]) -> list[int]:
    logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return sorted(range(len(logits)), key=lambda n: (-logits[n].item(), n))


def test_navigated_ways_are_the_plain_loop(causal: Path, problems: Path, tmp_path: Path) -> None:
    evaluator = Reasoning(path=str(problems), ways=3, length=5)
    evaluator.prepare(None, tmp_path)
    model = LanguageModel.load(str(causal))
    result = evaluator(model)
    for row in result.rows:
        prompt = model.ids(_asked(row["question"]))
        behind, taken = list(prompt), []
        for number, text in enumerate(row["ways"], 2):
            marks = {n for n in range(len(following(model, prompt))) if "#" in model.text([n])} | model.ends
            first = next(t for t in following(model, behind) if t not in marks and t not in taken)
            taken.append(first)
            way = [first]
            for _ in range(5):
                best = following(model, [*prompt, *way])[0]
                if best in marks:
                    break
                way.append(best)
            assert model.text(way) == text
            behind += [*way, *model.ids(f"\n### Way {number}:\n* **Step 1:**\n", begins=False)]
    assert set(result.scores) == {"vote", "path", "first_path", "distinct", "without_number"}


@pytest.mark.parametrize("begin", ["ranked", "sampled"])
def test_from_the_command(causal: Path, problems: Path, tmp_path: Path, begin: str) -> None:
    words = [
        f"source={causal}",
        "evaluator=reasoning",
        f"evaluator.path={problems}",
        f"evaluator.begin={begin}",
    ]
    words += [
        "evaluator.length=6",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'c'}",
        "logger=none",
    ]
    record = plan(compose_command("evaluate", words)).make()
    assert record["score"]["name"] == "vote" and 0 <= record["scores"]["vote"] <= 100


def test_bad_input(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"evaluator.begin=sample: allowed are .* Did you mean 'sampled'"):
        Reasoning(path=str(problems), begin="sample")
    with pytest.raises(LabError, match=r"evaluator.path must be given"):
        Reasoning()
    with pytest.raises(LabError, match="cannot be read"):
        Reasoning(path=str(tmp_path / "none.jsonl")).prepare(None, tmp_path)
    problems.write_text('{"question": "?", "answer": "many"}\n')
    with pytest.raises(LabError, match="line 1: its answer has no number"):
        Reasoning(path=str(problems)).prepare(None, tmp_path)
    problems.write_text('{"question": "?"}\n')
    with pytest.raises(LabError, match=r"line 1: not \{question, answer}"):
        Reasoning(path=str(problems)).prepare(None, tmp_path)
