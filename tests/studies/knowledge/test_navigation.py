"""Decodings against a plain loop that reads whole texts without a cache, and from the command."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.models.decoding import ranked
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge import methods
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.navigation import Navigation
from minilm_lab.studies.knowledge.prompts import Asker, asked
from minilm_lab.studies.knowledge.spurious import Spurious

from .conftest import GOLDS, LENGTH


@torch.no_grad()
def plain(asker: Asker, prompt: Sequence[int], start: Sequence[int], length: int = LENGTH) -> list[int]:
    """Greedy, one text, no cache, until a token holds a quote."""
    tokens = list(start)
    for _ in range(length):
        if tokens and '"' in asker.model.tokenizer.decode([tokens[-1]]):
            break
        logits = asker.model.model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[
            0, -1
        ]
        best = int((logits == logits.max()).nonzero()[0, 0])
        if best in asker.model.ends:
            break
        tokens.append(best)
    return tokens


@torch.no_grad()
def order(asker: Asker, ids: Sequence[int]) -> list[int]:
    logits = asker.model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    return sorted(range(len(logits)), key=lambda n: (-logits[n].item(), n))


def test_rank_order_is_the_plain_loop(asker: Asker, prompts: list[list[int]]) -> None:
    found = methods.by_rank(asker, prompts, GOLDS, 30)
    ended = 0
    for prompt, replies in zip(prompts, found.replies, strict=True):
        for token, reply in zip(order(asker, prompt)[:30], replies, strict=True):
            tokens = plain(asker, prompt, [token])
            text = asker.model.tokenizer.decode(tokens, skip_special_tokens=True)
            assert reply.first == token and reply.text == text.split('"')[0] and reply.ended == ('"' in text)
            ended += reply.ended
    assert 0 < ended < 90, "both kinds are there"


@pytest.mark.parametrize("decode_from", ["initial", "navigated"])
def test_navigation_is_the_plain_loop(asker: Asker, prompts: list[list[int]], decode_from: str) -> None:
    found = methods.navigated(asker, prompts, GOLDS, 12, rounds=4, decode_from=decode_from)
    for prompt, replies in zip(prompts, found.replies, strict=True):
        behind, expected = list(prompt), []
        for _ in range(4):
            probed = {first for first, _ in expected}
            chosen = [token for token in order(asker, behind) if token not in probed][:3]
            texts = [
                plain(asker, prompt if decode_from == "initial" else behind, [token]) for token in chosen
            ]
            for token, tokens in zip(chosen, texts, strict=True):
                closed = '"' in asker.model.tokenizer.decode([tokens[-1]])
                expected.append((token, tokens))
                body = tokens[:-1] if closed else tokens
                before = asker.model.tokenizer.decode(tokens[-1]).split('"')[0] if closed else ""
                body = [*body, *asker.model.ids(before, begins=False)] if before else body
                behind += [*body, *asker.model.ids(f'"\n{len(expected) + 1}. "', begins=False)]
        assert [reply.first for reply in replies] == [first for first, _ in expected]
        for reply, (_, tokens) in zip(replies, expected, strict=True):
            text = asker.model.tokenizer.decode(tokens, skip_special_tokens=True)
            assert reply.text == text.split('"')[0]


def test_navigation_with_an_empty_list_is_rank_order(asker: Asker, prompts: list[list[int]]) -> None:
    rank = methods.by_rank(asker, prompts, GOLDS, 23)
    none = methods.navigated(asker, prompts, GOLDS, 23, rounds=5, explored="none")
    assert none.replies == rank.replies and none.navigability == []
    assert methods.navigated(asker, prompts, GOLDS, 23, rounds=1).replies == rank.replies
    own = methods.navigated(asker, prompts, GOLDS, 23, rounds=5)
    other = methods.navigated(asker, prompts, GOLDS, 23, rounds=5, explored="other")
    assert own.replies != rank.replies and other.replies != own.replies
    for replies in (*own.replies, *other.replies):
        assert len({reply.first for reply in replies}) == 23, "no token is explored twice"
    assert len(own.navigability) == 3 and all(ratio > 0 for ratio in own.navigability)


def test_groups_of_prompts_do_not_matter(asker: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    golds = [GoldList(str(n), f"things {n}", (("x",),)) for n in range(5)]
    prompts = [asked(asker.model, gold, "bare") for gold in golds]
    whole = methods.navigated(asker, prompts, golds, 6, rounds=3)
    monkeypatch.setattr(methods, "TOGETHER", 2)
    assert methods.navigated(asker, prompts, golds, 6, rounds=3).replies == whole.replies


def test_round_robin_takes_a_token_of_each_cluster_in_turn(asker: Asker, prompts: list[list[int]]) -> None:
    labels = torch.arange(asker.vocabulary) % 7
    labels[:3] = -1
    found = methods.round_robin(asker, prompts, GOLDS, 20, labels)
    for prompt, replies in zip(prompts, found.replies, strict=True):
        ranking = [token for token in order(asker, prompt) if token >= 3]
        columns = [[token for token in ranking if token % 7 == c] for c in range(7)]
        rows = [
            sorted((t for t in row if t is not None), key=ranking.index)
            for row in itertools.zip_longest(*columns)
        ]
        assert [reply.first for reply in replies] == [token for row in rows for token in row][:20]


def test_samples_beams_and_lists(asker: Asker, prompts: list[list[int]]) -> None:
    from minilm_lab.models.decoding import Decoding

    decoding = Decoding(method="sample", length=LENGTH, seed=1)
    draws = methods.sampled(asker, prompts, GOLDS, 15, decoding)
    assert draws.replies == methods.sampled(asker, prompts, GOLDS, 15, decoding).replies
    assert len({reply.text for reply in draws.replies[0]}) > 5
    # As wide as one answer, the best of all hypotheses is the engine's own beam search.
    beams = methods.by_beams(asker, prompts, GOLDS, 4)
    best = asker.model.generate(
        prompts, Decoding(method="beam", beams=4, length=LENGTH + 1), until=asker.closed
    )
    for replies, answer in zip(beams.replies, best, strict=True):
        assert replies[0] == asker.reply(answer, GOLDS[0])
    lists = methods.as_list(asker, prompts, GOLDS, 3, tokens_each=30)
    for prompt, replies in zip(prompts, lists.replies, strict=True):
        text, tokens = "", []
        while text.count('"') < 5 and len(tokens) < 90:
            new = plain(asker, [*prompt, *tokens], [], 1)
            if not new:
                break
            tokens += new
            text = asker.model.tokenizer.decode(tokens, skip_special_tokens=True)
        assert len(replies) == min(3, (text.count('"') + 1) // 2)
        assert not replies or replies[0].text == text.split('"')[0].split("\n")[-1]


# As a user calls it.


def words(source: Path, tmp_path: Path, evaluator: str, *more: str) -> list[str]:
    paths = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", "logger=none"]
    lists = [
        "evaluator.lists=[elements,countries_europe,rivers]",
        "evaluator.style=bare",
        "evaluator.clusters=8",
    ]
    return [
        f"source={source}",
        f"evaluator={evaluator}",
        "evaluator.answers=20",
        "evaluator.length=6",
        *lists,
        *paths,
        *more,
    ]


def made(words: list[str]) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
    run = plan(compose_command("evaluate", words))
    record = run.make()
    lines = (run.folder.path / "predictions.jsonl").read_text().splitlines()
    return record, [json.loads(line) for line in lines], run.folder.path


@pytest.mark.parametrize("decoding", ["rank", "icn", "sample", "beam", "list", "round_robin"])
def test_every_decoding_from_the_command(causal: Path, tmp_path: Path, decoding: str) -> None:
    record, rows, folder = made(words(causal, tmp_path, "navigation", f"evaluator.decoding={decoding}"))
    scores = record["scores"]
    assert record["score"] == {"name": "distinct", "value": scores["distinct"]}
    assert scores["forward_tokens"] > 0 and {row["prompt"] for row in rows} <= {
        "elements",
        "countries_europe",
        "rivers",
    }
    assert len((folder / "curve.csv").read_text().splitlines()) == 21 and (folder / "curve.svg").is_file()
    assert ("navigability" in scores) == (decoding == "icn")
    if decoding == "rank":
        again, same, _ = made(words(causal, tmp_path, "navigation", "evaluator.explored=none"))
        keys = [key for key in scores if key not in ("seconds", "forward_tokens")]
        assert same == rows and [again["scores"][key] for key in keys] == [scores[key] for key in keys]


def test_spurious_from_the_command(causal: Path, tmp_path: Path) -> None:
    record, rows, folder = made(words(causal, tmp_path, "spurious"))
    scores = record["scores"]
    assert len(rows) == 60 and [row["rank"] for row in rows[:20]] == list(range(1, 21))
    behind = [row for row in rows if row["rank"] > 10]
    assert 0 < scores["in_share"] < 100 and scores["difference"] == 0, "nothing is right, so nothing differs"
    assert (folder / "ranks.svg").is_file() and (folder / "answers.svg").is_file() and behind
    assert len(record["details"]["difference_by_seed"]) == 3
    one, rows, _ = made(words(causal, tmp_path, "spurious", "evaluator.seeds=[0]"))
    inside = [row["inside"] for row in rows if row["rank"] > 10]
    assert one["scores"]["in_share"] == pytest.approx(100 * sum(inside) / len(inside))


def test_bad_settings(causal: Path, tmp_path: Path, tiny_teacher: Path) -> None:
    for settings, message in (
        ({"decoding": "icm"}, r"evaluator.decoding=icm: allowed are .* Did you mean 'icn'"),
        ({"explored": "all"}, "evaluator.explored=all: allowed are own, other, none"),
        ({"style": "plain"}, "evaluator.style=plain: allowed are bare, examples, chat"),
        ({"rounds": 200}, "evaluator.rounds=200 is more than evaluator.answers=100"),
        ({"temperature": 0.0}, "temperature=0.0 must be more than 0"),
        ({"answers": 0}, "evaluator.answers=0 must be at least 1"),
    ):
        with pytest.raises(LabError, match=message):
            Navigation(**settings)  # type: ignore[arg-type]
    with pytest.raises(LabError, match=r"evaluator.answers=10 must be more than evaluator.top=10"):
        Spurious(answers=10)
    with pytest.raises(LabError, match="does not predict the next token"):
        plan(compose_command("evaluate", words(tiny_teacher, tmp_path, "navigation")))
    with pytest.raises(LabError, match="no list 'atoms'"):
        plan(compose_command("evaluate", [*words(causal, tmp_path, "navigation"), "evaluator.lists=[atoms]"]))
    lone = ["evaluator.explored=other", "evaluator.lists=[rivers]"]
    with pytest.raises(LabError, match="give two lists or more"):
        plan(compose_command("evaluate", [*words(causal, tmp_path, "navigation"), *lone])).make()


def test_more_than_the_model_can_give(
    asker: Asker, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        LabError, match=r"evaluator.answers=999 is more than the \d+ tokens that an answer can begin with"
    ):
        methods.by_rank(asker, prompts, GOLDS, 999)
    monkeypatch.setattr(asker.model.model.config, "max_position_embeddings", 100)
    with pytest.raises(
        LabError, match=r"evaluator.answers=40: their list takes \d+ tokens, and this model reads 100"
    ):
        methods.navigated(asker, prompts, GOLDS, 40, rounds=2)


def test_a_chat_prompt_opens_the_assistants_turn(causal: Path) -> None:
    model = LanguageModel.load(str(causal))
    model.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<me>"
    )
    text = model.tokenizer.decode(asked(model, GOLDS[0], "chat"))
    assert text.endswith('<me>1. "') and "<system>" in text and "Please name some things 0." in text
    model.tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
        + (model.tokenizer.chat_template)
    )
    assert "<system>" not in model.tokenizer.decode(asked(model, GOLDS[0], "chat"))
    assert ranked(torch.tensor([1.0, 1.0])).tolist() == [0, 1]
