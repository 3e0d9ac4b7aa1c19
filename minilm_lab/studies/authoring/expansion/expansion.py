"""The loop: ask, keep the reply, take or reject it with a reason, until there is enough or nothing left to spend."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring import spec
from minilm_lab.studies.authoring.expansion import filters
from minilm_lab.studies.authoring.expansion.budget import Budget, Spent
from minilm_lab.studies.authoring.expansion.journal import Journal, key_of
from minilm_lab.studies.authoring.expansion.settings import Expansion
from minilm_lab.studies.authoring.expansion.teachers import Reply, Request, Teacher
from minilm_lab.studies.authoring.records import Record, place

SYSTEM = (
    "You write training data for a shop. Answer the last instruction, from its input alone. Reply with one JSON object "
    '{"output": "…"} and with nothing else.'
)
RETRIES = 1
"""Further requests where a reply is no strict JSON."""


@dataclass
class Outcome:
    """What came of an expansion."""

    accepted: list[Record] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    """Requests that were needed, journal included."""
    asked: int = 0
    """Of these, asked now."""
    stopped: str = ""
    """Why it ended before its quotas were full; "" where they are."""
    pairs: tuple[int, int] = (0, 0)
    """Pairs of texts that were compared, and those of them that took a longest common subsequence."""


class Expander:
    """One expansion; a second one with the same journal asks nothing again."""

    def __init__(
        self,
        settings: Expansion,
        teacher: Teacher,
        seeds: Sequence[Record],
        dev: Sequence[Record],
        open_records: Sequence[Record],
    ) -> None:
        """seeds: answered records of training; dev: what is judged; open_records: what is to be answered."""
        self.settings, self.teacher = settings, teacher
        self.seeds = {
            task: sorted((r for r in seeds if r.task == task and r.output), key=lambda r: (place(r), r.id))
            for task in settings.tasks
        }
        judged = {record.thing() for record in dev}
        self.open = {
            task: sorted(
                (r for r in open_records if r.task == task and r.thing() not in judged),
                key=lambda r: (place(r), r.id),
            )
            for task in settings.tasks
        }
        self.dev = {task: [r.input() for r in dev if r.task == task] for task in settings.tasks}

    def requests(self, task: str) -> Iterator[tuple[Record, Request]]:
        """The records to be answered and what is asked of the teacher, in their order."""
        for number, record in enumerate(self.open[task][: self.settings.requests_per_task]):
            yield record, self._request(record, self.settings.seed + number)

    def is_refused(self, record: Record) -> bool:
        """Whether it gives what is private, and the teacher is elsewhere."""
        if self.teacher.is_here or self.settings.allow_remote_private:
            return False
        return any(spec.FEATURES[key].private for key in record.inputs())

    def estimate(self) -> dict[str, Any]:
        """What the whole would take at most, without sending anything."""
        total = Budget(price_in=self.settings.budget.price_in, price_out=self.settings.budget.price_out)
        count = size = refused = 0
        for task in self.settings.tasks:
            for record, request in self.requests(task):
                if self.is_refused(record):
                    refused += 1
                    continue
                count, size = count + 1, size + len(request.body(self.teacher.name))
                most = request.most_tokens()
                total.spend(Reply("", most - request.max_tokens, request.max_tokens, True))
        return {
            "requests": count,
            "bytes": size,
            "tokens_at_most": total.used_in + total.used_out,
            "money_at_most": round(total.paid, 4),
            "refused_private": refused,
            "host": self.teacher.host,
        }

    def run(self, folder: Path) -> Outcome:
        """Write journal.jsonl, sent.jsonl, records.jsonl and rejected.jsonl into the folder; return what came of it."""
        journal, outcome = Journal(folder / "journal.jsonl"), Outcome()
        sent = folder / "sent.jsonl"
        budget = replace(self.settings.budget, used_in=0, used_out=0)
        for reply in journal.replies.values():
            budget.spend(reply)  # what earlier starts of this run paid counts
        try:
            for task in self.settings.tasks:
                self._task(task, journal, sent, budget, outcome)
        except Spent as reason:
            outcome.stopped = f"budget: {reason}"
        self.budget = budget
        _lines(folder / "records.jsonl", [json.loads(record.line()) for record in outcome.accepted])
        _lines(folder / "rejected.jsonl", outcome.rejected)
        return outcome

    def _task(self, task: str, journal: Journal, sent: Path, budget: Budget, outcome: Outcome) -> None:
        near = filters.Near([_text(record, record.output) for record in self.seeds[task]])
        near_dev = filters.Near(self.dev[task])
        enough, made = self.settings.per_task, 0
        waiting: list[tuple[Record, Request]] = []

        def settle() -> int:
            replies = self._answers([r for _, r in waiting], journal, sent, budget, outcome)
            taken = 0
            for (record, request), reply in zip(waiting, replies, strict=True):
                if made + taken < enough:
                    taken += self._take(record, request, reply, near, journal, sent, budget, outcome)
            waiting.clear()
            return taken

        for record, request in self.requests(task):
            if made >= enough:
                break
            if self.is_refused(record):
                self._reject(record, "private", "", outcome)
            elif near_dev.has(record.input()):
                self._reject(record, "near_dev", "", outcome)
            else:
                waiting.append((record, request))
            if len(waiting) == self.teacher.at_once:
                made += settle()
        if waiting and made < enough:
            made += settle()
        pairs, computed = outcome.pairs
        outcome.pairs = (
            pairs + near.pairs + near_dev.pairs,
            computed + near.computed + near_dev.computed,
        )
        if made < enough and not outcome.stopped:
            outcome.stopped = f"{task}: {made} of {enough}, nothing more to ask"

    def _answers(
        self, requests: list[Request], journal: Journal, sent: Path, budget: Budget, outcome: Outcome
    ) -> list[Reply]:
        new = [request for request in requests if key_of(request) not in journal.replies]
        most = replace(budget)
        for request in new:
            most.before(request)
            tokens = request.most_tokens()
            most.spend(Reply("", tokens - request.max_tokens, request.max_tokens, True))
        outcome.requests += len(requests)
        if new:
            if self.teacher.host is not None:
                # Noted before it leaves: what a crash interrupts was sent all the same.
                with sent.open("a", encoding="utf-8") as stream:
                    for request in new:
                        body = request.body(self.teacher.name)
                        line = {"host": self.teacher.host, "bytes": len(body), "body": json.loads(body)}
                        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            outcome.asked += len(new)
            for request, reply in zip(new, self.teacher.answer(new), strict=True):
                journal.note(request, reply)
                budget.spend(reply)
        return [journal.replies[key_of(request)] for request in requests]

    def _take(
        self,
        record: Record,
        request: Request,
        reply: Reply,
        near: filters.Near,
        journal: Journal,
        sent: Path,
        budget: Budget,
        outcome: Outcome,
    ) -> int:
        output = self._output(reply)
        for attempt in range(RETRIES):
            if output is not None or self.teacher.plain:
                break
            again = replace(request, seed=request.seed + 1_000_003 * (attempt + 1))
            (reply,) = self._answers([again], journal, sent, budget, outcome)
            output = self._output(reply)
        reason: str | None
        if not reply.finished:
            reason = "cut"
        elif output is None:
            reason = "no_json"
        else:
            output = filters.canonical(record, output)
            reason = filters.reason_against(record, output)
            if reason is None and near.has(_text(record, output)):
                reason = "near"
        if reason is not None or output is None:
            self._reject(record, reason or "no_json", reply.text, outcome)
            return 0
        near.add(_text(record, output))
        outcome.accepted.append(replace(record, output=output, made_by=f"teacher:{self.teacher.name}"))
        return 1

    def _output(self, reply: Reply) -> str | None:
        return " ".join(reply.text.split()) if self.teacher.plain else filters.output_of(reply.text)

    def _reject(self, record: Record, reason: str, text: str, outcome: Outcome) -> None:
        outcome.reasons[reason] += 1
        outcome.rejected.append({"id": record.id, "task": record.task, "reason": reason, "reply": text})

    def _request(self, record: Record, seed: int) -> Request:
        wording = record.wording()
        if self.teacher.plain:
            user = "\n\n".join(part for part in (record.instruction(wording), record.input()) if part)
            messages = (("system", self.settings.system), ("user", user))
        else:
            shown = [r for r in self.seeds[record.task] if self._fits(r, record)]
            start = seed % max(1, len(shown))
            parts = []
            for example in [*shown[start:], *shown[:start]][: self.settings.examples]:
                answer = json.dumps({"output": example.output}, ensure_ascii=False)
                parts.append(
                    f"Instruction: {example.instruction(wording)}\nInput:\n{example.input()}\nReply: {answer}"
                )
            parts.append(f"Instruction: {record.instruction(wording)}\nInput:\n{record.input()}\nReply:")
            messages = (("system", SYSTEM), ("user", "\n\n".join(parts)))
        return Request(messages, self.settings.max_tokens, self.settings.temperature, seed)

    def _fits(self, example: Record, record: Record) -> bool:
        """Whether an answered record may be shown: it asks the same, of another thing, and gives nothing refused."""
        private = [*example.given, example.asked]
        hidden = not (self.teacher.is_here or self.settings.allow_remote_private)
        if hidden and any(key in spec.FEATURES and spec.FEATURES[key].private for key in private):
            return False
        return example.asked == record.asked and example.thing() != record.thing()


def bytes_sent(file: Path) -> dict[str, int]:
    """Host -> bytes of requests that left this process for it, by sent.jsonl; none of loopback is left out."""
    total: Counter[str] = Counter()
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
            except ValueError as error:
                raise LabError(f"{file}: a line is no JSON ({error})") from error
            total[values["host"]] += values["bytes"]
    return dict(total)


def _text(record: Record, output: str) -> str:
    return f"{record.input()}\n{output}"


def _lines(file: Path, rows: Sequence[Any]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
