"""A run of Trackio: a dashboard on this machine, without an account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only


class TrackioLogger(Logger):
    """Lightning's interface to one Trackio run, opened at the first use."""

    def __init__(self, project: str, run: str, group: str | None, settings: Mapping[str, Any]) -> None:
        """settings: of the run, flat, for the dashboard's table."""
        super().__init__()
        self._project, self._run, self._group, self._settings = project, run, group, dict(settings)
        self._opened: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str:
        """The run."""
        return self._run

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The Trackio run."""
        if self._opened is None:
            import trackio

            self._opened = trackio.init(
                project=self._project,
                name=self._run,
                group=self._group,
                config=self._settings,
                resume="allow",
                embed=False,
            )
        return self._opened

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Mirror a line of the journal."""
        self.experiment.log(dict(metrics), step=step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Trackio has them from the start."""

    @rank_zero_only
    def summarise(self, summary: Mapping[str, float]) -> None:
        """What a run ends with, as its last line."""
        self.experiment.log({f"summary/{name}": value for name, value in summary.items()})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what waits to be written."""
        if self._opened is not None:
            import trackio

            trackio.finish()
            self._opened = None
