"""`minilm-lab author`: one product, many, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Lab
from tasks.instructions.material import model_of, save, tokenizer_of

from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.authoring.author import Author, record_of


def test_the_form_that_takes_what_is_given() -> None:
    ad = record_of("ads", {"title": "Acme lamp", "features": "wood"})
    assert ad.asked == "ad" and ad.input() == "Title: Acme lamp\nFeatures: wood"
    assert record_of("ads", {"headline": "Nice", "verdict": "yes"}).asked == "review"
    assert (
        record_of("qa", {"title": "Acme", "price": "$3"}, asked="price").input() == "Price: $3\nTitle: Acme"
    )
    assert record_of("intent", {"review": "Bad"}).labels == ["yes", "no"]
    assert record_of("rewriting", {"title": "Acme", "query": "lamp"}).input() == "Query: lamp\nTitle: Acme"
    for wrong, said in (
        (("adds", {"title": "x"}), "Did you mean 'ads'"),
        (("ads", {"titel": "x"}), "Did you mean 'title'"),
        (("classification", {"title": "x"}), "labels must be given"),
        (("intent", {"verdict": "yes"}), "needs some of"),
        (("qa", {"title": "x"}, "n", "verdict"), "qa asks for price"),
    ):
        with pytest.raises(LabError, match=said):
            record_of(*wrong)


def test_a_batch_is_written_as_each_alone() -> None:
    model = LanguageModel(model_of().eval(), tokenizer_of())
    author = Author(model, "Write.", length=300, target_length=12)
    records = [record_of("ads", {"title": f"Acme {'very ' * n}lamp"}, f"p{n}") for n in range(4)]
    records.append(record_of("intent", {"review": "I love it"}))
    together = author.write(records)
    assert [author.write([record])[0] for record in records] == together
    assert together[-1].likeliest in ("yes", "no") and together[0].likeliest is None
    assert all(0 <= text.grounding <= 1 for text in together)
    with pytest.raises(LabError, match="larger length"):
        Author(model, "Write.", length=20, target_length=12).write(records)


@pytest.mark.parametrize(
    "text",
    [
        "oak, 12 W LED",
        '14" Laptop (2023) [new]',
        "it's {here}",
        "a=b: c",
        "3",
        "yes",
        "50% \\ off",
        "costs ${5} or $6",
        "é – ü",
    ],
)
def test_features_are_texts_whatever_is_in_them(text: str) -> None:
    cfg = compose_command("author", ["source=x", "task=ads", f"features={text}"])
    assert str(cfg.features) == text and cfg.write == "ads" and cfg.title is None


def test_from_the_command_line(lab: Lab, tmp_path: Path) -> None:
    save(tmp_path / "model")
    words = ["author", "source=model", "task=ads", "target_length=8"]
    alone = lab.run(*words, "title=Acme lamp", cwd=tmp_path)
    assert alone.code == 0, alone.err
    rows = [{"id": "a", "title": "Acme lamp"}, {"id": "b", "title": "Acme sofa", "price": "$3"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lab.run(*words, "input=in.jsonl", "out=out.jsonl", cwd=tmp_path)
    assert done.code == 0 and "2 answers" in done.out, done.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", "b"] and {line["asked"] for line in lines} == {"ad"}
    assert lines[0]["answer"] == alone.out.rstrip("\n")
    for wrong, said in (
        (["author", "source=model", "task=ads"], "nothing is given"),
        ([*words, "title=x", "input=in.jsonl"], "one of the two"),
        ([*words, "input=none.jsonl"], "no such file"),
    ):
        refused = lab.run(*wrong, cwd=tmp_path)
        assert refused.code == 1 and said in refused.err, refused.err
