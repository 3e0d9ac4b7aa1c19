"""From instructions, inputs and answers to token ids: prompt, answer, end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.tasks.features import IGNORED, Features, arrays
from minilm_lab.tasks.instructions.chat import Chat, Longer

if TYPE_CHECKING:
    from datasets import Dataset

    from minilm_lab.data.loading import Batch

log = logging.getLogger(__name__)

#: Rows of a split whose whole conversation is compared with its parts, beside the probes.
CHECKED = 64


@dataclass(frozen=True)
class InstructionFeatures(Features):
    """Prompts with their answers behind them.

    labels: for each token its own id where it belongs to the answer or ends it, −100 where it belongs to the prompt. They
    are made of lengths alone: a padding token may be the one that ends answers.
    """

    rules: str = ""
    """The rules of the tokenizer as JSON: what is generated is made text with them."""
    options: np.ndarray | None = None
    """int64 (rows,): number of the list of answers of which one is right; −1 where there is none. None: in no row."""
    prompts_cut: int = 0
    """How many inputs were shortened."""
    answers_dropped: int = 0
    """How many rows for training were left out because of their answers' length."""
    answers_longer: int = 0
    """How many answers to be judged are longer than what is generated."""

    def batch(self, rows: np.ndarray) -> Batch:
        """As `Features.batch`, with "options", int64 (rows,), where there are any."""
        batch = super().batch(rows)
        if self.options is not None:
            batch["options"] = torch.from_numpy(self.options[rows])
        return batch

    def decoder(self) -> Tokenizer:
        """The tokenizer, without what the library puts around it."""
        return Tokenizer.from_str(self.rules)


def featurize(
    split: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    system: str,
    length: int,
    target_length: int,
    long_answers: str = "drop",
    training: bool = True,
    options: Sequence[int] | None = None,
) -> InstructionFeatures:
    """Tokenise a split: text is the instruction, pair the input, label the answer.

    A prompt has at most `length` − `target_length` tokens: of a longer one the input is shortened from its end, counted.
    No answer is ever cut. In training one of more than `target_length` tokens, its end included, is dropped and counted, or
    fails (long_answers); a judged one is kept whole.

    Raises LabError for a template that does not fit (`Chat`), for a prompt too long without its input, for texts with
    special tokens, and where nothing is left.
    """
    chat = Chat(tokenizer, system)
    inputs = split["pair"][:] if "pair" in split.column_names else [""] * len(split)
    ids: list[list[int]] = []
    prompts: list[int] = []
    kept: list[int] = []
    cut = longer = 0
    rows = zip(split["id"][:], split["text"][:], inputs, split["label"][:], strict=True)
    for row, (name, instruction, text, answer) in enumerate(rows):
        if row < CHECKED:
            chat.check(instruction, text, answer)
        tail = chat.answer(answer)
        if len(tail) > target_length:
            longer += 1
            if training and long_answers == "fail":
                raise LabError(
                    f"task.target_length={target_length}: the answer of {name} has {len(tail)} tokens with its end, and "
                    "answers are never cut. Give more, or drop such rows with task.long_answers=drop"
                )
            if training:
                continue
        try:
            prompt = chat.fitted(instruction, text, length - target_length)
        except Longer as error:
            raise LabError(
                f"task.length={length} leaves {length - target_length} tokens for a prompt, and {name} has {error}: give "
                "more, or a shorter instruction"
            ) from error
        cut += prompt.cut
        kept.append(row)
        prompts.append(len(prompt.ids))
        ids.append([*prompt.ids, *tail])
    if not ids:
        raise LabError(f"task.target_length={target_length}: every answer is longer; give more tokens.")
    dropped = longer if training else 0
    if dropped:
        log.warning(
            "%d of %d training answers are longer than task.target_length=%d tokens: their rows are dropped.",
            dropped,
            len(split),
            target_length,
        )
    if cut:
        log.warning(
            "%d of %d inputs are longer than task.length leaves room for: shortened.", cut, len(split)
        )
    labels = [
        np.concatenate([np.full(prompt, IGNORED, dtype=np.int64), np.asarray(row[prompt:], dtype=np.int64)])
        for prompt, row in zip(prompts, ids, strict=True)
    ]
    return InstructionFeatures(
        input_ids=arrays(ids),
        token_type_ids=None,
        labels=labels,
        lengths=np.asarray([len(row) for row in ids]),
        pad_id=chat.end,  # nothing reads padding; any id that there is
        rules=tokenizer.backend_tokenizer.to_str(),
        options=None if options is None else np.asarray([options[row] for row in kept], dtype=np.int64),
        prompts_cut=cut,
        answers_dropped=dropped,
        answers_longer=0 if training else longer,
    )
