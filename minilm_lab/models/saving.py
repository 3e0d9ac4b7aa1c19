"""Save a student as a folder that AutoModel and AutoTokenizer load, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError
from minilm_lab.locks import locked
from minilm_lab.models.causal import HEADS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, card: str | None = None
) -> None:
    """Write model (safetensors), tokenizer and card; the folder appears whole or not at all."""
    try:
        with whole_folder(folder) as temporary:  # the run's lock is held
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            if card is not None:
                (temporary / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabError(
            f"{folder} could not be written ({reason}); nothing that was there before is lost. "
            "Free some space and start the same command again"
        ) from error


def model_card(
    name: str,
    what: Mapping[str, Any],
    facts: Mapping[str, Any],
    untrained: Sequence[str],
    license: str = "other",
    kind: str = "",
) -> str:
    """The README of a student: where it comes from, what it cost, what is untrained in it.

    what: the what-config of its run; facts: lines of the table, in order; kind: class of the saved
    model, which says what head it has.
    """
    use = "It has no masked-LM head: fine-tune it, or pool its hidden states."
    loader = "AutoModel"
    if "MaskedLM" in kind:
        use = "It has a masked-LM head (`AutoModelForMaskedLM`); fine-tune it, or pool its hidden states."
    elif kind.endswith(HEADS):
        use, loader = "It predicts the next token (`AutoModelForCausalLM`).", "AutoModelForCausalLM"
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    kept = "\n".join(f"- `{name}`" for name in untrained) or "- nothing"
    config = json.dumps(what, indent=2, ensure_ascii=False)
    return f"""---
license: {license}
library_name: transformers
tags: [minilm, distillation, minilm-lab]
---
# {name}

A Transformer distilled by minilm-lab. {use}

| | |
|---|---|
{rows}

```python
from transformers import {loader}, AutoTokenizer

model, tokenizer = {loader}.from_pretrained("."), AutoTokenizer.from_pretrained(".")
```

## Untrained by distillation

The loss has no gradient for these parameters, so they are as initialised (`student.init` below says how) until
fine-tuning:

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
    line = "| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |"
    head = "| task | metric | score | seed | data |\n|---|---|---|---|---|\n"
    # Fine-tuning runs of one student may end at the same moment. The folder itself is the lock, so no lock file
    # stays in what may be published.
    with locked(folder):
        text = card.read_text(encoding="utf-8")
        if head in text and line not in text:
            temporary = card.with_name(".README.tmp")
            temporary.write_text(text.replace(head, f"{head}{line}\n"), encoding="utf-8")
            temporary.replace(card)
