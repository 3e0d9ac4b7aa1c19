"""Save a student as a folder that AutoModel and AutoTokenizer load, with a model card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str | None = None
) -> None:
    """Write model (safetensors), tokenizer and card; the folder appears whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if card is not None:
            (temporary / "README.md").write_text(card, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except OSError as error:
        raise LabError(
            f"{folder} could not be written ({error.strerror or error}); nothing that was there before is lost. "
            "Free some space and start the same command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def model_card(
    name: str,
    what: Mapping[str, Any],
    facts: Mapping[str, Any],
    untrained: Sequence[str],
    license: str = "other",
) -> str:
    """The README of a student: where it comes from, what it cost, what is untrained in it.

    what: the what-config of its run; facts: lines of the table, in order.
    """
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    kept = "\n".join(f"- `{name}`" for name in untrained) or "- nothing"
    config = json.dumps(what, indent=2, ensure_ascii=False)
    return f"""---
license: {license}
library_name: transformers
tags: [minilm, distillation, minilm-lab]
---
# {name}

A Transformer distilled with deep self-attention distillation (MiniLM, arXiv 2002.10957; MiniLMv2, arXiv
2012.15828) by minilm-lab. It has no masked-LM head: fine-tune it, or pool its hidden states.

| | |
|---|---|
{rows}

```python
from transformers import AutoModel, AutoTokenizer

model, tokenizer = AutoModel.from_pretrained("."), AutoTokenizer.from_pretrained(".")
```

## Untrained by distillation

The loss looks at query, key and value of the last layer, so these parameters are as initialised
(`student.init` below says how) until fine-tuning:

{kept}

## Scores

Fine-tuning runs of this student write their scores here.

| task | metric | score | seed | data |
|---|---|---|---|---|

## Configuration

```json
{config}
```
"""


def add_score(folder: Path, row: Sequence[object]) -> None:
    """Add a line to the table of scores in a student's card, once."""
    card = folder / "README.md"
    if not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    line = "| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |"
    head = "| task | metric | score | seed | data |\n|---|---|---|---|---|\n"
    if head in text and line not in text:
        temporary = card.with_name(f".README.{os.getpid()}.tmp")
        temporary.write_text(text.replace(head, f"{head}{line}\n"), encoding="utf-8")
        temporary.replace(card)
