"""Perplexity, agreement and KL of next tokens, against the library's own loss and a loop over tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from studies.knowledge.conftest import save_causal
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.evaluation.language_model import LanguageModelScores

TEXT = ["The first line has some words.", "A second one, with é and 猫.", "and the end of it"]
WHOLE = "\n".join(TEXT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("lm") / "model")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("lm") / "other", seed=4, width=16)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lm") / "text.txt"
    file.write_text("\n".join(TEXT), encoding="utf-8")
    return file


def evaluator(text: Path, **settings: Any) -> LanguageModelScores:
    corpus = {"_target_": "minilm_lab.data.path.PathCorpus", "path": str(text)}
    made = LanguageModelScores(corpus=corpus, **{"length": 512, "context": 128, **settings})
    made.prepare(None, text.parent)
    return made


def test_one_window_is_the_librarys_own_loss(model: Path, text: Path) -> None:
    measured = evaluator(text)
    result = measured(measured.open(str(model), None))
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = torch.tensor([tokenizer(WHOLE, add_special_tokens=False).input_ids])
    with torch.no_grad():
        loss = float(AutoModelForCausalLM.from_pretrained(model)(ids, labels=ids).loss)
    scored = ids.shape[1] - 1
    scores = result.scores
    assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert result.facts["scored_tokens"] == scored
    words = len(WHOLE.removeprefix(tokenizer.decode(ids[0, :1])).split())
    assert result.facts["words"] == words
    assert math.log(scores["word_perplexity"]) == pytest.approx(loss * scored / words, rel=1e-5)
    assert scores["bits_per_byte"] == pytest.approx(
        loss * scored / math.log(2) / result.facts["bytes"], rel=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(("length", "context"), [(16, 5), (7, 6), (40, 1)])
def test_windows_and_the_other_model_are_a_loop_over_tokens(
    model: Path, other: Path, text: Path, length: int, context: int, batch_size: int
) -> None:
    measured = evaluator(text, length=length, context=context, against=str(other), batch_size=batch_size)
    ours = measured.open(str(model), None)
    result = measured(ours)
    ids = measured._ids(ours)[0]
    models = [AutoModelForCausalLM.from_pretrained(path).double().eval() for path in (model, other)]
    loss = hits = same = kl = 0.0
    for place in range(1, len(ids)):
        start = (
            0
            if place <= length
            else context + (place - context - 1) // (length - context) * (length - context) - context
        )
        with torch.no_grad():
            log_q, log_p = (
                m(torch.tensor([ids[start:place]])).logits[0, -1].log_softmax(dim=0) for m in models
            )
        loss -= float(log_q[ids[place]])
        hits += int(log_q.argmax()) == ids[place]
        same += int(log_q.argmax()) == int(log_p.argmax())
        kl += float((log_p.exp() * (log_p - log_q)).sum())
    count = len(ids) - 1
    assert result.scores["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-4)
    assert result.scores["accuracy"] == pytest.approx(100 * hits / count)
    assert result.scores["agreement"] == pytest.approx(100 * same / count)
    assert result.scores["kl"] == pytest.approx(kl / count, rel=1e-4)


def test_beside_itself_and_of_some_tokens_alone(model: Path, text: Path) -> None:
    measured = evaluator(text, tokens=20, against=str(model))
    result = measured(measured.open(str(model), None))
    assert result.scores["agreement"] == 100
    assert result.scores["kl"] == pytest.approx(0, abs=1e-9)
    assert result.facts["scored_tokens"] == 19
    assert result.facts["tokens_of_text"] > 20


def test_the_token_that_begins_texts_is_read_and_the_first_word_scored(model: Path, text: Path) -> None:
    measured = evaluator(text)
    ours = measured.open(str(model), None)
    plain = measured(ours)
    ours.tokenizer.bos_token = ours.tokenizer.eos_token  # and it is put before texts:
    ours.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<B> $A", special_tokens=[("<B>", ours.tokenizer.eos_token_id)]
    )
    begun = measured(ours)
    assert begun.facts["scored_tokens"] == plain.facts["scored_tokens"] + 1
    assert begun.facts["words"] == len(WHOLE.split())
    assert begun.facts["bytes"] == len(WHOLE.encode())
    assert measured._ids(ours)[0][0] == ours.tokenizer.eos_token_id


def test_text_decides_the_identity(model: Path, text: Path, tmp_path: Path) -> None:
    words = [
        f"source={model}",
        "evaluator=language_model",
        "corpus@evaluator.corpus=path",
        f"evaluator.corpus.path={text}",
        "evaluator.length=64",
        "evaluator.context=16",
        f"paths.runs={tmp_path}/runs",
        f"paths.cache={tmp_path}/cache",
        "logger=none",
    ]
    run = plan(compose_command("evaluate", words))
    record = run.make()
    assert record["scores"]["word_perplexity"] > 1
    again = plan(compose_command("evaluate", [*words, "evaluator.batch_size=1"]))
    assert again.identity == run.identity
    changed = tmp_path / "other.txt"
    changed.write_text(text.read_text() + " more")
    assert (
        plan(compose_command("evaluate", [*words, f"evaluator.corpus.path={changed}"])).identity
        != run.identity
    )


def test_what_cannot_be_measured(model: Path, text: Path, tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"evaluator.context=16 must be less than evaluator.length=16"):
        evaluator(text, length=16, context=16)
    with pytest.raises(LabError, match=r"corpus@evaluator.corpus="):
        LanguageModelScores()
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    with pytest.raises(LabError):
        evaluator(empty)
    measured = evaluator(text, against=str(save_causal(tmp_path / "specials", specials=True)))
    with pytest.raises(LabError, match="another vocabulary"):
        measured(measured.open(str(model), None))
    with pytest.raises(LabError, match="does not predict the next token"):
        measured.open(str(tiny_teacher), None)
