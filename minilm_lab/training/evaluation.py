"""An evaluation without training: a model in, scores, predictions and a record out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minilm_lab.training.settings import How

if TYPE_CHECKING:
    from minilm_lab.evaluation.base import Evaluator
    from minilm_lab.runs.folder import RunFolder


@dataclass(frozen=True)
class Evaluation:
    """Everything an evaluation needs, typed and checked; no model is loaded yet."""

    source: str
    """Folder or hub id of the model."""
    revision: str | None
    """Its revision on the hub."""
    origin: dict[str, Any]
    """Record of what is measured: {"kind": "teacher" | "run" | "path", "run": identity or None, …}."""
    names: dict[str, str]
    evaluator: Evaluator
    """Its data is read."""
    how: How

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Measure, save the predictions and return its part of the record; nothing is trained."""
        from minilm_lab.models.parameters import count_parameters
        from minilm_lab.runs.files import write_atomically
        from minilm_lab.training.loggers import close, finish

        model = self.evaluator.open(self.source, self.revision)
        result = self.evaluator(model)
        if hasattr(model, "facts"):
            facts = model.facts()
        else:
            body = model.model.base_model
            shape = {"layers": body.config.num_hidden_layers, "hidden_size": body.config.hidden_size}
            facts = {"parameters": count_parameters(body), **shape}
        primary = self.evaluator.primary
        record = {
            "names": self.names,
            "source": self.origin,
            "scores": result.scores,
            "score": {"name": primary, "value": result.scores[primary]},
            "selection": "nothing is trained",
            "data_note": getattr(getattr(self.evaluator, "splits", None), "data_note", ""),
            "details": result.facts,
            **facts,
        }
        rows = "".join(json.dumps(row) + "\n" for row in result.rows)
        for name, text in {"predictions.jsonl": rows, **result.files}.items():
            write_atomically(folder.path / name, text.encode())
        about = {
            "identity": folder.identity,
            "command": folder.command,
            "name": folder.name,
            "experiment": self.how.experiment,
            "names": self.names,
            "origin": self.origin,
        }
        try:
            loggers = self.how.logger.build(folder.path, about)
            summary = {f"score/{name}": value for name, value in result.scores.items()}
            finish(loggers, summary, used=self.origin["run"], record=record)
        finally:
            close()
        return record
