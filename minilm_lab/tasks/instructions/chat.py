"""Instruction, input and answer as token ids, through the tokenizer's chat template.

Prompt and answer are tokenised apart and joined as ids, so what is trained on is what is generated behind. A template
with which that is not the same as tokenising the whole conversation is refused: the model would have been tuned on
other tokens than those it is given here. Models without a template get a plain one of the lab's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from minilm_lab.errors import LabError

#: Without a chat template: what stands before the instruction, and before the answer.
PLAIN = ("{system}\n\n### Task\n{user}\n\n### Answer\n", "")
#: A word, a number, punctuation, two lines, letters beyond ASCII: what answers begin and end with.
PROBES = ("yes", "42", "(a) Laptops", "one line\nand another", "Écouteurs – noir", '"quoted."', "a:")


class Longer(Exception):
    """A prompt that does not fit, with nothing that may be cut left in it."""


@dataclass(frozen=True)
class Prompt:
    """A prompt that fits."""

    ids: list[int]
    cut: bool
    """Whether its input was shortened."""


class Chat:
    """Makes prompts and answers for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, system: str) -> None:
        """system: the system message that every prompt begins with.

        LabError where no token ends an answer, and for a template that answers behind its own prompt do not fit.
        """
        self.tokenizer, self.system = tokenizer, system
        self.template = getattr(tokenizer, "chat_template", None)
        #: Written in a text, these would end a turn or begin another.
        self._special = sorted(token for token in set(tokenizer.all_special_tokens) if token)
        self.end = self._end()
        for answer in PROBES:
            self.check("Name the thing.", "a thing", answer)

    def check(self, instruction: str, text: str, answer: str) -> None:
        """LabError unless prompt, answer and end, tokenised apart, begin the whole conversation, tokenised at once."""
        if self.template is None:
            return
        joined = [*self.prompt(instruction, text), *self.answer(answer)]
        whole = self._tokens(self._render(self._messages(instruction, text, answer), opened=False))
        if whole[: len(joined)] == joined:
            return
        place = next((n for n, (a, b) in enumerate(zip(joined, whole, strict=False)) if a != b), len(whole))
        raise LabError(
            "the chat template of this tokenizer makes other tokens of a whole conversation than of a prompt and an answer "
            f"apart (from token {place} of {len(joined)}, answer {answer[:40]!r}): what is trained on would not be what is "
            "generated. Take a model with another template, or remove chat_template from its tokenizer: then the lab's "
            "plain one is used"
        )

    def prompt(self, instruction: str, text: str) -> list[int]:
        """Ids of system message, instruction and input, the answer's turn opened; LabError for special tokens in them."""
        self._refuse_special(instruction, text)
        if self.template is not None:
            return self._tokens(self._render(self._messages(instruction, text), opened=True))
        plain = PLAIN[0].format(system=self.system, user=_user(instruction, text))
        begin = self.tokenizer.bos_token_id
        return [*([] if begin is None else [int(begin)]), *self._tokens(plain)]

    def answer(self, answer: str) -> list[int]:
        """Ids of an answer and the token that ends it."""
        self._refuse_special(answer)
        return [*self._tokens(answer), self.end]

    def fitted(self, instruction: str, text: str, room: int) -> Prompt:
        """The prompt of at most `room` tokens, of which the input alone is shortened, from its end.

        Raises Longer where instruction and system message leave no room for a token of an input that there is.
        """
        ids = self.prompt(instruction, text)
        if len(ids) <= room:
            return Prompt(ids, False)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in encoded["offset_mapping"]]
        tokens = len(ends) - (len(ids) - room)
        while tokens > 0:
            ids = self.prompt(instruction, text[: ends[tokens - 1]].rstrip())
            if len(ids) <= room:
                return Prompt(ids, True)
            tokens -= len(ids) - room  # tokens at the cut may be split otherwise
        raise Longer(f"{len(self.prompt(instruction, ''))} tokens without their input")

    def _end(self) -> int:
        end = self.tokenizer.eos_token_id
        if self.template is not None:
            # The first special token behind an answer: Llama 3's turns end otherwise than its texts.
            empty = self._render(self._messages("a", "", "Zq"), opened=False)
            behind = self._tokens(empty[empty.rindex("Zq") + 2 :])
            special = set(self.tokenizer.all_special_ids)
            end = next((token for token in behind if token in special), end)
        if end is None:
            raise LabError(
                "the tokenizer has no token that ends an answer, so nothing would ever stop: set eos_token in its "
                "tokenizer_config.json"
            )
        return int(end)

    def _messages(self, instruction: str, text: str, answer: str | None = None) -> list[dict[str, str]]:
        messages = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": _user(instruction, text)},
        ]
        return messages if answer is None else [*messages, {"role": "assistant", "content": answer}]

    def _render(self, messages: Sequence[dict[str, str]], opened: bool) -> str:
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=opened
                )
            )
        except Exception as error:  # templates raise what they like
            raise LabError(
                f"the chat template of this tokenizer takes no system message, or no such conversation ({error})"
            ) from error

    def _tokens(self, text: str) -> list[int]:
        return [
            int(token) for token in self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        ]

    def _refuse_special(self, *texts: str) -> None:
        for text in texts:
            if token := next((token for token in self._special if token in text), None):
                raise LabError(
                    f"a text holds {token}, which this tokenizer reads as the end or the beginning of a turn: take it out "
                    f"({text[:60]!r})"
                )


def _user(instruction: str, text: str) -> str:
    return f"{instruction}\n\n{text}" if text else instruction
