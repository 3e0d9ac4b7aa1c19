"""The settings of an expansion: teacher, budget, how much of what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from minilm_lab.errors import LabError, nearest
from minilm_lab.studies.authoring import spec
from minilm_lab.studies.authoring.expansion.budget import Budget
from minilm_lab.studies.authoring.expansion.replay import Replay
from minilm_lab.studies.authoring.expansion.teachers import Local, OpenAI, Teacher

KINDS = ("openai", "local", "replay")


@dataclass
class TeacherSettings:
    """Who writes."""

    kind: str = "local"
    """openai: any server with /v1/chat/completions; local: a model on this machine; replay: a journal."""
    url: Optional[str] = None
    """openai: where, such as http://127.0.0.1:8000/v1."""
    model: Optional[str] = None
    """openai: which; replay: the name in made_by."""
    key_variable: str = "OPENAI_API_KEY"
    """openai: the environment variable with the key."""
    timeout: float = 60.0
    """openai: seconds."""
    source: Optional[str] = None
    """local: identity or name of a run, a folder, or a hub id."""
    plain: bool = True
    """local: it was tuned on these tasks: what it says is the answer. false: it is asked for JSON, as others are."""
    path: Optional[str] = None
    """replay: the journal."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(
                f"teacher.kind={self.kind}: allowed are {', '.join(KINDS)}.{nearest(self.kind, KINDS)}"
            )
        needed = {"openai": ("url", "model"), "local": ("source",), "replay": ("path", "model")}[self.kind]
        for name in needed:
            if getattr(self, name) is None:
                raise LabError(f"teacher.{name} must be given for teacher.kind={self.kind}")
        if not self.timeout > 0:
            raise LabError(f"teacher.timeout={self.timeout} must be more than 0 seconds")

    def build(self, runs: Path, cache: Path) -> Teacher:
        """The teacher; a local one is loaded here."""
        if self.kind == "openai":
            assert self.url is not None and self.model is not None
            return OpenAI(self.url, self.model, key_variable=self.key_variable, timeout=self.timeout)
        if self.kind == "replay":
            assert self.path is not None and self.model is not None
            return Replay(Path(self.path).expanduser(), self.model)
        from minilm_lab.models.language_model import LanguageModel
        from minilm_lab.models.resolve import resolve

        found = resolve(str(self.source), runs=runs, cache=cache, key="teacher.source")
        return Local(LanguageModel.load(found.where, found.revision), found.title, plain=self.plain)


@dataclass
class Expansion:
    """What is to be made."""

    seeds: Optional[str] = None
    """Where records and products come from, as task.path; null = out of packages."""
    tasks: list[str] = field(default_factory=lambda: ["ads"])
    """For which tasks."""
    per_task: int = 100
    """Records of a task that are wanted."""
    requests_per_task: int = 400
    """Requests of a task at most, whatever comes of them."""
    relabel: bool = False
    """Also let the teacher answer what the data answers (sequence-level distillation: the teacher's own words)."""
    examples: int = 2
    """Answered records of the task that a request shows."""
    share: float = 0.3
    """Of the things that are held out for judging: nothing is made of them."""
    temperature: float = 0.7
    max_tokens: int = 200
    """Of a reply."""
    seed: int = 0
    system: str = "You write for a shop. Give the answer alone."
    """For a plain teacher: the system message that it was tuned with."""
    allow_remote_private: bool = False
    """Send features of customers to a teacher elsewhere, too."""
    teacher: TeacherSettings = field(default_factory=lambda: TeacherSettings(kind="local", source="none"))
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in spec.TASKS:
                raise LabError(
                    f"tasks: there is no '{task}'; there are: {', '.join(spec.TASKS)}.{nearest(task, spec.TASKS)}"
                )
        for name in ("per_task", "requests_per_task", "max_tokens"):
            if getattr(self, name) < 1:
                raise LabError(f"{name}={getattr(self, name)} must be at least 1")
        if self.examples < 0 or self.temperature < 0 or not 0 < self.share < 1 or self.seed < 0:
            raise LabError("examples, temperature and seed must be 0 or more, share between 0 and 1")

    def identity(self) -> dict[str, Any]:
        """What decides the result; of the teacher its kind and name, not where it listens."""
        from minilm_lab import config

        values = config.plain(self)
        for name in ("url", "key_variable", "timeout"):
            values["teacher"].pop(name, None)
        for name in ("used_in", "used_out"):
            values["budget"].pop(name, None)
        return values
