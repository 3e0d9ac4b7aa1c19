"""What the golden runs read: tiny seeded models, a corpus and one data set a kind of task. It imports nothing of the lab."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    f"{first}{last}" for first in ("ba", "de", "ki", "lo", "mu", "ra") for last in ("n", "s", "t", "x", "l")
]


def write(folder: Path) -> None:
    """Everything, in sub-folders of `folder`: bert, llama, llama_lm, llama_end, text.txt, instruct, class, value, pair, tags, span, target."""
    shape = {"num_hidden_layers": 4, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    # Larger initial weights than usual: relations of a random model are nearly uniform otherwise.
    shape |= {"vocab_size": len(SPECIAL) + len(WORDS), "max_position_embeddings": 64}
    spread = {"initializer_range": 0.2}
    _save(folder / "bert", BertForMaskedLM, BertConfig(**shape, **spread))
    _save(folder / "llama", LlamaModel, LlamaConfig(**shape, **spread, num_key_value_heads=2))
    tied = {"num_key_value_heads": 2, "tie_word_embeddings": True}
    _save(folder / "llama_lm", LlamaForCausalLM, LlamaConfig(**shape, **spread, **tied))
    _save(folder / "llama_end", LlamaForCausalLM, LlamaConfig(**shape, **spread, **tied), eos_token="[SEP]")
    draw = random.Random(5)
    text = [" ".join(_words(draw, 6, 20)) for _ in range(80)]
    (folder / "text.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    for name, row in (
        ("class", _class),
        ("value", _value),
        ("pair", _pair),
        ("tags", _tags),
        ("target", _target),
    ):
        _rows(folder / name, [row(draw) for _ in range(80)], [row(draw) for _ in range(16)])
    _rows(folder / "span", [_span(draw, n) for n in range(80)], [_span(draw, n) for n in range(80, 96)])
    _rows(folder / "instruct", [_instruct(draw) for _ in range(80)], [_instruct(draw) for _ in range(16)])


def _save(folder: Path, kind: type[PreTrainedModel], config: Any, **more: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(17)
        model = kind(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*SPECIAL, *WORDS])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    specials = dict(zip(names, SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **specials, **more).save_pretrained(folder)


def _words(draw: random.Random, least: int, most: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(draw.randint(least, most))]


def _class(draw: random.Random) -> dict[str, Any]:
    words = _words(draw, 4, 12)
    return {"text": " ".join(words), "label": "early" if words[0] < "ki" else "late"}


def _value(draw: random.Random) -> dict[str, Any]:
    words = _words(draw, 4, 12)
    return {"text": " ".join(words), "score": sum(word.startswith("ba") for word in words) / 2}


def _pair(draw: random.Random) -> dict[str, Any]:
    first, second = _words(draw, 3, 6), _words(draw, 3, 6)
    return {"first": " ".join(first), "second": " ".join(second), "label": int(first[0] < second[0])}


def _tags(draw: random.Random) -> dict[str, Any]:
    words = _words(draw, 4, 12)
    return {"tokens": words, "tags": ["B-X" if word.startswith(("ba", "lo")) else "O" for word in words]}


def _target(draw: random.Random) -> dict[str, Any]:
    words = _words(draw, 4, 10)
    return {"source": " ".join(words), "target": " ".join(sorted(words)[:3])}


def _span(draw: random.Random, number: int) -> dict[str, Any]:
    words = _words(draw, 10, 30)
    place = draw.randrange(len(words) - 1)
    answer = {
        "text": [" ".join(words[place : place + 2])],
        "answer_start": [len(" ".join([*words[:place], ""]))],
    }
    return {"id": str(number), "question": words[place], "context": " ".join(words), "answers": answer}


def _instruct(draw: random.Random) -> dict[str, Any]:
    words = _words(draw, 4, 10)
    return {"instruction": "ban", "input": " ".join(words), "output": " ".join(sorted(words)[:3])}


def _rows(folder: Path, train: Sequence[dict[str, Any]], dev: Sequence[dict[str, Any]]) -> None:
    folder.mkdir()
    for split, rows in (("train", train), ("validation", dev)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
