"""`minilm-lab author`: texts for products, from the command line or a file, by a model that was tuned for it."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.resolve import resolve
from minilm_lab.runs.files import write_atomically
from minilm_lab.studies.authoring import spec
from minilm_lab.studies.authoring.author import Author, Text, record_of, rows_in
from minilm_lab.studies.authoring.records import Record
from minilm_lab.training.settings import Paths


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    paths: Paths = config.section(cfg, "paths")
    for setting, name in (("source", "source"), ("write", "task")):
        if OmegaConf.is_missing(cfg, setting):
            raise LabError(
                f"{name} must be given: minilm-lab author source=<run or folder> task=ads title='…'"
            )
    for name in ("length", "target_length", "batch_size"):
        if not isinstance(cfg[name], int) or isinstance(cfg[name], bool) or cfg[name] < 2:
            raise LabError(f"{name}={cfg[name]!r} must be a whole number, 2 or more")
    if cfg.length <= cfg.target_length:
        raise LabError(f"length={cfg.length} must be more than target_length={cfg.target_length}")
    if not isinstance(cfg.wording, int) or not 0 <= cfg.wording <= spec.HELD_OUT:
        raise LabError(f"wording={cfg.wording} must be from 0 to {spec.HELD_OUT}")
    labels = None if cfg.labels is None else [str(label) for label in cfg.labels]
    records = [record_of(str(cfg.write), features, name, cfg.asked, labels) for name, features in _rows(cfg)]
    found = resolve(
        str(cfg.source),
        runs=Path(paths.runs).expanduser(),
        cache=Path(paths.cache).expanduser(),
        key="source",
    )
    model = LanguageModel.load(found.where, found.revision, batch_size=cfg.batch_size)
    author = Author(model, str(cfg.system), length=cfg.length, target_length=cfg.target_length)
    texts = author.write(records, cfg.wording)
    lines = [_line(record, text) for record, text in zip(records, texts, strict=True)]
    if cfg.out is not None:
        out = Path(str(cfg.out)).expanduser()
        write_atomically(out, "".join(f"{line}\n" for line in lines).encode())
        cut = sum(text.cut for text in texts)
        print(
            f"{len(texts)} answers, {sum(text.ended for text in texts)} ended by the author, {cut} inputs cut: {out}"
        )
    elif cfg.input is None:
        print(texts[0].answer)
    else:
        print("\n".join(lines))


def _rows(cfg: DictConfig) -> list[tuple[str, dict[str, str]]]:
    given = {key: str(cfg[key]) for key in spec.FEATURES if cfg[key] is not None}
    if cfg.input is None:
        if not given:
            raise LabError(
                f"nothing is given: name features ({', '.join(spec.FEATURES)}), or input=<JSON lines>"
            )
        return [("given", given)]
    if given:
        raise LabError(f"input={cfg.input} and {', '.join(given)}: give one of the two")
    rows = list(rows_in(Path(str(cfg.input)).expanduser()))
    if not rows:
        raise LabError(f"input={cfg.input} has no rows")
    return rows


def _line(record: Record, text: Text) -> str:
    values = {
        "id": record.id,
        "task": record.task,
        "asked": record.asked,
        "answer": text.answer,
        "ended": text.ended,
        "grounding": round(text.grounding, 3),
    }
    if text.likeliest is not None:
        values["likeliest"] = text.likeliest
    return json.dumps(values, ensure_ascii=False)
