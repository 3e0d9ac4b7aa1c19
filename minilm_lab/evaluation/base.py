"""What every evaluator offers: its data, the model that it takes, and a call that gives a Result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Evaluator(ABC):
    """Settings of an evaluation. It knows its data and nothing of training, and changes nothing of what it measures.

    The order of calls: `check` while a run is planned, `prepare` once, then one call for each model.
    """

    takes: ClassVar[str] = "encoder"
    """What a call wants: "encoder" (models.encoder.Encoder), "task" (tasks.module.TaskModule),
    "language_model" (models.language_model.LanguageModel)."""
    measures: ClassVar[bool] = True
    """Whether there is anything to do."""
    higher_is_better: ClassVar[bool] = True
    """The direction of `primary`."""

    every: int | None = None
    """In a training: steps between two evaluations; null = ten in a run. The untrained model and the end always."""

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise LabError(f"evaluator.every={self.every} must be at least 1.")

    @property
    @abstractmethod
    def primary(self) -> str:
        """The score that stands for all of them."""

    def identity(self) -> dict[str, Any]:
        """What is computed: the settings without `every`, and the fingerprint of the data; after `prepare`."""
        return {name: value for name, value in config.plain(self).items() if name != "every"}

    def check(self, model: PretrainedConfig) -> None:
        """Raise LabError when a model of this configuration cannot be measured with these settings."""
        return  # every model will do

    @abstractmethod
    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the data, once; LabError when it cannot be found or does not fit. `hub`, `cache`: see ``Task.load``."""

    def wrap(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Any:
        """What a call takes, around a body that is being trained; the body stays where and as it is."""
        raise LabError(f"evaluator={type(self).__name__} cannot measure a body without a head.")

    @abstractmethod
    def open(self, where: str, revision: str | None) -> Any:
        """What a call takes, loaded from a folder or the hub; after `prepare`."""

    @abstractmethod
    def __call__(self, model: Any) -> Result:
        """Measure. The model and the random numbers are left as they were."""

    def part(self, model: Any, rank: int, world: int) -> Any:
        """What process `rank` of a run on `world` devices does of a call; here the first one does all of it."""
        return None if rank else self(model)

    def whole(self, parts: Sequence[Any]) -> Result:
        """The result of the parts, in the order of the ranks."""
        result: Result = parts[0]
        return result


@dataclass
class NoEvaluator(Evaluator):
    """Nothing is measured."""

    measures: ClassVar[bool] = False

    @property
    def primary(self) -> str:
        """There is none."""
        return ""

    def prepare(self, hub: str | None, cache: Path) -> None:
        """There is nothing to read."""

    def open(self, where: str, revision: str | None) -> Any:
        """There is nothing to load."""
        raise LabError("evaluator=none measures nothing; choose another one.")

    def __call__(self, model: Any) -> Result:
        """Nothing."""
        return Result({})
