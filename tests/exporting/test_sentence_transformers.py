"""The folder is one of sentence-transformers: its embeddings are torch's mean over tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data.helpers import TEXT, WORDS
from transformers import AutoModel, AutoTokenizer

from minilm_lab.exporting.sentence_transformers import write_pooling

sentence_transformers = pytest.importorskip("sentence_transformers", reason="extra `export` is not installed")
LONG = " ".join(WORDS * 6)


def by_hand(folder: Path, text: str, longest: int) -> torch.Tensor:
    """One text at a time, so that there is no padding."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
    with torch.no_grad():
        return model(**batch).last_hidden_state[0].mean(0)


@pytest.mark.parametrize("normalize", [False, True])
def test_embeddings(normalize: bool, tiny_teacher: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_teacher)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(tmp_path)
    write_pooling(tmp_path, model.config.hidden_size, 32, normalize)

    reader = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    assert reader.max_seq_length == 32
    texts = [TEXT[0], "cat", LONG]
    found = reader.encode(texts, convert_to_tensor=True)
    for row, text in zip(found, texts, strict=True):
        expected = by_hand(tmp_path, text, 32)
        expected = expected / expected.norm() if normalize else expected
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)
