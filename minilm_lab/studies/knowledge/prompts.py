"""How a model is asked, and how its answers are read, as token ids throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.decoding import Answer, Decoding, ranked
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.gold_lists import GoldList

FORMATS = ("bare", "examples", "chat")
#: Of none of the embedded lists, so that nothing is given away.
EXAMPLES = {
    "school subjects": ("Mathematics", "History", "Literature"),
    "shapes": ("Circle", "Square", "Triangle"),
    "jobs": ("Teacher", "Nurse", "Plumber"),
}
SYSTEM = "You answer with a numbered list."


def asked(model: LanguageModel, gold: GoldList, style: str) -> list[int]:
    """The prompt up to the opening quote of the first answer.

    bare: as in the paper, the instruction and `Answer:`; examples: after three lists of other things; chat: by the
    model's template, the assistant's turn begun with the list.
    """
    if style == "chat":
        turn = [{"role": "user", "content": _instruction(gold.asks)}]
        try:
            opened = model.chat([{"role": "system", "content": SYSTEM}, *turn])
        except LabError:
            raise
        except Exception:  # templates that know no system message raise whatever they like
            opened = model.chat(turn)
        return [*opened, *model.ids('1. "', begins=False)]
    before = ""
    if style == "examples":
        before = "".join(f"{_start(what)}{_listed(names)}\n\n" for what, names in EXAMPLES.items())
    return model.ids(f'{before}{_start(gold.asks)}1. "')


def _instruction(asks: str) -> str:
    return f"Please name some {asks}."


def _start(asks: str) -> str:
    return f"{_instruction(asks)}\n\nAnswer:\n"


def _listed(names: Sequence[str]) -> str:
    return "\n".join(f'{number}. "{name}"' for number, name in enumerate(names, 1))


@dataclass(frozen=True)
class Reply:
    """An answer, up to the closing quote."""

    first: int
    """Its first token."""
    text: str
    tokens: tuple[int, ...]
    """Those of `text`, as they were written; never made of text again, which could merge them."""
    ended: bool
    """Whether the quote was closed. Without it there is no answer: nothing is judged right."""
    gold: int | None
    """Number of the right answer that it is; None: wrong."""

    @property
    def key(self) -> object:
        """Equal for two replies that name the same: two right spellings of one answer, or one wrong text."""
        return self.gold if self.gold is not None else self.text.strip().casefold()


class Asker:
    """Continues prompts to the closing quote."""

    def __init__(self, model: LanguageModel, length: int) -> None:
        """length: most tokens of an answer behind its first."""
        self.model, self.length = model, length
        self.vocabulary = int(model.model.get_output_embeddings().weight.shape[0])
        self.quotes = [('"' in model.text([token])) for token in range(self.vocabulary)]

    def first_tokens(self, prompts: Sequence[list[int]], answers: int) -> Tensor:
        """int64 (prompts, answers): the likeliest tokens behind each prompt, in order; LabError if there are fewer."""
        if answers > self.vocabulary:
            raise LabError(
                f"evaluator.answers={answers} is more than the {self.vocabulary} tokens that an answer can begin with."
            )
        return ranked(self.model.next_logits(prompts), answers).cpu()

    def closed(self, tokens: Sequence[int]) -> bool:
        """Whether an answer of these tokens is over."""
        return self.quotes[tokens[-1]]

    def ask(
        self,
        prompts: Sequence[list[int]],
        golds: Sequence[GoldList],
        forced: Sequence[list[int]] | None = None,
        decoding: Decoding | None = None,
        rows: Sequence[int] | None = None,
    ) -> list[Reply]:
        """One reply a prompt, beginning with `forced`, greedy if nothing else is said."""
        starts = forced if forced is not None else [[] for _ in prompts]
        # A forced token that closes the quote is an empty answer: nothing is left to write.
        open_ = [n for n, start in enumerate(starts) if not (start and self.closed(start))]
        answers: list[Answer] = [Answer(list(start), True, 0.0) for start in starts]
        written = (
            self.model.generate(
                [prompts[n] for n in open_],
                decoding or Decoding(length=self.length),
                forced=[starts[n] for n in open_] if forced is not None else None,
                until=self.closed,
                rows=None if rows is None else [rows[n] for n in open_],
            )
            if open_
            else []
        )
        for number, answer in zip(open_, written, strict=True):
            answers[number] = answer
        return [self.reply(answer, gold) for answer, gold in zip(answers, golds, strict=True)]

    def reply(self, answer: Answer, gold: GoldList) -> Reply:
        """What was written before the first quote."""
        tokens, ended = answer.tokens, bool(answer.tokens) and self.closed(answer.tokens)
        kept = list(tokens)
        if ended:
            rest = self.model.text([kept.pop()]).partition('"')[0]
            kept += self.model.ids(rest, begins=False) if rest else []
        text = self.model.text(kept)
        right = gold.judge(text) if ended else None
        return Reply(tokens[0] if tokens else -1, text, tuple(kept), ended, right)

    def item(self, reply: Reply, number: int) -> list[int]:
        """The ids that put a reply into the list, up to the opening quote of answer `number`."""
        return [*reply.tokens, *self.model.ids(f'"\n{number}. "', begins=False)]
