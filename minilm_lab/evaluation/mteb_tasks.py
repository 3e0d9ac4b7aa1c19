"""Tasks of MTEB (Muennighoff et al. 2023, arXiv 2210.07316), by the package `mteb`: its data, its code, its scores."""

from __future__ import annotations

import importlib.metadata
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab import config, hub_access
from minilm_lab.errors import LabError, first_line, nearest
from minilm_lab.evaluation.on_task import EncoderSettings
from minilm_lab.evaluation.result import Result
from minilm_lab.paths import is_there
from minilm_lab.runs.fingerprints import file_checksums

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from minilm_lab.models.encoder import Encoder

log = logging.getLogger(__name__)


@dataclass
class Mteb(EncoderSettings):
    """The main score of each task × 100, as mteb defines it (mean over its splits and languages), and their mean.

    The data of a task are `<paths.hub>/<owner>/<name>` in the hub's layout, where that is there; else the hub's, at the
    revision that mteb names. Vectors are compared by their cosine.
    """

    tasks: list[str] = field(default_factory=list)
    """Names of tasks, as `mteb` has them."""
    benchmark: Optional[str] = None
    """Name of a benchmark, whose tasks are added: "MTEB(eng, v2)"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks and self.benchmark is None:
            raise LabError(
                "evaluator.tasks is empty; write evaluator.tasks=[STSBenchmark], or give a benchmark."
            )
        self._tasks: list[Any] = []
        self._origins: dict[str, dict[str, str]] = {}

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return "average"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the version of mteb, and of each task where its data are from."""
        plain = {key: value for key, value in config.plain(self).items() if key != "every"}
        return {**plain, "tasks": self._origins, "mteb": importlib.metadata.version("mteb")}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the data of all tasks. LabError, naming them, when some cannot be had or a task is not known."""
        mteb = _import_mteb()
        with _as_it_was():
            self._tasks = list(_chosen(mteb, self.tasks, self.benchmark))
            self._origins = {}
            missing: list[str] = []
            for task in self._tasks:
                name, data = task.metadata.name, dict(task.metadata.dataset)
                place = None if hub is None else Path(hub).expanduser() / data["path"]
                if place is not None and is_there(place):
                    found = _load_local(task, place, cache)
                elif missing or not hub_access.answers(data["path"], "dataset"):
                    missing.append(
                        f"{name} ({data['path']})"
                    )  # one answer that does not come is waited for once
                    continue
                else:
                    _load(task, f"{data['path']} of the hub")
                    found = {"path": data["path"], "revision": str(data.get("revision"))}
                self._origins[name] = found
        if missing:
            raise LabError(
                f"evaluator=mteb: the data of {', '.join(missing)} are not here, and the hub does not answer. Put copies "
                "into paths.hub=<folder>, as <owner>/<name>/… on the hub, or leave these tasks out of evaluator.tasks"
            )

    def __call__(self, model: Encoder) -> Result:
        """{"average": …, "<task>": …}; facts: the metric of each task, and mteb's version."""
        mteb = _import_mteb()
        with _as_it_was():
            answer = mteb.evaluate(
                _Model(model, mteb),
                self._tasks,
                co2_tracker=False,
                cache=None,
                encode_kwargs={"batch_size": self.batch_size},
                show_progress_bar=False,
            )
        scores = {found.task_name: 100.0 * float(found.get_score()) for found in answer.task_results}
        metrics = {task.metadata.name: task.metadata.main_score for task in self._tasks}
        facts = {"mteb": importlib.metadata.version("mteb"), "metrics": metrics}
        return Result({"average": sum(scores.values()) / len(scores), **scores}, facts=facts)


class _Model:
    """An encoder as mteb wants one; prompts are those of the model's own folder."""

    def __init__(self, encoder: Encoder, mteb: Any) -> None:
        self.encoder = encoder
        about = {"name": "minilm-lab/model", "revision": "none", "similarity_fn_name": "cosine"}
        self.mteb_model_meta = mteb.models.ModelMeta.create_empty(about)

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        """(texts, width) float32 of batches that have texts."""
        return self.encoder([text for batch in inputs for text in batch["text"]]).numpy()

    def similarity(self, left: Any, right: Any) -> Tensor:
        """Cosines of each with each, (rows of left, rows of right)."""
        import torch
        from torch.nn.functional import normalize

        first, second = (torch.atleast_2d(torch.as_tensor(side)).float() for side in (left, right))
        return normalize(first) @ normalize(second).T

    def similarity_pairwise(self, left: Any, right: Any) -> Tensor:
        """Cosines of the rows of the same number, (rows,)."""
        import torch

        first, second = (torch.atleast_2d(torch.as_tensor(side)).float() for side in (left, right))
        return torch.nn.functional.cosine_similarity(first, second)


def _import_mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise LabError(f"evaluator=mteb needs mteb ({error}): pip install 'minilm-lab[mteb]'") from error
    logging.getLogger("mteb").setLevel(logging.WARNING)
    return mteb


def _chosen(mteb: Any, names: list[str], benchmark: str | None) -> Iterator[Any]:
    """Tasks of their own, whose metadata may be changed."""
    known = {task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)} if names else set()
    for name in dict.fromkeys(names):
        if name not in known:
            raise LabError(f"evaluator.tasks: mteb has no task {name}.{nearest(name, sorted(known))}")
        yield mteb.get_task(name)
    if benchmark is not None:
        known = {entry.name for entry in mteb.get_benchmarks()}
        if benchmark not in known:
            raise LabError(
                f"evaluator.benchmark: mteb has no benchmark {benchmark}.{nearest(benchmark, sorted(known))}"
            )
        yield from (task for task in mteb.get_benchmark(benchmark).tasks if task.metadata.name not in names)


def _load_local(task: Any, place: Path, cache: Path) -> dict[str, str]:
    import datasets

    from minilm_lab.data.checksum import settings_checksum

    files = sorted(path for path in place.rglob("*") if path.is_file())
    sums = file_checksums(files, cache)
    content = settings_checksum([[str(f.relative_to(place)), s] for f, s in zip(files, sums, strict=True)])
    # The description is shared by all tasks of the class.
    data = {**task.metadata.dataset, "path": str(place.resolve())}
    task.metadata = task.metadata.model_copy(update={"dataset": data})
    usual = datasets.config.HF_DATASETS_CACHE
    # `datasets` would answer for files replaced under the same time stamp from what it read before: a cache each content.
    datasets.config.HF_DATASETS_CACHE = cache / "mteb" / content
    try:
        _load(task, str(place))
    finally:
        datasets.config.HF_DATASETS_CACHE = usual
    return {"content": content}


def _load(task: Any, where: str) -> None:
    from datasets import DatasetDict

    try:
        task.load_data()
    except Exception as error:  # mteb reads by many ways, each with errors of its own
        raise LabError(
            f"evaluator=mteb: the data of {task.metadata.name} cannot be read from {where} ({first_line(error)})"
        ) from error
    splits = set(task.dataset) if isinstance(task.dataset, DatasetDict) else set(task.eval_splits)
    if lacking := set(task.eval_splits) - splits:
        raise LabError(
            f"evaluator=mteb: {task.metadata.name} is measured on the split {', '.join(sorted(lacking))}, which {where} lacks "
            f"(there are {', '.join(sorted(splits))})"
        )


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had been: mteb seeds all generators."""
    import numpy as np
    import torch

    plain, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
