"""`minilm-lab inspect`: what a teacher, a student or any model is, without loading its weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import facts_of
from minilm_lab.exporting.heads import state_of_head
from minilm_lab.models import sources
from minilm_lab.models.families import UNLIMITED
from minilm_lab.models.resolve import Model, resolve
from minilm_lab.models.teacher import Teacher
from minilm_lab.tasks.base import Task
from minilm_lab.training.settings import Paths

_HEADS = {
    "present": "in the checkpoint",
    "absent": "none in the checkpoint; `minilm-lab pretrain head=mlm` trains one",
    "zero": "untrained: it predicts every token alike",
    "unknown": "unknown: the weights are not at hand as safetensors",
}


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    if cfg.get("task") is not None:
        task: Task = config.section(cfg, "task")
        print("\n".join(task.described()))
        return
    paths: Paths = config.section(cfg, "paths")
    width = cfg.width
    if width is not None and (not isinstance(width, int) or isinstance(width, bool) or width < 1):
        raise LabError(f"width={width!r} must be the hidden size of a student, such as 384, or null")
    origin, key = _origin(cfg, paths)
    model = sources.load_config(origin.where, origin.revision, key)
    facts = {"name": origin.title, "where": origin.where, **facts_of(model, width)}
    facts["masked_lm_head"] = state_of_head(origin, model)
    if cfg.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        Console().print(_rich(_lines(facts)))
    else:
        lines = _lines(facts)
        column = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:<{column}}  {value}".rstrip() for name, value in lines))


def _origin(cfg: DictConfig, paths: Paths) -> tuple[Model, str]:
    if cfg.source is not None:
        found = resolve(
            str(cfg.source),
            runs=Path(paths.runs).expanduser(),
            cache=Path(paths.cache).expanduser(),
            key="source",
        )
        return found, "source"
    teacher: Teacher = config.section(cfg, "teacher")
    where = teacher.locate(Path(paths.cache).expanduser())
    return Model(where, teacher.revision, teacher.name), "teacher"


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of each line."""
    counted = facts["parameters"]
    lines = [
        ("model", f"{facts['name']} ({facts['where']})"),
        ("family", facts["family"]),
        ("layers", str(facts["layers"])),
        ("hidden size", f"{facts['hidden_size']:,}"),
        ("attention heads", f"{facts['attention_heads']} of {facts['head_size']}"),
        ("feed-forward size", f"{facts['ffn_size']:,}"),
        ("vocabulary", f"{facts['vocabulary']:,}"),
        ("longest input", _longest(facts["longest_input"])),
        (
            "embeddings",
            f"{_millions(counted['embeddings'])}, of words {_millions(counted['word_embeddings'])}",
        ),
        ("Transformer", _millions(counted["transformer"])),
        ("all parameters", _millions(counted["total"])),
        *_inside(facts),
        ("masked-LM head", _HEADS[facts["masked_lm_head"]]),
    ]
    return lines


def _inside(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines on what objectives read inside of the model."""
    if "projections" not in facts:
        return [("Q, K, V", "not read: this family is fine-tuned, evaluated and exported, not distilled")]
    layers = facts["projections"]["layers"]
    first, last = layers[0], layers[-1]
    span = first if first == last else f"{first} … {last.rpartition('.')[2]}"
    lines = [
        ("Q, K, V", f"{span}: {', '.join(facts['projections']['maps'])}"),
        (
            "attention",
            "QKᵀ/√d" if facts["plain_attention"] else f"QKᵀ/√d; {'; '.join(facts['attention_adds'])}",
        ),
        ("relation heads", _numbers(facts["relation_heads"])),
    ]
    if "relation_heads_grouped" in facts:
        widths = facts["projection_widths"]
        told = f"{_numbers(facts['relation_heads_grouped'])} (query {widths['query']}, key and value {widths['key']} wide)"
        lines.append(("… by group", told))
    if "relation_heads_with_student" in facts:
        shared = _numbers(facts["relation_heads_with_student"])
        lines.append((f"… with width {facts['student_width']}", shared))
    return lines


def _longest(tokens: int) -> str:
    return "no limit of its own" if tokens >= UNLIMITED else f"{tokens:,} tokens"


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M"


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _rich(lines: list[tuple[str, str]]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(Text(name), Text(value))
    return table
