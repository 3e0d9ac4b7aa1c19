"""Cutting long documents into pieces and batching them changes no token."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.data.tokenise import pieces, tokenise

from .helpers import WORDS, byte_bpe, wordpiece

BERT, ROBERTA = wordpiece(), byte_bpe()
PROSE = st.lists(st.sampled_from([*WORDS, "Cat's", "x,y", "été", "東京", "\n", "\n\n", "  ", "12.5"])).map(
    " ".join
)


@given(text=st.text(alphabet="ab \n,é", max_size=80), limit=st.integers(1, 20))
def test_pieces_join_to_the_document_and_keep_to_the_limit(text: str, limit: int) -> None:
    cut = list(pieces(text, limit))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= limit for piece in cut) or not text


@settings(deadline=None)
@given(text=PROSE, limit=st.integers(12, 40), batch=st.integers(1, 200))
def test_pieces_have_the_tokens_of_the_whole(text: str, limit: int, batch: int) -> None:
    for tokenizer in (BERT, ROBERTA):
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        parts = [ids for found in tokenise([text], tokenizer, piece=limit, batch=batch) for ids in found.ids]
        assert [token for part in parts for token in part] == whole


def test_a_tokenizer_that_truncates_by_itself_is_not_obeyed() -> None:
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding()
    tokenizer.model_max_length = 4
    (batch,) = tokenise(["cat " * 50, "mat"], tokenizer)
    assert [len(ids) for ids in batch.ids] == [50, 1]


def test_batches_mark_where_documents_begin() -> None:
    batches = list(tokenise(["cat sat mat", "", "dogs"], BERT, piece=4, batch=8))
    assert [first for batch in batches for first in batch.first] == [True, False, False, True, True]
    assert sum(batch.characters for batch in batches) == len("cat sat mat") + len("dogs")
    assert len(batches) > 1


def test_a_forked_process_can_tokenise_and_says_nothing() -> None:
    """Threads of the parent's tokenizer do not exist in the child: it must not wait for them."""
    code = """
import os, sys
from minilm_lab.data.tokenise import tokenise
sys.path.insert(0, sys.argv[1])
from data.helpers import wordpiece
tokenizer = wordpiece()
texts = ["the cat sat"] * 1000
parent = list(tokenise(texts, tokenizer))
child = os.fork()
if child == 0:
    os._exit(0 if list(tokenise(texts, tokenizer)) == parent else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert "TOKENIZERS_PARALLELISM" not in os.environ
"""
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[1])],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "parallelism" not in done.stderr


@pytest.mark.parametrize("make", [wordpiece, byte_bpe])
def test_special_tokens_written_in_a_text_are_text(make) -> None:
    tokenizer = make()
    special = tokenizer.mask_token or tokenizer.eos_token
    (batch,) = tokenise([f"the cat {special} sat", "the cat sat"], tokenizer)
    assert not set(batch.ids[0]) & (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    assert batch.ids[1] == tokenizer("the cat sat", add_special_tokens=False)["input_ids"]
    (batch,) = tokenise([f"the cat {special} sat"], tokenizer, specials=True)
    assert tokenizer.convert_tokens_to_ids(special) in batch.ids[0]
