"""A tiny random Llama with a byte-level tokenizer and chat templates; it imports nothing of the lab."""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

#: As SmolLM2's: a system message of its own where none is given, one token for end and padding.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nI am a model.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Qwen 3's: in a whole conversation the last answer stands behind an empty block of thoughts.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: A space behind "assistant:" that byte-level tokenizers merge with the answer's first word.
MERGING = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
ITEMS = ("sofa", "lamp", "desk", "chair", "table")


def tokenizer_of(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Bytes, with a few merges, one of them of a space and a letter."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", letter) for letter in "acdlopst"] + [("a", "m"), ("l", "am"), ("lam", "p"), ("Ċ", "Ċ")]
    words = [*SPECIAL, *letters, *(a + b for a, b in merges)]
    inner = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<|endoftext|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


def model_of(layers: int = 2, seed: int = 3) -> LlamaForCausalLM:
    """Random weights with a wide spread, tied embeddings."""
    tokenizer = tokenizer_of()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def save(folder: Path, template: str | None = CHATML, layers: int = 2) -> Path:
    """The model's folder."""
    model_of(layers).save_pretrained(folder)
    tokenizer_of(template).save_pretrained(folder)
    return folder


def rows_of(count: int, seed: int) -> list[dict[str, str]]:
    """The last word of the input is the answer."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        item = draw.choice(ITEMS)
        colour = draw.choice(["red", "blue", "old"])
        rows.append({"instruction": "Name it.", "input": f"a {colour} {item}", "output": item})
    return rows


def write_rows(folder: Path, train: int = 40, dev: int = 9) -> Path:
    """train.jsonl and validation.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", rows_of(train, 1)), ("validation", rows_of(dev, 2))):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder
