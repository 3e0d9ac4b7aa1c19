"""An expansion as a run: its work and its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.studies.authoring import gathering
from minilm_lab.studies.authoring.expansion import filters
from minilm_lab.studies.authoring.expansion.expansion import Expander, bytes_sent
from minilm_lab.studies.authoring.expansion.settings import Expansion
from minilm_lab.studies.authoring.expansion.teachers import is_loopback

if TYPE_CHECKING:
    from minilm_lab.runs.folder import RunFolder
    from minilm_lab.training.settings import How


@dataclass(frozen=True)
class Expanding:
    """Everything an expansion needs, typed and checked."""

    settings: Expansion
    how: How
    data: gathering.Gathered
    open_records: list[Any]

    def expander(self) -> Expander:
        """With its teacher, who is loaded here."""
        teacher = self.settings.teacher.build(Path(self.how.runs), self.how.cache)
        return Expander(self.settings, teacher, self.data.train, self.data.dev, self.open_records)

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Expand, and return the command's part of the record."""
        expander = self.expander()
        outcome = expander.run(folder.path)
        sent = bytes_sent(folder.path / "sent.jsonl")
        teacher, budget = expander.teacher, expander.budget
        tasks = {
            task: sum(record.task == task for record in outcome.accepted) for task in self.settings.tasks
        }
        return {
            "names": {"teacher": teacher.name, "task": "expansion"},
            "scores": {"accepted": len(outcome.accepted)},
            "accepted": tasks,
            "rejected": {name: outcome.reasons[name] for name in filters.REASONS if outcome.reasons[name]},
            "reasons": filters.REASONS,
            "requests": outcome.requests,
            "asked_at_this_start": outcome.asked,
            "stopped": outcome.stopped,
            "tokens": {"in": budget.used_in, "out": budget.used_out},
            "paid": round(budget.paid, 6),
            "sent": sent,
            "left_this_machine": sum(size for host, size in sent.items() if not is_loopback(host)),
            "pairs": {"compared": outcome.pairs[0], "computed": outcome.pairs[1]},
        }
