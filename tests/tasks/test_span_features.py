"""Windows against the tokenizer called by hand; the answer read back from the tokens that labels point at."""

import logging

import numpy as np
import pytest
from data.helpers import byte_bpe, wordpiece
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from minilm_lab.errors import LabError
from minilm_lab.tasks.span_features import windows
from tasks.helpers import make_split

from .span_reference import WORDS


def sentencepiece():
    """A tokenizer of XLM-R's kind: tokens begin with the space before them, and so do their offsets."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*(f"▁{word}" for word in WORDS), "▁dog", *"abcdefghijklmnopqrstuvwxyz", "▁"]
    vocabulary = [(piece, 0.0) for piece in special] + [(piece, -float(len(piece) < 3)) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


KINDS = {"wordpiece": wordpiece, "byte_bpe": byte_bpe, "sentencepiece": sentencepiece}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]()


def data(cases):
    """Examples of (question, context, answer or None); the answer's first place counts."""
    labels = [(c.index(a), c.index(a) + len(a)) if a else (-1, -1) for _, c, a in cases]
    return make_split([(q, c) for q, c, _ in cases], labels, [str(n) for n in range(len(cases))])


def many(count=40, seed=3):
    """Questions of 1 to 8 words on contexts of 5 to 70; every fourth without an answer."""
    draw = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        words = draw.choice(WORDS, draw.integers(5, 70)).tolist()
        at = int(draw.integers(0, len(words)))
        answer = " ".join(words[at : at + int(draw.integers(1, 4))])
        question = " ".join(draw.choice(WORDS, draw.integers(1, 9)).tolist())
        cases.append((question, " ".join(words), answer if number % 4 else None))
    return cases


def test_the_labels_point_at_the_answer_and_windows_cover_the_context(kind):
    cases = many()
    found = windows(data(cases), kind, length=48, stride=16, max_question=30)
    assert found.lengths.max() <= 48
    assert (np.bincount(found.example, minlength=len(cases)) > 1).any(), "no context is too long"
    answered = set()
    for row, example in enumerate(found.example):
        _, context, answer = cases[example]
        first, last = found.labels[row] - found.context_at[row]
        offsets = found.offsets[row]
        begin = context.index(answer) if answer else -1
        whole = bool(answer) and offsets[0, 0] <= begin and begin + len(answer) <= offsets[-1, 1]
        if not whole:
            assert found.labels[row].tolist() == [found.null_at[row]] * 2
            continue
        answered.add(int(example))
        assert context[offsets[first, 0] : offsets[last, 1]].strip() == answer
    assert answered == {n for n, case in enumerate(cases) if case[2]}
    for example, (_, context, _) in enumerate(cases):
        covered = set()
        for row in np.flatnonzero(found.example == example):
            covered |= {c for start, end in found.offsets[row] for c in range(start, end)}
        assert {n for n, letter in enumerate(context) if letter != " "} <= covered


def test_each_window_is_what_the_tokenizer_makes_of_question_and_piece(kind):
    cases = many(12)
    found = windows(data(cases), kind, length=48, stride=16, max_question=30)
    for row, example in enumerate(found.example):
        question, context, _ = cases[example]
        plain = kind(question, context)
        full, piece = plain["input_ids"], found.input_ids[row].tolist()
        at = found.context_at[row]
        assert piece[:at] == full[:at]
        body = piece[at : at + len(found.offsets[row])]
        inside = [full[i : i + len(body)] for i in range(at, len(full))]
        assert body in inside
        assert piece[at + len(body) :] == full[-1:]  # one separator at the end
        assert piece[found.null_at[row]] == kind.cls_token_id


def test_windows_begin_a_stride_apart_as_in_bert(tokenizer):
    # Letters are tokens. 40 of them, questions of 1 and 3: windows of 20 leave room for 16 and 14.
    context = " ".join("abcdefghij" * 4)
    found = windows(
        data([("x", context, None), ("x y z", context, None)]), tokenizer, length=20, stride=6, max_question=8
    )
    starts = {n: (found_offsets(found, n) // 2).tolist() for n in (0, 1)}
    assert starts[0] == [0, 6, 12, 18, 24]
    assert starts[1] == [0, 6, 12, 18, 24, 30]
    # A stride longer than the room leaves no gap.
    wide = windows(data([("x", context, None)]), tokenizer, length=20, stride=100, max_question=8)
    assert (found_offsets(wide, 0) // 2).tolist() == [0, 16, 32]


def found_offsets(found, example):
    return np.asarray([found.offsets[row][0, 0] for row in np.flatnonzero(found.example == example)])


def test_segments_and_padding(tokenizer):
    found = windows(
        data([("a b", "c d e", "d"), ("a", "f", None)]), tokenizer, length=32, stride=8, max_question=8
    )
    batch = found.batch(np.asarray([0, 1]))
    words = [tokenizer.convert_ids_to_tokens(row) for row in batch["input_ids"].tolist()]
    assert [" ".join(row) for row in words] == [
        "[CLS] a b [SEP] c d e [SEP]",
        "[CLS] a [SEP] f [SEP] [PAD] [PAD] [PAD]",
    ]
    assert batch["token_type_ids"].tolist() == [[0] * 4 + [1] * 4, [0] * 3 + [1] * 2 + [0] * 3]
    assert batch["attention_mask"].tolist() == [[1] * 8, [1] * 5 + [0] * 3]
    assert batch["labels"].tolist() == [[5, 5], [0, 0]]


def test_padding_stays_right_for_tokenizers_that_pad_on_the_left(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    found = windows(
        data([("a b", "c d e", "d"), ("a", "f", "f")]), tokenizer, length=32, stride=8, max_question=8
    )
    assert found.batch(np.asarray([0, 1]))["attention_mask"].tolist() == [[1] * 8, [1] * 5 + [0] * 3]
    assert found.labels.tolist() == [[5, 5], [3, 3]]


def test_an_answer_inside_a_token_takes_the_token(kind):
    context = "two dogs saw rain"
    (label,) = windows(data([("cat", context, "dog")]), kind, length=60, stride=8, max_question=30).labels
    found = windows(data([("cat", context, "dog")]), kind, length=60, stride=8, max_question=30)
    first, last = label - found.context_at[0]
    text = context[found.offsets[0][first, 0] : found.offsets[0][last, 1]].strip()
    assert "dog" in text and text in ("dog", "dogs")


def test_empty_contexts_and_long_questions(tokenizer, caplog):
    cases = [("a b c d e f", "g h", "g"), ("a", "", None)]
    with caplog.at_level(logging.WARNING):
        found = windows(data(cases), tokenizer, length=32, stride=8, max_question=3)
    words = [" ".join(tokenizer.convert_ids_to_tokens(ids.tolist())) for ids in found.input_ids]
    assert words == ["[CLS] a b c [SEP] g h [SEP]", "[CLS] a [SEP] [SEP]"]
    assert found.labels.tolist() == [[5, 5], [0, 0]]
    assert "1 of 2 questions are longer than task.max_question=3" in caplog.text


def test_tokenizers_that_do_not_do(tokenizer, monkeypatch):
    cases = data([("a", "b", "b")])

    def refused(match):
        with pytest.raises(LabError, match=match):
            windows(cases, tokenizer, length=32, stride=8, max_question=8)

    kept = tokenizer._special_tokens_map
    monkeypatch.setattr(tokenizer, "_special_tokens_map", kept | {"cls_token": None})
    refused(r"no \[CLS\] token")
    monkeypatch.setattr(tokenizer, "_special_tokens_map", kept | {"pad_token": None})
    refused("no padding token")
    monkeypatch.setattr(tokenizer, "_special_tokens_map", kept)
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    refused("not a fast one")
