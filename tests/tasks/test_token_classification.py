"""Tags of words: reading them, aligning them with sub-words, scoring them."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2TokenizerFast

from minilm_lab.errors import LabError
from minilm_lab.tasks import tags
from minilm_lab.tasks.token_classification import TokenTask, beginnings, joined
from tasks.helpers import featurized, judged, pairs_of

WORDS = {"train": [["ab", "c", "dab"], ["e"]], "validation": [["c", "ab"], ["fab", "g", "a"]]}
TAGS = {"train": [["B-PER", "I-PER", "O"], ["O"]], "validation": [["O", "B-LOC"], ["B-PER", "O", "O"]]}
#: Sorted, O first. B-LOC is in the dev split alone: it must be declared.
NAMES = ["O", "B-LOC", "B-PER", "I-PER"]


def write(folder, suffix="jsonl", words=WORDS, tags_=TAGS):
    folder.mkdir(parents=True, exist_ok=True)
    for split in words:
        path = folder / f"{split}.{suffix}"
        rows = [{"tokens": w, "tags": t} for w, t in zip(words[split], tags_[split], strict=True)]
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif suffix == "parquet":
            pd.DataFrame(rows).to_parquet(path)
        else:
            flat = [{key: " ".join(cell) for key, cell in row.items()} for row in rows]
            pd.DataFrame(flat).to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    return str(folder)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_files_of_every_kind(suffix, tmp_path):
    splits = TokenTask(path=write(tmp_path / "data", suffix), labels=NAMES).load(None, tmp_path)
    assert pairs_of(splits.train) == [("ab c dab", None), ("e", None)]
    assert splits.train["label"][:] == [[2, 3, 0], [0]]
    assert splits.dev["label"][:] == [[0, 1], [2, 0, 0]]
    assert len(splits.labels) == 4


@pytest.mark.parametrize(
    "written", [json.dumps, repr, lambda row: " ".join(map(str, row))], ids=["json", "python", "text"]
)
@pytest.mark.parametrize("numbers", [False, True])
def test_lists_in_a_csv_file(written, numbers, tmp_path):
    for split in WORDS:
        tags_ = [[NAMES.index(tag) for tag in row] if numbers else row for row in TAGS[split]]
        frame = pd.DataFrame({"tokens": map(written, WORDS[split]), "tags": map(written, tags_)})
        frame.to_csv(tmp_path / f"{split}.csv", index=False)
    splits = TokenTask(path=str(tmp_path), labels=NAMES).load(None, tmp_path / "cache")
    assert pairs_of(splits.train) == [("ab c dab", None), ("e", None)]
    assert splits.train["label"][:] == [[2, 3, 0], [0]]
    (tmp_path / "train.csv").write_text("tokens,tags\n\"['ab' 'c']\",\"['O' 'O']\"\n")  # as NumPy prints it
    with pytest.raises(LabError, match=r"example 0: .* is a list without commas.*Write lists as JSON"):
        TokenTask(path=str(tmp_path), labels=NAMES).load(None, tmp_path / "cache")


def test_tags_as_numbers_and_found_in_the_data(tmp_path):
    numbers = {split: [[NAMES.index(tag) for tag in row] for row in rows] for split, rows in TAGS.items()}
    path = write(tmp_path / "numbers", tags_=numbers)
    splits = TokenTask(path=path, labels=NAMES).load(None, tmp_path)
    assert splits.dev["label"][:] == numbers["validation"]
    with pytest.raises(LabError, match=r"the tags are numbers; give their names"):
        TokenTask(path=path).load(None, tmp_path)
    found = {
        split: [[tag.replace("LOC", "PER") for tag in row] for row in rows] for split, rows in TAGS.items()
    }
    splits = TokenTask(path=write(tmp_path / "found", tags_=found)).load(None, tmp_path)
    assert splits.labels == ["O", "B-PER", "I-PER"]


def test_tags_that_do_not_fit(tmp_path):
    path = write(tmp_path / "data")
    with pytest.raises(LabError, match=r"'validation' .* tags outside .*'B-LOC' \(1 times\).*task.labels"):
        TokenTask(path=path).load(None, tmp_path)
    uneven = {**TAGS, "train": [["O", "O"], ["O"]]}
    with pytest.raises(LabError, match=r"1 of 2 examples .* example 0 with 3 words and 2 tags"):
        TokenTask(path=write(tmp_path / "uneven", tags_=uneven), labels=NAMES).load(None, tmp_path)
    parts = {split: [[tag[0] + "OUN" for tag in row] for row in rows] for split, rows in TAGS.items()}
    path = write(tmp_path / "parts", tags_=parts)
    with pytest.raises(LabError, match=r"entities need tags such as O, B-PER .*'OOUN'.*tag_accuracy"):
        TokenTask(path=path, labels=["OOUN", "BOUN", "IOUN"]).load(None, tmp_path)
    speech = TokenTask(
        path=path, labels=["OOUN", "BOUN", "IOUN"], metrics=["tag_accuracy"], score="tag_accuracy"
    )
    assert len(speech.load(None, tmp_path).labels) == 3


def test_examples_without_words_are_dropped_and_counted(tmp_path, caplog):
    words = {**WORDS, "train": [*WORDS["train"], []]}
    tags_ = {**TAGS, "train": [*TAGS["train"], []]}
    splits = TokenTask(path=write(tmp_path / "data", words=words, tags_=tags_), labels=NAMES).load(
        None, tmp_path
    )
    assert len(splits.train) == 2
    assert "1 of 3 examples have no words; dropped" in caplog.text
    assert "1 examples without a label dropped" in splits.data_note


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"text": ["a", "b"]}, "task.text"),
        ({"kind": "classification"}, "task.kind=classification is unknown"),
        ({"metrics": ["accuracy"], "score": "accuracy"}, "there are: entity_f1"),
        ({"labels": ["O"]}, "two or more different"),
        ({"test": True, "submissions": {"A.tsv": "test"}}, "task.test=true"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        TokenTask(path="x", **fields)


def test_labels_are_on_the_first_sub_word_as_the_library_says(tokenizer, tmp_path):
    draw = random.Random(3)
    rows = [
        ["".join(draw.choices("abc", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 9))]
        for _ in range(40)
    ]
    words = {"train": rows, "validation": rows}
    tags_ = {split: [[draw.choice(NAMES) for _ in row] for row in rows] for split in words}
    task = TokenTask(path=write(tmp_path / "data", words=words, tags_=tags_), labels=NAMES, length=12)
    examples = task.load(None, tmp_path).train
    features = featurized(task, examples, tokenizer, training=True)
    cut = 0
    for row, gold, ids, labels in zip(
        rows, examples["label"][:], features.input_ids, features.labels, strict=True
    ):
        theirs = tokenizer(row, is_split_into_words=True, truncation=True, max_length=12)
        assert ids.tolist() == theirs["input_ids"]
        seen, expected = set(), []
        for word in theirs.word_ids():
            expected.append(-100 if word is None or word in seen else gold[word])
            seen.add(word)
        assert labels.tolist() == expected
        cut += len(seen - {None}) < len(row)
    assert cut, "no text was cut: the case shows nothing"


def test_words_of_a_tokenizer_that_puts_the_space_before_them():
    merges = [("Ġ", "a"), ("a", "b"), ("Ġa", "b"), ("Ġ", "c")]
    pieces = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges), "<s>"]
    core = GPT2TokenizerFast(vocab={c: n for n, c in enumerate(pieces)}, merges=merges, unk_token="<s>")
    text = joined(["ab", "ab", "c", "", "b a"])
    encoded = core(text, return_offsets_mapping=True)
    pieces = core.convert_ids_to_tokens(encoded["input_ids"])
    begun = beginnings(text, encoded["offset_mapping"])
    # "b a" is one word of the data with a space in it, "" a word without a token.
    assert pieces[:3] == ["ab", "Ġab", "Ġc"] and begun[:3].tolist() == [0, 1, 2]
    assert 3 not in begun and (begun == 4).sum() == 1
    assert pieces[int(np.flatnonzero(begun == 4)[0])] == "b"


def entities(row):
    """An independent reading of IOB2, in which an I- that continues nothing begins an entity (CoNLL)."""
    found, start = set(), None
    for at, tag in enumerate([*row, "O"]):
        inside = start is not None and tag.startswith("I-") and tag[2:] == start[1]
        if start is not None and not inside:
            found.add((start[0], at, start[1]))
            start = None
        if tag != "O" and not inside:
            start = (at, tag[2:])
    return found


def test_scores_against_counting_entities():
    draw = random.Random(8)
    kinds = ["O", "O", "B-A", "I-A", "B-B", "I-B"]
    expected = [[draw.choice(kinds) for _ in range(draw.randint(1, 12))] for _ in range(60)]
    predicted = [[tag if draw.random() < 0.7 else draw.choice(kinds) for tag in row] for row in expected]
    gold = {(n, *e) for n, row in enumerate(expected) for e in entities(row)}
    guess = {(n, *e) for n, row in enumerate(predicted) for e in entities(row)}
    right = len(gold & guess)
    flat = [p == e for a, b in zip(predicted, expected, strict=True) for p, e in zip(a, b, strict=True)]
    assert tags.score(list(tags.METRICS), predicted, expected) == pytest.approx(
        {
            "entity_f1": 200 * right / (len(gold) + len(guess)),
            "entity_precision": 100 * right / len(guess),
            "entity_recall": 100 * right / len(gold),
            "tag_accuracy": 100 * sum(flat) / len(flat),
        }
    )
    assert tags.score(["entity_f1"], [["O"]], [["B-A"]]) == {"entity_f1": 0.0}


def test_judging_counts_words_beyond_the_length(tokenizer, tmp_path, caplog):
    words = {"train": [["a"]], "validation": [list("abcdefghij")]}
    tags_ = {"train": [["B-PER"]], "validation": [["B-PER"] * 10]}
    task = TokenTask(path=write(tmp_path / "data", words=words, tags_=tags_), labels=NAMES, length=8)
    dev = task.load(None, tmp_path).dev
    features = featurized(task, dev, tokenizer, training=False)
    scores = np.zeros((8, 4), np.float32)
    scores[:, 2] = 1  # B-PER everywhere
    outcome = judged(task, [scores], dev, features, labels=NAMES)
    assert outcome.rows == [
        {"id": "validation-0", "prediction": ["B-PER"] * 6 + ["O"] * 4, "reference": ["B-PER"] * 10}
    ]
    assert outcome.scores["entity_recall"] == 60.0 and outcome.scores["entity_precision"] == 100.0
    assert outcome.facts == {"words_without_token": 4}
    assert "4 of 10 words of 'dev' have no token within task.length=8" in caplog.text
    scores[3] = np.nan
    with pytest.raises(LabError, match="not finite"):
        judged(task, [scores], dev, features, labels=NAMES)
