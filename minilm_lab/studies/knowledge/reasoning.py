"""evaluator=reasoning: several ways to solve a problem, begun by navigation or sampled, and a vote over their answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.on_language_model import OfLanguageModel
from minilm_lab.evaluation.result import Result
from minilm_lab.models.decoding import Decoding, ranked
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.runs.fingerprints import file_checksum

WAYS = ("navigated", "ranked", "sampled")
_NUMBER = re.compile(r"(?<![\w.])[-−+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<![\w.\d])[-−+]?\.\d+")


def last_number(text: str) -> Decimal | None:
    """The last number of a text, with its sign, decimals and commas between thousands; None if there is none."""
    found = _NUMBER.findall(text)
    return Decimal(re.sub(r"[,$+]", "", found[-1]).replace("−", "-")).normalize() if found else None


def vote(answers: Sequence[Decimal | None]) -> Decimal | None:
    """The most frequent number; of several the one that came first. None where no way gave a number."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=lambda answer: counts[answer]) if counts else None


@dataclass
class Reasoning(OfLanguageModel):
    """Chain of thought on word problems: `ways` paths a problem, at equal cost for each way of beginning them.

    navigated: the first token of a way is read behind the ways before it and none is taken twice, then the way is written
    without them, as in the paper; ranked: the same behind no other way; sampled: self-consistency (Wang et al. 2023).
    A small model gives nothing here: figures need a model that reasons.
    """

    path: str = ""
    """JSONL with `question` and `answer` a line; of an answer its last number counts (GSM8K's ends with #### 72)."""
    begin: str = "navigated"
    """navigated, ranked or sampled."""
    ways: int = 4
    """Paths a problem."""
    length: int = 256
    """Most tokens of a path."""
    problems: int = 100
    """The first so many of the file."""
    temperature: float = 0.7
    """Of sampled."""
    seed: int = 0
    """Of sampled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.begin not in WAYS:
            raise LabError(
                f"evaluator.begin={self.begin}: allowed are {', '.join(WAYS)}.{nearest(self.begin, WAYS)}"
            )
        if not self.path:
            raise LabError(
                "evaluator.path must be given: JSONL with `question` and `answer` a line, such as GSM8K's."
            )
        self._problems: list[tuple[str, Decimal]] = []

    @property
    def primary(self) -> str:
        """Accuracy of the vote."""
        return "vote"

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the problems; LabError names the line that has none."""
        super().prepare(hub, cache)
        file = Path(self.path).expanduser()
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"evaluator.path={self.path} cannot be read ({error})") from error
        self._problems = []
        for number, line in enumerate(filter(str.strip, lines), 1):
            try:
                row = json.loads(line)
                answer = last_number(str(row["answer"]))
                question = str(row["question"])
            except (ValueError, KeyError, TypeError) as error:
                raise LabError(
                    f"{file}, line {number}: not {{question, answer}} in JSON ({error!r})"
                ) from error
            if answer is None:
                raise LabError(f"{file}, line {number}: its answer has no number")
            self._problems.append((question, answer))
        self._problems = self._problems[: self.problems]
        if not self._problems:
            raise LabError(f"evaluator.path={self.path} has no problems")
        self._checksum = file_checksum(file, cache)

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; of the file its content."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("every", "path")}
        return {**settings, "problems_file": self._checksum}

    def __call__(self, model: LanguageModel) -> Result:
        """Accuracy of the vote, of a single path, of the first one; distinct answers a problem. A row a problem."""
        prompts = [model.ids(_asked(question)) for question, _ in self._problems]
        paths = self._paths(model, prompts)
        behind = model.ids('\n\n**Final Answer (Only Number):** "', begins=False)
        flat = [
            [*prompt, *path, *behind] for prompt, ways in zip(prompts, paths, strict=True) for path in ways
        ]
        quote = _holding(model, '"')
        replies = model.generate(flat, Decoding(length=8), until=lambda tokens: tokens[-1] in quote)
        numbers = [last_number(model.text(reply.tokens).partition('"')[0]) for reply in replies]
        count = self.ways
        given = [numbers[n : n + count] for n in range(0, len(numbers), count)]
        solved = [answer for _, answer in self._problems]
        right = [[n == answer for n in some] for some, answer in zip(given, solved, strict=True)]
        votes = [vote(some) for some in given]
        rows: list[dict[str, Any]] = [
            {
                "question": question,
                "answer": f"{answer:f}",
                "answers": [None if n is None else f"{n:f}" for n in given[place]],
                "right": votes[place] == answer,
                "ways": [model.text(path) for path in paths[place]],
            }
            for place, (question, answer) in enumerate(self._problems)
        ]
        flags, total = np.array(right), len(rows)
        scores = {
            "vote": float(np.mean([row["right"] for row in rows])),
            "path": float(flags.mean()),
            "first_path": float(flags[:, 0].mean()),
            "without_number": float(np.mean([n is None for n in numbers])),
        }
        distinct = sum(len({n for n in some if n is not None}) for some in given) / total
        return Result({**{name: 100 * value for name, value in scores.items()}, "distinct": distinct}, rows)

    def _paths(self, model: LanguageModel, prompts: list[list[int]]) -> list[list[list[int]]]:
        """Tokens of each way of each problem, up to the next heading."""
        heading = _holding(model, "#")

        def over(tokens: list[int]) -> bool:
            return tokens[-1] in heading

        if self.begin == "sampled":
            decoding = Decoding("sample", self.length, self.temperature, seed=self.seed)
            flat = [prompt for prompt in prompts for _ in range(self.ways)]
            answers = model.generate(flat, decoding, until=over)
            written = [_kept(answer.tokens, heading) for answer in answers]
            return [written[n : n + self.ways] for n in range(0, len(written), self.ways)]
        ways: list[list[list[int]]] = [[] for _ in prompts]
        behind = [list(prompt) for prompt in prompts]
        for number in range(2, self.ways + 2):
            texts = behind if self.begin == "navigated" else prompts
            firsts = []
            for row, order in enumerate(ranked(model.next_logits(texts)).tolist()):
                taken = {way[0] for way in ways[row] if way}
                firsts.append(next(t for t in order if t not in taken and t not in heading | model.ends))
            answers = model.generate(
                prompts, Decoding(length=self.length), forced=[[t] for t in firsts], until=over
            )
            for row, answer in enumerate(answers):
                ways[row].append(_kept(answer.tokens, heading))
                behind[row] += [
                    *ways[row][-1],
                    *model.ids(f"\n### Way {number}:\n* **Step 1:**\n", begins=False),
                ]
        return ways


def _asked(question: str) -> str:
    return (
        f"{question}\n\nPlease show me some different ways to solve this problem.\n\nHere are different ways to solve the "
        "problem:\n### Way 1:\n* **Step 1:**\n"
    )


def _holding(model: LanguageModel, mark: str) -> frozenset[int]:
    size = int(model.model.get_output_embeddings().weight.shape[0])
    return frozenset(token for token in range(size) if mark in model.text([token]))


def _kept(tokens: list[int], heading: frozenset[int]) -> list[int]:
    return tokens[:-1] if tokens and tokens[-1] in heading else tokens
