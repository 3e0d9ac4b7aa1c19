"""Token ids against the tokenizer called one text at a time."""

import logging

import numpy as np
import pytest

from minilm_lab.errors import LabError
from minilm_lab.tasks.features import featurize
from tasks.helpers import make_split


def test_single_texts(tokenizer):
    texts = ["a b c", "", "d", "a b c d e f g h i j k l"]
    features = featurize(
        make_split([(t, None) for t in texts], [0, 1, 0, 1], list("wxyz")), tokenizer, length=8
    )
    for text, ids, segments in zip(texts, features.input_ids, features.token_type_ids, strict=True):
        assert ids.tolist() == tokenizer(text, truncation=True, max_length=8)["input_ids"]
        assert segments.tolist() == [0] * len(ids)
    assert features.lengths.tolist() == [5, 2, 3, 8]
    assert features.labels.dtype == np.int64
    assert features.labels.tolist() == [0, 1, 0, 1]
    assert features.pad_id == 0


def test_pairs_cut_the_longer_text(tokenizer):
    examples = make_split([("a b c d e f g", "x y"), ("a", "b")], [0.5, 1.0], ["0", "1"])
    features = featurize(examples, tokenizer, length=9)
    assert " ".join(tokenizer.convert_ids_to_tokens(features.input_ids[0])) == "[CLS] a b c d [SEP] x y [SEP]"
    assert features.token_type_ids[0].tolist() == [0] * 6 + [1] * 3
    assert features.token_type_ids[1].tolist() == [0, 0, 0, 1, 1]
    assert features.labels.dtype == np.float32


def test_special_tokens_come_from_the_lab_alone(tokenizer):
    features = featurize(make_split([("a [SEP] b [PAD]", None)], [0], ["0"]), tokenizer, length=20)
    ids = features.input_ids[0].tolist()
    assert ids.count(tokenizer.sep_token_id) == 1 and tokenizer.pad_token_id not in ids and len(ids) > 6


def test_a_tokenizer_without_segments_gives_none(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "model_input_names", ["input_ids", "attention_mask"])
    features = featurize(make_split([("a", None)], [0], ["0"]), tokenizer, length=8)
    assert features.token_type_ids is None


def test_no_padding_token(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "_special_tokens_map", tokenizer._special_tokens_map | {"pad_token": None})
    assert tokenizer.pad_token_id is None
    with pytest.raises(LabError, match="no padding token"):
        featurize(make_split([("a", None)], [0], ["0"]), tokenizer, length=8)


def test_no_warnings_about_long_texts(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        featurize(make_split([("a " * 600, None)], [0], ["0"]), tokenizer, length=8)
    assert not caplog.records
