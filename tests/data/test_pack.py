"""Packing, compared with a plain list implementation, for tokenizers of four kinds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.data import Packing
from minilm_lab.data.pack import packer, token_dtype
from minilm_lab.data.sentences import sentences
from minilm_lab.data.specials import Specials, specials_of
from minilm_lab.data.tokenise import TokenBatch
from minilm_lab.errors import LabError

BERT = Specials(prefix=[2], suffix=[3], separator=3, pad=0, largest=199)
BARE = Specials(prefix=[], suffix=[], separator=None, pad=0, largest=100_000)
DOCUMENTS = st.lists(st.lists(st.integers(5, 199), max_size=25), max_size=12)


def pack(specials: Specials, packing: Packing, length: int, batches: list[TokenBatch]):
    to_pack = packer(packing, specials, length)
    blocks = [to_pack.add(batch) for batch in batches]
    ids = [row for block, _ in blocks for row in block.tolist()]
    return ids, [n for _, lengths in blocks for n in lengths.tolist()], to_pack.dropped


def batched(documents: list[list[int]], size: int, piece: int) -> list[TokenBatch]:
    """Documents cut into pieces of `piece` tokens, `size` pieces a batch."""
    cut = [
        (ids[at : at + piece], at == 0)
        for ids in documents
        for at in (range(0, len(ids), piece) if ids else [0])
    ]
    groups = [cut[at : at + size] for at in range(0, len(cut), size)]
    return [TokenBatch([ids for ids, _ in group], [first for _, first in group], 0) for group in groups]


@given(documents=DOCUMENTS, size=st.integers(1, 7), piece=st.integers(1, 9), length=st.integers(8, 20))
def test_packed_is_the_joined_text_cut_into_full_blocks(documents, size, piece, length) -> None:
    for specials in (BERT, BARE):
        ids, lengths, dropped = pack(specials, Packing.packed, length, batched(documents, size, piece))
        stream: list[int] = []
        for document in filter(None, documents):
            if stream and specials.separator is not None:
                stream.append(specials.separator)
            stream += document
        width = length - specials.count
        whole = len(stream) // width
        assert ids == [
            specials.prefix + stream[n * width : (n + 1) * width] + specials.suffix for n in range(whole)
        ]
        assert lengths == [length] * whole
        assert dropped == len(stream) - whole * width


@given(documents=DOCUMENTS, size=st.integers(1, 7), length=st.integers(8, 20))
def test_sentences_are_one_document_a_block(documents, size, length) -> None:
    ids, lengths, dropped = pack(BERT, Packing.sentences, length, batched(documents, size, piece=1000))
    expected = [[2, *document[: length - 2], 3] for document in documents if document]
    assert [row[:n] for row, n in zip(ids, lengths, strict=True)] == expected
    assert all(row[n:] == [BERT.pad] * (length - n) for row, n in zip(ids, lengths, strict=True))
    assert dropped == sum(max(0, len(document) - length + 2) for document in documents)


@given(documents=DOCUMENTS, size=st.integers(1, 7), length=st.integers(8, 20))
def test_of_three_sentences_one_stands_alone_and_two_are_a_pair(documents, size, length) -> None:
    specials = Specials(prefix=[2], suffix=[3], separator=3, pad=0, largest=199, middle=[3, 4])
    to_pack = packer(Packing.pairs, specials, length)
    parts = [to_pack.add(batch) for batch in batched(documents, size, piece=1000)]
    found = [
        (row[:n].tolist(), second)
        for blocks, lengths, seconds in parts
        for row, n, second in zip(blocks, lengths.tolist(), seconds.tolist(), strict=True)
    ]
    texts = [document for document in documents if document]
    expected = []
    for at in range(0, len(texts), 3):
        alone = [2, *texts[at][: length - 2], 3]
        expected.append((alone, len(alone)))
        if at + 2 < len(texts):
            first, second = list(texts[at + 1]), list(texts[at + 2])
            while len(first) + len(second) > length - 4:  # the longer one loses a token at a time
                (second if len(second) >= len(first) else first).pop()
            expected.append(([2, *first, 3, 4, *second, 3], len(first) + 3))
    assert found == expected
    assert to_pack.dropped == sum(map(len, texts)) - sum(
        len(ids) - (2 if second == len(ids) else 4) for ids, second in expected
    )


def test_pairs_are_what_the_tokenizer_makes_of_two_texts(bert) -> None:
    """Tokens and segment ids, against the library's own encoding of a pair."""
    texts = ["the cat sat.", "a dog ran far away.", "who is there?"]
    specials = specials_of(bert)
    ids = [bert(t, add_special_tokens=False)["input_ids"] for t in texts]
    blocks, lengths, seconds = packer(Packing.pairs, specials, 32).add(TokenBatch(ids, [True] * 3, 0))
    pair = bert(texts[1], texts[2], return_token_type_ids=True)
    assert blocks[1, : lengths[1]].tolist() == pair["input_ids"]
    assert (np.arange(lengths[1]) >= seconds[1]).astype(int).tolist() == pair["token_type_ids"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? four", ["One.", "Two!", "Three? four"]),
        ('He said "No." She left.\nA title\n\n3 cats came. (All of them.) Why', None),
        ("J. S. Bach wrote it. E.g. this one.", ["J. S. Bach wrote it.", "E.g. this one."]),
        ("今日は晴れ。明日は雨？はい", ["今日は晴れ。", "明日は雨？", "はい"]),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str] | None) -> None:
    expected = expected or ['He said "No."', "She left.", "A title", "3 cats came.", "(All of them.)", "Why"]
    assert list(sentences(text)) == expected if text.strip() else not list(sentences(text))


def test_token_type_fits_the_vocabulary() -> None:
    def dtype(largest: int) -> np.dtype:
        return token_dtype(Specials([], [], None, 0, largest))

    assert dtype(65_535) == np.uint16
    assert dtype(65_536) == np.uint32


def test_specials_of_four_kinds_of_tokenizers(bert, roberta, gpt) -> None:
    assert specials_of(bert) == Specials([2], [3], 3, 0, largest=len(bert) - 1, middle=[3])
    assert specials_of(roberta) == Specials([0], [2], 2, 1, largest=len(roberta) - 1, middle=[2, 2])
    assert specials_of(gpt) == Specials([], [], 0, pad=0, largest=len(gpt) - 1)


def test_a_tokenizer_that_gives_nothing_is_refused() -> None:
    def tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": []}

    with pytest.raises(LabError, match="no plain text tokens"):
        specials_of(tokenizer)


def test_a_document_whose_first_piece_is_empty_keeps_its_separator() -> None:
    """Such a piece has no token: of white space, or of characters that the tokenizer drops."""
    batch = TokenBatch([[10, 11], [], [12, 13], [14]], [True, True, False, True], 0)
    ids, _, _ = pack(BERT, Packing.packed, 9, [batch])
    assert ids == [[2, 10, 11, 3, 12, 13, 3, 14, 3]]
