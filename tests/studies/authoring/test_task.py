"""task=authoring and evaluator=authoring, in the process and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lab import Lab
from tasks.instructions.material import save, tokenizer_of

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring import records, spec
from minilm_lab.studies.authoring.gathering import gather
from minilm_lab.studies.authoring.task import AuthoringTask, lists_of, records_in
from minilm_lab.tasks.instructions.chat import Chat
from minilm_lab.tasks.instructions.module import Written

SMALL = {"length": 600, "target_length": 80}


def task_of(shops: Path, **settings) -> AuthoringTask:
    return AuthoringTask(**{**SMALL, "rows": 12, "dev_rows": 9, **settings})


def test_the_splits(shops: Path) -> None:
    splits = task_of(shops, unseen=True, held_out=["qa"]).load(None, shops)
    train, dev = records_in(splits.train), records_in(splits.dev)
    assert {r.task for r in train} == set(spec.TASKS) - {"qa"} and {r.task for r in dev} == set(spec.TASKS)
    assert all(r.output for r in train) and any(not r.output for r in dev)  # nobody wrote advertisements
    assert max(np.unique([r.task for r in train], return_counts=True)[1]) == 12
    assert not {r.thing() for r in train} & {r.thing() for r in dev}
    for split, wordings in ((splits.train, range(5)), (splits.dev, range(5)), (splits.extra["unseen"], [5])):
        for text, record in zip(split["text"][:], records_in(split), strict=True):
            assert text in [record.instruction(n) for n in wordings]
    assert splits.extra["unseen"]["pair"][:] == splits.dev["pair"][:]
    again = task_of(shops, rows=6).load(None, shops)
    whole = task_of(shops).load(None, shops)
    assert set(again.train["id"][:]) < set(whole.train["id"][:])  # fewer are a part of more


def test_right_answers_score_a_hundred_and_options_fit(shops: Path) -> None:
    task, tokenizer = task_of(shops), tokenizer_of()
    splits = task.load(None, shops)
    features, lists = task.features(splits, "dev", tokenizer), lists_of(splits)
    assert sorted(lists) == [("Desks", "Lamps", "Sofas"), ("yes", "no")]
    chat, outputs = Chat(tokenizer, task.system), []
    for n, record in enumerate(records_in(splits.dev)):
        if record.labels is None:
            assert features.options is not None and features.options[n] == -1
            option = -1
        else:
            assert lists[features.options[n]] == tuple(record.labels)
            option = record.labels.index(record.output)
        tokens = chat.answer(record.output or f"The {record.value('title')}")[:-1]
        outputs.append(Written(True, 0.0, option, tokens).array())
    result = task.judge(outputs, features, splits, "dev")
    for name, value in result.scores.items():
        if name.startswith(("class_f1", "ads", "rewrite_query", "answer_loss")):
            continue
        assert value == pytest.approx(100), name
    assert result.scores["answer_loss"] == 0.0 and result.scores["ads_grounding"] > 0
    assert task.definitions(result.scores).keys() == result.scores.keys()


def test_more_records_are_trained_on_but_none_of_what_is_judged(shops: Path, tmp_path: Path) -> None:
    plain = task_of(shops).load(None, shops)
    judged = records_in(plain.dev)[0]
    new = [
        records.parsed({**json.loads(judged.line()), "made_by": "teacher:x"}, ""),
        records.parsed({**json.loads(judged.line()), "id": "new-1/x"}, ""),
    ]
    records.write(tmp_path / "more.jsonl", new)
    splits = task_of(shops, more_path=str(tmp_path / "more.jsonl")).load(None, shops)
    assert len(splits.train) == len(plain.train) + 1 and "1 of them left out" in splits.data_note


def test_bad_settings(shops: Path) -> None:
    for bad, said in (
        ({"tasks": ["add"]}, "Did you mean 'ads'"),
        ({"tasks": ["qa"], "held_out": ["qa"]}, "nothing is left"),
        ({"rows": 0}, "at least 1"),
        ({"share": 1.0}, "between 0 and 1"),
    ):
        with pytest.raises(LabError, match=said):
            task_of(shops, **bad)
    with pytest.raises(LabError, match="no such folder"):
        task_of(shops, path=str(shops / "nowhere")).load(None, shops)


def test_from_the_command_line(shops: Path, lab: Lab, tmp_path: Path) -> None:
    data = gather(None, None, shops, 0.3, True)
    folder = tmp_path / "rows"
    folder.mkdir()
    records.write(folder / "train.jsonl", data.train)
    records.write(folder / "validation.jsonl", data.dev)
    save(tmp_path / "model")
    common = ["source=model", "logger=none", "impl.threads=1", "trainer.accelerator=cpu"]
    settings = ["path=rows", "tasks=[classification,intent]", "rows=8", "dev_rows=5", "length=400"]
    done = lab.run(
        "finetune", *common, "task=authoring", *(f"task.{word}" for word in settings), "scale.epochs=1",
        "tune.batch_size=8", "task.target_length=16", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "class_f1_macro" in done.out and "intent_f1_macro" in done.out and "stops" in done.out
    evaluate = [
        "evaluate",
        *common,
        "evaluator=authoring",
        "task=authoring",
        *(f"task.{word}" for word in settings),
    ]
    floor = lab.run(*evaluate, "evaluator.answers=bag_of_words", cwd=tmp_path)
    assert floor.code == 0, floor.err
    assert "class_accuracy" in floor.out
    plain = lab.run(*evaluate, "task.target_length=16", cwd=tmp_path)
    assert plain.code == 0, plain.err
    assert "class_likelihood" in plain.out
    told = lab.run("inspect", "task=authoring", cwd=tmp_path)
    assert told.code == 0 and "category" in told.out and "asks" in told.out, told.err
