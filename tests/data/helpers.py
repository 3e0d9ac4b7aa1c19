"""Small real tokenizers and a corpus from a list, for tests of corpora."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from minilm_lab.data import Corpus
from minilm_lab.data.checksum import settings_checksum

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "two",
    "dogs",
    "running",
    "over",
    "green",
    "fields",
    "while",
    "rain",
    "fell",
    "softly",
    "again",
]
TEXT = [" ".join(WORDS[i:] + WORDS[:i]) + ", isn't it?" for i in range(len(WORDS))]


def wordpiece() -> PreTrainedTokenizerFast:
    """A tokenizer of BERT's kind: [CLS] … [SEP], lower case."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Written down: the library's trainer for word pieces gives another vocabulary in every process.
    letters = string.ascii_lowercase + string.digits + ",.?!'-"
    halves = [piece for word in sorted(set(WORDS)) for piece in (word[:2], f"##{word[2:]}") if len(word) > 4]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *halves, *sorted(set(WORDS))]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_bpe(*, specials: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of RoBERTa's kind: <s> … </s>; without `specials` one of GPT-2's kind: <|endoftext|> only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"] if specials else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if not specials:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


@dataclass
class ListCorpus(Corpus):
    """Documents from a list; counts how often it was read."""

    name: str = "list"
    texts: list[str] = field(default_factory=list)
    reads: int = 0

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        self.reads += 1
        yield from self.texts

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        return settings_checksum(self.texts)


def many_texts(count: int) -> list[str]:
    """`count` different short documents."""
    return [f"{' '.join(WORDS[: 3 + n % 11])} {n} {WORDS[n % len(WORDS)]}" for n in range(count)]
