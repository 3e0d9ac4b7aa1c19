"""The engine against a plain loop without a cache, one text at a time, and against transformers' `generate`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.contexts import shared_prefixes
from minilm_lab.models.decoding import Decoding, ranked
from minilm_lab.models.language_model import LanguageModel

from .helpers import SHAPE, drawn, saved, tokenizer_of

END = 7
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_inner": 96}),
    "gpt-neox": ("gpt_neox", {}),
    "llama": ("llama", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "llama-tied": (
        "llama",
        {"num_attention_heads": 4, "num_key_value_heads": 1, "tie_word_embeddings": True},
    ),
    "mistral-window": ("mistral", {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 6}),
    "gemma2-window-cap": (
        "gemma2",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 6,
            "sliding_window": 6,
            "final_logit_softcapping": 5.0,
        },
    ),
}


class Words:
    """As much of a tokenizer as the engine asks for; padding and end are one token, as SmolLM2's."""

    eos_token_id = pad_token_id = END


def causal_of(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    kind, settings = MODELS[name]
    shape = {**SHAPE, "num_hidden_layers": 2, "eos_token_id": END, "bos_token_id": 1, "pad_token_id": END}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**shape, **settings, **changes}))
    return drawn(model, seed).eval()


def engine_of(name: str, batch_size: int = 128, **changes: Any) -> LanguageModel:
    return LanguageModel(causal_of(name, **changes), Words(), batch_size=batch_size)  # type: ignore[arg-type]


def prompts_of(count: int = 9, seed: int = 3) -> list[list[int]]:
    """Of unequal lengths; some begin alike, two are equal, one begins another, and END occurs inside."""
    draw = random.Random(seed)
    stem = [draw.randrange(100) for _ in range(14)]
    rows = [
        stem[: draw.randint(0, 14)] + [draw.randrange(100) for _ in range(draw.randint(1, 6))]
        for _ in range(count - 3)
    ]
    return [*rows, rows[0], stem, [*stem[:6], END, 4]]


@torch.no_grad()
def plain_logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()


def plain_greedy(model: PreTrainedModel, ids: list[int], length: int, until: Any = None) -> tuple[list, bool]:
    tokens: list[int] = []
    for _ in range(length):
        new = int(plain_logits(model, [*ids, *tokens]).argmax())
        if new == END:
            return tokens, True
        tokens.append(new)
        if until and until(tokens):
            return tokens, True
    return tokens, False


@pytest.mark.parametrize("name", MODELS)
def test_next_logits_of_unequal_rows_are_those_of_each_row_alone(name: str) -> None:
    engine, prompts = engine_of(name), prompts_of()
    logits = engine.next_logits(prompts)
    assert logits.dtype == torch.float32
    for row, prompt in zip(logits, prompts, strict=True):
        torch.testing.assert_close(row, plain_logits(engine.model, prompt), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch_size", [128, 4])
def test_greedy_is_the_plain_loop(name: str, batch_size: int) -> None:
    engine, prompts = engine_of(name, batch_size), prompts_of()
    answers = engine.generate(prompts, Decoding(length=12))
    for answer, prompt in zip(answers, prompts, strict=True):
        assert (answer.tokens, answer.ended) == plain_greedy(engine.model, prompt, 12)
    assert {answer.ended for answer in answers} >= {False}


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_hundred_forced_first_tokens_stay_what_they_are(name: str) -> None:
    engine, prompt = engine_of(name), prompts_of()[-2]
    first = ranked(engine.next_logits([prompt])[0]).tolist()
    assert sorted(first) == list(range(100))

    def until(tokens: list[int]) -> bool:
        return tokens[-1] % 9 == 0

    answers = engine.generate(
        [prompt] * 100, Decoding(length=6), forced=[[token] for token in first], until=until
    )
    context = engine.read([prompt])
    again = engine.generate(
        context.take([0] * 100), Decoding(length=6), forced=[[t] for t in first], until=until
    )
    assert [(a.tokens, a.ended) for a in answers] == [(a.tokens, a.ended) for a in again]
    for token, answer in zip(first, answers, strict=True):
        tokens, ended = plain_greedy(engine.model, [*prompt, token], 6, lambda t, f=token: until([f, *t]))
        assert (answer.tokens, answer.ended) == ([token, *tokens], ended)
    assert {answer.ended for answer in answers} == {True, False}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("penalty", [1.0, 0.0])
def test_beams_and_greedy_are_those_of_generate(name: str, beams: int, penalty: float) -> None:
    engine, prompts = engine_of(name), prompts_of()
    method = "beam" if beams > 1 else "greedy"
    answers = engine.generate(prompts, Decoding(method, 10, beams=beams, length_penalty=penalty))
    for answer, prompt in zip(answers, prompts, strict=True):
        out = engine.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=10,
            num_beams=beams,
            do_sample=False,
            **({"length_penalty": penalty} if beams > 1 else {}),
        )[0, len(prompt) :].tolist()
        expected = out[: out.index(END)] if END in out else out
        assert answer.tokens == expected
        whole = [*prompt, *answer.tokens, *([END] if answer.ended else [])]
        with torch.no_grad():
            logs = engine.model(input_ids=torch.tensor([whole]), use_cache=False).logits[0].log_softmax(-1)
        steps = range(len(prompt), len(whole))
        assert answer.log_probability == pytest.approx(
            sum(logs[i - 1, whole[i]].item() for i in steps), abs=1e-3
        )


def test_a_sample_is_a_function_of_seed_and_row() -> None:
    engine, prompts = engine_of("llama"), prompts_of()
    decoding = Decoding("sample", 10, temperature=0.7, top_p=0.9, seed=5)
    whole = [answer.tokens for answer in engine.generate(prompts, decoding)]
    some = engine.generate([prompts[6], prompts[2]], decoding, rows=[6, 2])
    assert [answer.tokens for answer in some] == [whole[6], whole[2]]
    assert prompts[0] == prompts[6] and whole[0] != whole[6]
    other = [a.tokens for a in engine.generate(prompts, Decoding("sample", 10, 0.7, 0.9, seed=6))]
    assert other != whole
    for number, prompt in enumerate(prompts):
        drawn_ = np.random.default_rng([5, number]).random(10)
        tokens: list[int] = []
        for uniform in drawn_:
            p = (plain_logits(engine.model, [*prompt, *tokens]).double() / 0.7).softmax(0).numpy()
            order = np.argsort(-p, kind="stable")
            nucleus = order[: int(np.searchsorted(p[order].cumsum(), 0.9, side="right")) + 1]
            total = p[nucleus].cumsum()
            new = int(nucleus[np.searchsorted(total, uniform * total[-1], side="right")])
            if new == END:
                break
            tokens.append(new)
        assert whole[number] == tokens


def test_samples_follow_the_distribution() -> None:
    engine, prompt = engine_of("llama"), prompts_of()[0]
    answers = engine.generate([prompt] * 4000, Decoding("sample", 1, temperature=3.0))
    counts = np.bincount([a.tokens[0] if a.tokens else END for a in answers], minlength=100) / 4000
    expected = (plain_logits(engine.model, prompt) / 3.0).softmax(0).numpy()
    assert np.abs(counts - expected).max() < 0.03


@pytest.mark.parametrize("name", MODELS)
def test_likelihoods_through_a_trie(name: str) -> None:
    engine, prompts = engine_of(name, batch_size=10), prompts_of(6)
    labels = [[5], [5, 9], [5, 9, END], [5, 8], [61, 2, 3, 4], [5, 9]]
    each = [labels[n % 3 :] for n in range(len(prompts))]
    for given, scores in (
        ([labels] * len(prompts), engine.likelihoods(prompts, labels)),
        (each, engine.likelihoods(prompts, each)),
    ):
        for prompt, some, values in zip(prompts, given, scores, strict=True):
            assert values.dtype == torch.float64
            for label, value in zip(some, values.tolist(), strict=True):
                with torch.no_grad():
                    logits = engine.model(
                        input_ids=torch.tensor([[*prompt, *label]]), use_cache=False
                    ).logits[0]
                logs = logits[len(prompt) - 1 : -1].log_softmax(-1)
                assert value == pytest.approx(logs[range(len(label)), label].sum().item(), abs=1e-3)


def test_reading_on_leaves_what_was_read() -> None:
    engine, prompts = engine_of("gpt2"), prompts_of()
    context = engine.read(prompts)
    before = context.logits.clone()
    for _ in range(2):  # the second time would see what the first wrote
        more = engine.read([[3, 5, 9][: 1 + n % 3] for n in range(len(prompts))], after=context)
        for n, prompt in enumerate(prompts):
            expected = plain_logits(engine.model, [*prompt, *[3, 5, 9][: 1 + n % 3]])
            torch.testing.assert_close(more.logits[n], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(context.logits, before)


def test_ranks_are_stable() -> None:
    assert ranked(torch.tensor([1.0, 3.0, 3.0, 0.0, 3.0])).tolist() == [1, 2, 4, 0, 3]


def test_the_model_gets_its_mode_and_gradients_back() -> None:
    engine = engine_of("llama")
    engine.model.train()
    engine.generate(prompts_of(), Decoding(length=2))
    assert engine.model.training and all(p.requires_grad for p in engine.model.parameters())


def saved_causal(folder: Path, name: str = "llama", template: str | None = None, **changes: Any) -> Path:
    causal_of(name, **changes).save_pretrained(folder)
    tokenizer = tokenizer_of("bert")
    tokenizer.eos_token = tokenizer.pad_token = "[SEP]"
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_loaded_and_text_begins_and_never_ends(tmp_path: Path) -> None:
    engine = LanguageModel.load(str(saved_causal(tmp_path)))
    begin, end = engine.tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    words = engine.tokenizer.convert_tokens_to_ids(["w3", "w5"])
    assert engine.ids("w3 w5") == [begin, *words] and engine.ids("w3 w5", begins=False) == words
    assert engine.ids("") == [begin] and engine.text([begin, *words, end]) == "w3 w5"
    assert engine.ends == {END, end}
    assert not engine.model.training and not any(p.requires_grad for p in engine.model.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_half_precision_keeps_a_head_in_float32(tmp_path: Path, tied: bool) -> None:
    folder = str(saved_causal(tmp_path, tie_word_embeddings=tied))
    narrow = LanguageModel.load(folder, dtype=torch.bfloat16)
    logits = narrow.next_logits(prompts_of())
    assert logits.dtype == torch.float32 and not torch.equal(logits, logits.bfloat16().float())
    wide = LanguageModel.load(folder).next_logits(prompts_of())
    assert (logits - wide).abs().max() < 0.1 * wide.abs().max()
    assert narrow.model.get_input_embeddings().weight.dtype == torch.bfloat16


SILENT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
ADDS = "{% if messages[0]['role'] != 'system' %}<system> w9 {% endif %}" + SILENT


def test_a_chat_template_that_adds_a_system_message_is_refused_without_one(tmp_path: Path) -> None:
    user = {"role": "user", "content": "w3"}
    silent = LanguageModel.load(str(saved_causal(tmp_path / "silent", template=SILENT)))
    assert silent.chat([user]) == silent.ids("<user> w3", begins=False)
    adds = LanguageModel.load(str(saved_causal(tmp_path / "adds", template=ADDS)))
    with pytest.raises(LabError, match="role system"):
        adds.chat([user])
    ours = {"role": "system", "content": "w4"}
    assert adds.chat([ours, user]) == adds.ids("<system> w4 <user> w3", begins=False)
    with pytest.raises(LabError, match="no chat template"):
        LanguageModel.load(str(saved_causal(tmp_path / "none"))).chat([user])


def test_models_that_do_not_write_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not predict the next token"):
        LanguageModel.load(str(saved(tmp_path / "encoder")))
    with pytest.raises(LabError, match="lm_head"):
        LanguageModel.load(str(saved(tmp_path / "body", "llama")))


def test_bad_input() -> None:
    engine = engine_of("gpt2")
    with pytest.raises(LabError, match="at least one token"):
        engine.generate([[3], []])
    with pytest.raises(LabError, match="reads 64"):
        engine.next_logits([[3] * 65])
    with pytest.raises(LabError, match="continuation"):
        engine.likelihoods([[3]], [[3], []])
    for bad in ({"method": "nucleus"}, {"temperature": 0.0}, {"top_p": 0.0}, {"length": 0}):
        with pytest.raises(LabError, match="decoding"):
            Decoding(**bad)  # type: ignore[arg-type]


def brute_force(rows: list[tuple[int, ...]]) -> int:
    """Most tokens that any cut into neighbours saves."""
    if not rows:
        return 0
    best = 0
    for first in range(1, len(rows) + 1):
        some = rows[:first]
        shared = min(len(row) - 1 for row in some)
        while len({row[:shared] for row in some}) > 1:
            shared -= 1
        best = max(best, (first - 1) * shared + brute_force(rows[first:]))
    return best


def test_shared_prefixes_save_the_most() -> None:
    draw = random.Random(1)
    for _ in range(40):
        rows = sorted({tuple(draw.randrange(2) for _ in range(draw.randint(1, 6))) for _ in range(8)})
        groups, saved = shared_prefixes(rows)
        assert saved == brute_force(rows) == sum((b - a - 1) * s for a, b, s in groups)
        assert [a for a, _, _ in groups] == [0, *(b for _, b, _ in groups)][:-1]
        for start, stop, shared in groups:
            assert len({row[:shared] for row in rows[start:stop]}) == 1
            assert all(len(row) > shared for row in rows[start:stop])


@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "mistral-window"])
def test_likelihoods_behind_what_was_read(name: str) -> None:
    engine = engine_of(name, batch_size=4)
    prompts = prompts_of()
    lists = [[[3, 5], [3, 9, END], [8]][: 1 + n % 3] for n in range(len(prompts))]
    context = engine.read(prompts)
    before = context.logits.clone()
    for ours, theirs in zip(
        engine.likelihoods(context, lists), engine.likelihoods(prompts, lists), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert torch.equal(context.logits, before)
    again = engine.generate(context, Decoding(length=5))
    assert [a.tokens for a in again] == [a.tokens for a in engine.generate(prompts, Decoding(length=5))]
