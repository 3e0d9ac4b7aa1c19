"""The special tokens that a tokenizer puts around and between texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minilm_lab.errors import LabError


@dataclass(frozen=True)
class Specials:
    """Token ids; BERT: prefix [CLS], suffix [SEP], separator [SEP]; RoBERTa: <s>, </s>, </s>."""

    prefix: list[int]
    """Before the text of every block."""

    suffix: list[int]
    """After the text of every block."""

    separator: int | None
    """Between two documents in a block."""

    pad: int
    """Fills up short blocks; a mask always hides it."""

    largest: int
    """The largest token id that the tokenizer can give."""

    middle: list[int] = field(default_factory=list)
    """Between the two texts of a pair."""

    @property
    def count(self) -> int:
        """Special tokens around a block."""
        return len(self.prefix) + len(self.suffix)


def specials_of(tokenizer: Any) -> Specials:
    """Find the special tokens of a Hugging Face tokenizer by looking at what it does with a text.

    Not every tokenizer class has methods for it, and named tokens (`cls_token`) are not always used.

    Raises:
        LabError: the tokenizer does not keep the text in one piece.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = [n for n in range(len(full) - len(bare) + 1) if full[n : n + len(bare)] == bare]
    if not bare or not starts:
        raise LabError(
            f"the tokenizer {type(tokenizer).__name__} gives no plain text tokens for 'a'; is it whole?"
        )
    # With an unknown 'a' a special token could look like it: then the text is the last match before the suffix.
    prefix, suffix = full[: starts[-1]], full[starts[-1] + len(bare) :]
    pair = tokenizer("a", "a", add_special_tokens=True)["input_ids"]
    middle = pair[len(prefix) + len(bare) : len(pair) - len(suffix) - len(bare)]
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    pads = (tokenizer.pad_token_id, separator, 0)
    return Specials(
        prefix=list(prefix),
        suffix=list(suffix),
        middle=list(middle),
        separator=separator,
        pad=next(pad for pad in pads if pad is not None),
        largest=max(tokenizer.get_vocab().values()),
    )
