"""From logits to answers, against a loop over every span."""

import numpy as np
import pytest

from minilm_lab.tasks.span_answers import HOPELESS, answers, probabilities
from minilm_lab.tasks.span_features import Windows

CONTEXT = "one two three four five six seven eight nine ten"


def offsets(context):
    """Characters of each word, and of the space before it, as some tokenizers say."""
    found, at = [], 0
    for word in context.split(" "):
        found.append((max(at - 1, 0), at + len(word)))
        at += len(word) + 1
    return np.asarray(found)


def make(contexts, pieces, question=2):
    """Windows of [CLS] + question + words first…last of a context + [SEP]; pieces: (example, first, last)."""
    cut = [offsets(contexts[example])[first : last + 1] for example, first, last in pieces]
    lengths = np.asarray([question + 2 + len(part) for part in cut])
    return Windows(
        input_ids=[np.arange(n) for n in lengths],
        token_type_ids=None,
        labels=np.zeros((len(pieces), 2), dtype=np.int64),
        lengths=lengths,
        pad_id=0,
        example=np.asarray([piece[0] for piece in pieces]),
        null_at=np.zeros(len(pieces), dtype=np.int64),
        context_at=np.full(len(pieces), question + 1),
        offsets=cut,
    )


def by_loop(outputs, windows, contexts, count, longest):
    """For each context: [(score, text)] of its best spans, and the null score."""
    result = []
    for number, context in enumerate(contexts):
        best, null = {}, []
        for row, logits in enumerate(outputs):
            if windows.example[row] != number:
                continue
            null.append(float(logits[0, 0]) + float(logits[0, 1]))
            places = windows.offsets[row]
            for i in range(len(places)):
                for j in range(i, min(i + longest, len(places))):
                    text = context[places[i][0] : places[j][1]].strip()
                    score = float(logits[3 + i, 0]) + float(logits[3 + j, 1])
                    key = (context.index(text), text)  # every word is there once
                    best[key] = max(score, best.get(key, -1e9))
        ranked = sorted(((score, text) for (_, text), score in best.items()), reverse=True)
        result.append((ranked[:count], min(null)))
    return result


@pytest.mark.parametrize("count, longest", [(5, 3), (20, 30), (1, 1)])
def test_against_a_loop_over_all_spans(count, longest):
    contexts = [CONTEXT, "red green blue"]
    windows = make(contexts, [(0, 0, 5), (0, 3, 8), (0, 6, 9), (1, 0, 2)])
    random = np.random.default_rng(count)
    outputs = [random.normal(size=(n, 2)).astype(np.float32) for n in windows.lengths]
    for logits in outputs:  # the question and the separators would win if they could
        logits[1:3] = logits[-1] = 50.0
    found = answers(outputs, windows, contexts, n_best=count, max_answer=longest)
    for answer, (ranked, null) in zip(
        found, by_loop(outputs, windows, contexts, count, longest), strict=True
    ):
        assert [span.text for span in answer.spans] == [text for _, text in ranked]
        assert [span.score for span in answer.spans] == pytest.approx([score for score, _ in ranked])
        assert answer.null_score == pytest.approx(null)
        assert answer.best == ranked[0][1]
        assert answer.null_odds == pytest.approx(null - ranked[0][0])


def test_a_span_is_found_where_the_text_has_it():
    windows = make([CONTEXT], [(0, 2, 7)])
    logits = np.zeros((len(windows.input_ids[0]), 2), dtype=np.float32)
    logits[3 + 1, 0] = logits[3 + 2, 1] = 9.0
    (answer,) = answers([logits], windows, [CONTEXT], n_best=3, max_answer=30)
    span = answer.spans[0]
    assert (span.text, CONTEXT[span.start : span.end]) == ("four five", "four five")


def test_equal_scores_take_the_first_in_the_text_and_the_shorter():
    windows = make([CONTEXT], [(0, 0, 9)])
    (answer,) = answers([np.zeros((14, 2), dtype=np.float32)], windows, [CONTEXT], n_best=55, max_answer=30)
    assert [span.text for span in answer.spans[:3]] == ["one", "one two", "one two three"]
    assert len(answer.spans) == 55


def test_an_empty_context_has_no_answer():
    windows = make(["", "a b"], [(1, 0, 1)])
    empty = Windows(
        input_ids=[np.arange(4), *windows.input_ids],
        token_type_ids=None,
        labels=np.zeros((2, 2), dtype=np.int64),
        lengths=np.asarray([4, windows.lengths[0]]),
        pad_id=0,
        example=np.asarray([0, 1]),
        null_at=np.zeros(2, dtype=np.int64),
        context_at=np.asarray([4, 3]),
        offsets=[np.zeros((0, 2), dtype=np.int32), *windows.offsets],
    )
    outputs = [np.ones((n, 2), dtype=np.float32) for n in empty.lengths]
    first, second = answers(outputs, empty, ["", "a b"], n_best=20, max_answer=30)
    assert (first.spans, first.best, first.null_odds) == ([], "", HOPELESS)
    assert second.best == "a"


def test_probabilities():
    assert probabilities([1000.0, 1000.0]) == [0.5, 0.5]
    assert probabilities([0.0, np.log(3.0)]) == pytest.approx([0.25, 0.75])
