"""Questions and contexts as windows of tokens: the question first, as much of the context as fits after it.

A context that is too long comes in several windows. As in BERT's `run_squad`, `stride` is the distance from the
start of one window to the start of the next (the tokenizers of the library call the overlap "stride"). A model
learns to point at the answer where a window holds all of it, and at [CLS] where it does not.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.tasks.features import Features, check_padding
from minilm_lab.tasks.qa_data import NO_SPAN

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Questions tokenised at once: their offsets are lists of tuples, large while they last."""


@dataclass(frozen=True)
class Windows(Features):
    """Each row is a window; labels are int64 (windows, 2): the first and the last token of the answer."""

    example: np.ndarray
    """Number of the example of each window, ascending, int64 (windows,)."""
    null_at: np.ndarray
    """Where [CLS] is in each window, which stands for "no answer here", int64 (windows,)."""
    context_at: np.ndarray
    """Where the context begins in each window, int64 (windows,)."""
    offsets: list[np.ndarray]
    """First character of each context token in the context, and one after its last: int32 (context tokens, 2)."""


@dataclass(frozen=True)
class _Window:
    example: int
    input_ids: np.ndarray
    segments: np.ndarray | None
    context_at: int
    offsets: np.ndarray
    null_at: int


def windows(
    split: Dataset, tokenizer: PreTrainedTokenizerBase, *, length: int, stride: int, max_question: int
) -> Windows:
    """Tokenise a split (see ``qa_data.questions``) to windows of at most `length` tokens.

    Questions longer than `max_question` tokens are cut, and counted in a warning. Raises LabError when the
    tokenizer gives no offsets, or has no [CLS] or no padding token.
    """
    check_padding(tokenizer)
    if not tokenizer.is_fast:
        raise LabError(
            f"The tokenizer of {tokenizer.name_or_path} is not a fast one: it cannot say where in the text a "
            f"token is, which question answering needs. Save a tokenizer.json beside the model."
        )
    if tokenizer.cls_token_id is None:
        raise LabError(
            f"The tokenizer of {tokenizer.name_or_path} has no [CLS] token, which stands for 'no answer in this "
            f"window'. Use a model of BERT's kind."
        )
    asked, lengths = _questions(split["text"][:], tokenizer, max_question)
    contexts, spans = split["pair"][:], split["label"][:]
    pieces = sorted(
        _encode(asked, contexts, lengths, tokenizer, length, stride), key=lambda window: window.example
    )
    labels = [_target(window, spans[window.example]) for window in pieces]
    has_segments = pieces[0].segments is not None
    return Windows(
        input_ids=[window.input_ids for window in pieces],
        token_type_ids=[w.segments for w in pieces if w.segments is not None] if has_segments else None,
        labels=np.asarray(labels, dtype=np.int64),
        lengths=np.asarray([len(window.input_ids) for window in pieces]),
        pad_id=int(tokenizer.pad_token_id),
        example=np.asarray([window.example for window in pieces]),
        null_at=np.asarray([window.null_at for window in pieces]),
        context_at=np.asarray([window.context_at for window in pieces]),
        offsets=[window.offsets for window in pieces],
    )


def _questions(
    questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, longest: int
) -> tuple[list[str], list[int]]:
    """The questions, cut to `longest` tokens, and their numbers of tokens."""
    encoded = tokenizer(
        list(questions),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    cut, lengths, too_long = list(questions), [], 0
    for number, offsets in enumerate(encoded["offset_mapping"]):
        if len(offsets) > longest:
            too_long += 1
            cut[number] = questions[number][: offsets[longest - 1][1]]
        lengths.append(min(len(offsets), longest))
    if too_long:
        log.warning(
            "%d of %d questions are longer than task.max_question=%d tokens; they are cut.",
            too_long,
            len(questions),
            longest,
        )
    return cut, lengths


def _encode(
    questions: Sequence[str],
    contexts: Sequence[str],
    question_lengths: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    stride: int,
) -> Iterator[_Window]:
    # The library's overlap is the same for a whole call, and ours depends on the room that a question leaves.
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for number, tokens in enumerate(question_lengths):
        by_length[tokens].append(number)
    specials = tokenizer.num_special_tokens_to_add(pair=True)
    for tokens, members in sorted(by_length.items()):
        room = length - specials - tokens
        for start in range(0, len(members), AT_ONCE):
            chosen = members[start : start + AT_ONCE]
            encoded = tokenizer(
                [questions[n] for n in chosen],
                [contexts[n] for n in chosen],
                split_special_tokens=True,
                truncation="only_second",
                max_length=length,
                stride=max(room - stride, 0),
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
                padding=False,
                verbose=False,
            )
            segments = encoded.get("token_type_ids")
            for row, sample in enumerate(encoded["overflow_to_sample_mapping"]):
                ids = encoded["input_ids"][row]
                parts = encoded.sequence_ids(row)
                begin = parts.index(1) if 1 in parts else len(parts)
                end = begin + parts.count(1)
                yield _Window(
                    example=chosen[sample],
                    input_ids=np.asarray(ids, dtype=np.int32),
                    segments=None if segments is None else np.asarray(segments[row], dtype=np.int32),
                    context_at=begin,
                    offsets=np.asarray(encoded["offset_mapping"][row][begin:end], dtype=np.int32).reshape(
                        -1, 2
                    ),
                    null_at=ids.index(tokenizer.cls_token_id),
                )


def _target(window: _Window, span: Sequence[int]) -> tuple[int, int]:
    """The first and the last token of the answer with the characters `span`; twice [CLS] if it is not in here."""
    start, end = span
    offsets = window.offsets
    if list(span) == NO_SPAN or not len(offsets) or start < offsets[0, 0] or end > offsets[-1, 1]:
        return window.null_at, window.null_at
    # The tokens that share a character with the answer. A token may begin with a space, or hold more than it.
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end))
    if not len(inside):
        return window.null_at, window.null_at
    return window.context_at + int(inside[0]), window.context_at + int(inside[-1])
