"""evaluator=authoring: a causal model without training, or a floor that needs none, on the five tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.models.families import family_of
from minilm_lab.studies.authoring import floors, metrics
from minilm_lab.studies.authoring.task import judged_of, records_in
from minilm_lab.tasks.evaluators import OfTask

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from minilm_lab.tasks.module import TaskModule

MODEL = "model"


class Floor:
    """Stands where a model would: it has no parameters."""

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {"parameters": {"embeddings": 0, "transformer": 0, "total": 0}, "layers": 0, "hidden_size": 0}


@dataclass
class Authoring(OfTask):
    """The scores of task=authoring without training: of a model as it is, or of a floor."""

    takes: ClassVar[str] = "task"

    answers: str = MODEL
    """model: `source` as it is; copy, majority or bag_of_words: a floor, for which no model is loaded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = (MODEL, *floors.KINDS)
        if self.answers not in allowed:
            raise LabError(
                f"evaluator.answers={self.answers}: allowed are {', '.join(allowed)}.{nearest(self.answers, allowed)}"
            )

    def check(self, model: PretrainedConfig) -> None:
        """Raise LabError for a model that does not predict the next token."""
        if not family_of(model).causal:
            raise LabError("evaluator=authoring takes a causal model, whose answers it reads.")

    def open(self, where: str, revision: str | None) -> Any:
        """The model, or a floor."""
        return Floor() if self.answers != MODEL else super().open(where, revision)

    def __call__(self, model: TaskModule | Floor) -> Result:
        """The metrics of the tasks that the floor answers, or all of the model's."""
        if not isinstance(model, Floor):
            return super().__call__(model)
        train, dev = records_in(self.splits.train), records_in(self.splits.dev)
        answers = floors.answers(self.answers, train, dev)
        pairs = [(record, text) for record, text in zip(dev, answers, strict=True) if text is not None]
        if not pairs:
            raise LabError(f"evaluator.answers={self.answers} answers none of these tasks.")
        rows = [
            {"id": f"{record.task}/{record.id}", "prediction": text, "references": [record.output]}
            for record, text in pairs
        ]
        return Result(metrics.score([judged_of(record, text) for record, text in pairs]), rows)
