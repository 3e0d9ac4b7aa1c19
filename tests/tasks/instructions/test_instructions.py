"""What must be right when a causal model is tuned on answers, each rule against a computation of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from torch.nn import functional as F

from minilm_lab.data.splits import Splits, table
from minilm_lab.errors import LabError
from minilm_lab.models.adapters import Adapter
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.instructions.chat import Chat
from minilm_lab.tasks.instructions.features import InstructionFeatures, featurize
from minilm_lab.tasks.instructions.module import Instructed, Written
from minilm_lab.tasks.instructions.task import InstructionTask
from minilm_lab.tasks.taught import Taught

from .material import CHATML, MERGING, THINKING, model_of, save, tokenizer_of, write_rows

SYSTEM = "Answer."
END = 1
ROWS = [
    ("Name it.", "a red sofa", "sofa"),
    ("What is this, and which colour has it?", "", "a lamp\nblue"),
    ("Say it.", "x", "lamp lamp lamp"),
]


def split_of(rows=ROWS):
    instructions, inputs, answers = zip(*rows, strict=True)
    names = [f"r{n}" for n in range(len(rows))]
    return table(
        id=names, text=instructions, pair=inputs, label=answers, gold=[[answer] for answer in answers]
    )


def features_of(rows=ROWS, template=CHATML, **settings) -> InstructionFeatures:
    plain = {"system": SYSTEM, "length": 200, "target_length": 40}
    return featurize(split_of(rows), tokenizer_of(template), **{**plain, **settings})


def module_of(model=None, **settings) -> Instructed:
    return Instructed(
        model or model_of(), tokenizer_of(), **{"end": END, "target_length": 12, **settings}
    ).eval()


def whole_of(instruction, text, answer, template=CHATML) -> list[int]:
    """The conversation by the library, tokenised at once."""
    user = f"{instruction}\n\n{text}" if text else instruction
    turns = [("system", SYSTEM), ("user", user), ("assistant", answer)]
    tokenizer = tokenizer_of(template)
    rendered = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns], tokenize=False
    )
    return tokenizer(rendered, add_special_tokens=False).input_ids


def test_prompt_answer_and_end_are_the_whole_conversation() -> None:
    features = features_of()
    for row, ids, labels in zip(ROWS, features.input_ids, features.labels, strict=True):
        whole = whole_of(*row)
        assert (
            ids.tolist() == whole[: len(ids)] and len(whole) - len(ids) == 1
        )  # the template's last new line
        answer = [*tokenizer_of()(row[2]).input_ids, END]
        assert labels.tolist() == [-100] * (len(ids) - len(answer)) + answer


def test_the_loss_is_that_of_answers_and_ends_and_of_nothing_else() -> None:
    features, module = features_of(), module_of()
    batch = features.batch(np.arange(3))
    (loss,) = module.losses(batch).values()
    terms = []
    for instruction, text, answer in ROWS:  # one row at a time, the library's own logits, in float64
        ids = whole_of(instruction, text, answer)
        count = len(tokenizer_of()(answer).input_ids) + 1
        ids = ids[:-1]
        logits = model_of().double()(input_ids=torch.tensor([ids])).logits[0]
        terms += [
            F.cross_entropy(logits[place - 1], torch.tensor(ids[place]))
            for place in range(len(ids) - count, len(ids))
        ]
    torch.testing.assert_close(loss.double(), torch.stack(terms).mean(), rtol=1e-5, atol=1e-5)
    # The end token is part of it, though padding is the same token.
    no_end = {**batch, "labels": torch.where(batch["labels"] == END, -100, batch["labels"])}
    assert abs(float((module.losses(no_end)["cross_entropy"] - loss).detach())) > 1e-3
    assert (batch["labels"] == END).sum() == 3 and (batch["input_ids"][:, -1] == END).all()


def test_gradients_are_the_librarys() -> None:
    batch, module, plain = features_of().batch(np.arange(3)), module_of(), model_of()
    module.losses(batch)["cross_entropy"].backward()
    logits = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).backward()
    for (name, ours), theirs in zip(module.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_the_head_reads_answer_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    from minilm_lab.tasks.instructions import module as place

    real = place.next_token_loss
    monkeypatch.setattr(place, "next_token_loss", lambda h, *a, **k: seen.append(len(h)) or real(h, *a, **k))
    batch = features_of().batch(np.arange(3))
    module_of().losses(batch)
    assert seen == [int((batch["labels"] >= 0).sum())] and seen[0] < batch["labels"].numel() / 4


def test_a_batch_answers_as_each_row_alone() -> None:
    features, module = features_of(training=False), module_of()
    together = module.predict(features.batch(np.arange(3)))
    for row, output in enumerate(together):
        (alone,) = module.predict(features.batch(np.asarray([row])))
        np.testing.assert_allclose(output, alone, rtol=1e-5)
        # A plain loop without a cache.
        prompt = features.input_ids[row][features.labels[row] == -100].tolist()
        tokens: list[int] = []
        while len(tokens) < 12:
            with torch.no_grad():
                new = int(model_of()(input_ids=torch.tensor([prompt + tokens])).logits[0, -1].argmax())
            if new == END:
                break
            tokens.append(new)
        written = Written.of(output)
        assert written.tokens == tokens and written.ended == (len(tokens) < 12)


def test_the_likeliest_option_is_that_of_the_library() -> None:
    lists = [[[*tokenizer_of()(word).input_ids, END] for word in ("sofa", "lamp", "a")]]
    features = features_of(options=[0, -1, 0], training=False)
    outputs = module_of(options=lists).predict(features.batch(np.arange(3)))
    chosen = [Written.of(output).option for output in outputs]
    assert chosen[1] == -1
    for row in (0, 2):
        prompt = features.input_ids[row][features.labels[row] == -100].tolist()
        worths = []
        for ids in lists[0]:
            with torch.no_grad():
                logs = model_of()(input_ids=torch.tensor([prompt + ids])).logits[0].log_softmax(dim=1)
            worths.append(sum(float(logs[len(prompt) + n - 1, token]) for n, token in enumerate(ids)))
        assert chosen[row] == int(np.argmax(worths))


@pytest.mark.parametrize("template", [THINKING, MERGING])
def test_templates_that_change_answers_are_refused(template: str) -> None:
    with pytest.raises(LabError, match="remove chat_template"):
        Chat(tokenizer_of(template), SYSTEM)


def test_our_system_message_stands_in_every_prompt_and_special_tokens_do_not() -> None:
    chat = Chat(tokenizer_of(), SYSTEM)
    text = tokenizer_of().decode(chat.prompt("Name it.", "x"))
    assert text.startswith("<|im_start|>system\nAnswer.<|im_end|>") and "I am a model" not in text
    for bad in (("<|im_end|>", ""), ("a", "b <|im_start|>")):
        with pytest.raises(LabError, match="take it out"):
            chat.prompt(*bad)
    with pytest.raises(LabError, match="take it out"):
        chat.answer("no <|im_end|>")


def test_without_a_template_prompt_and_answer_are_the_labs() -> None:
    chat = Chat(tokenizer_of(None), SYSTEM)
    tokenizer = tokenizer_of(None)
    assert (
        tokenizer.decode(chat.prompt("Name it.", "x")) == "Answer.\n\n### Task\nName it.\n\nx\n\n### Answer\n"
    )
    assert chat.answer("sofa") == [*tokenizer("sofa").input_ids, END]
    tokenizer.eos_token = None
    with pytest.raises(LabError, match="ends an answer"):
        Chat(tokenizer, SYSTEM)


def test_of_a_long_prompt_the_input_is_cut_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    long = "red " * 60 + "sofa"
    rows = [("Name it.", long, "sofa"), ("Name it.", "a lamp", "lamp")]
    features = features_of(rows, length=140)
    assert features.prompts_cut == 1 and "1 of 2 inputs" in caplog.text
    text = tokenizer_of().decode(features.input_ids[0].tolist())
    assert text.endswith("assistant\nsofa<|im_end|>") and "Name it." in text and "Answer." in text
    kept = text.split("Name it.\n\n")[1].split("<|im_end|>")[0]
    assert long.startswith(kept)
    prompt = int((features.labels[0] == -100).sum())
    assert prompt <= 100 < prompt + 5  # not a word more than needed
    assert features.input_ids[1].tolist() == features_of(rows).input_ids[1].tolist()
    with pytest.raises(LabError, match="without their input"):
        features_of([("Name it." * 40, "x", "sofa")], length=100)


def test_answers_are_never_cut() -> None:
    rows = [("Name it.", "x", "sofa " * 20 + "end"), ("Name it.", "y", "lamp")]
    features = features_of(rows, target_length=10)
    assert features.answers_dropped == 1 and len(features) == 1
    judged = features_of(rows, target_length=10, training=False)
    assert judged.answers_longer == 1 and len(judged) == 2
    assert (judged.labels[0] >= 0).sum() == len(tokenizer_of()(rows[0][2]).input_ids) + 1
    with pytest.raises(LabError, match="never cut"):
        features_of(rows, target_length=10, long_answers="fail")


def test_after_training_generations_stop() -> None:
    module = module_of()
    rows = [
        ("Name it.", f"a {colour} {item}", item) for colour in ("red", "old") for item in ("sofa", "lamp")
    ]
    batch = features_of(rows).batch(np.arange(4))
    before = [Written.of(output) for output in module.predict(batch)]
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (loss,) = module.losses(batch).values()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    written = [Written.of(output) for output in module.predict(batch)]
    assert all(one.ended for one in written) and not all(one.ended for one in before)
    assert [tokenizer_of().decode(one.tokens) for one in written] == [row[2] for row in rows]


def test_adapters_leave_the_tied_head_alone_and_are_merged_when_saved(tmp_path: Path) -> None:
    backbone = Backbone(str(save(tmp_path / "m")), None, tokenizer_of())
    module = Instructed.load(backbone, system=SYSTEM, target_length=12)
    module.adapt(Adapter("lora", targets=["all"], rank=8, dropout=0.0), 0, backbone.where)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert module.facts()["trained_parameters"] == sum(p.numel() for p in trained.values())
    batch, generator = features_of().batch(np.arange(3)), torch.Generator().manual_seed(1)
    plain = module.eval().predict(batch)
    with torch.no_grad():
        for p in trained.values():
            p.add_(torch.randn(p.shape, generator=generator) * 0.2)
    adapted = module.predict(batch)
    assert any(len(a) != len(b) or not np.allclose(a, b) for a, b in zip(plain, adapted, strict=True))
    module.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "adapter" / "adapter_config.json").is_file()
    again = Instructed.load(
        Backbone(str(tmp_path / "saved"), None, tokenizer_of()), system=SYSTEM, target_length=12
    )
    for before, after in zip(adapted, again.eval().predict(batch), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-3)


def test_a_teacher_teaches_answers() -> None:
    student, teacher = module_of(), module_of(model_of(seed=5))
    batch = features_of().batch(np.arange(3))
    losses = Taught(student, teacher, 0.3, 2.0).losses(batch)
    sum(losses.values()).backward()
    ours = {name: p.grad.clone() for name, p in student.model.named_parameters()}
    plain, other = model_of(), model_of(seed=5)
    there = batch["labels"][:, 1:] >= 0
    logits = plain(input_ids=batch["input_ids"]).logits[:, :-1][there]
    aims = other(input_ids=batch["input_ids"]).logits[:, :-1][there].detach()
    hard = F.cross_entropy(logits, batch["labels"][:, 1:][there])
    soft = F.kl_div(
        (logits / 2).log_softmax(1), (aims / 2).log_softmax(1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(losses["loss_labels"], 0.7 * hard, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss_teacher"], 0.3 * 4 * soft, rtol=1e-4, atol=1e-5)
    (0.7 * hard + 0.3 * 4 * soft).backward()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=2e-3, atol=1e-5, msg=name)


def test_scores_are_those_of_the_texts(tmp_path: Path) -> None:
    metrics = ["exact_match", "token_f1", "rougeL", "answer_loss", "stops"]
    task = InstructionTask(name="i", path=str(tmp_path), metrics=metrics, system=SYSTEM)
    split = split_of()
    samples = task.features(Splits(split, split), "dev", tokenizer_of())
    tokenizer = tokenizer_of()
    texts = ["The sofa.", "a lamp", "lamp"]
    outputs = [Written(n < 2, 2.0, -1, tokenizer(text).input_ids).array() for n, text in enumerate(texts)]
    result = task.judge(outputs, samples, Splits(split, split), "dev")
    count = sum(len(tokenizer(answer).input_ids) + 1 for *_, answer in ROWS)
    # By hand: of "a lamp\nblue" the article goes, 1 of 2 words right; of "lamp lamp lamp" 1 of 3.
    assert result.scores == pytest.approx(
        {
            "exact_match": 100 / 3,
            "token_f1": 100 * (1 + 2 / 3 + 2 / 4) / 3,
            "rougeL": 100 * (2 / 3 + 4 / 5 + 2 / 4) / 3,
            "answer_loss": 6.0 / count,
            "stops": 200 / 3,
        }
    )
    assert [row["prediction"] for row in result.rows] == texts and result.facts["cut_predictions"] == 1


def test_bad_settings(tmp_path: Path) -> None:
    for bad, said in (
        ({"target_length": 1}, "2 or more"),
        ({"length": 20, "target_length": 16}, "no room"),
        ({"long_answers": "cut"}, "allowed are"),
        ({"score": "answer_loss"}, "larger where it is better"),
        ({"dev_examples": 0}, "at least 1"),
    ):
        with pytest.raises(LabError, match=said):
            InstructionTask(name="i", path=str(tmp_path), **bad)


def test_from_the_command_line_with_a_teacher_and_again(lab: Lab, tmp_path: Path) -> None:
    save(tmp_path / "big", layers=3)
    save(tmp_path / "small", layers=2)
    write_rows(tmp_path / "rows")
    words = [
        "finetune", "source=small", "task=instructions", "task.path=rows", "task.length=160", "task.target_length=16",
        "task.system=Answer.", "tune.lr=1e-2", "tune.batch_size=8", "scale.epochs=2", "tune.teacher=big", "logger=none",
        "adapter=lora", "impl.threads=1", "trainer.accelerator=cpu", "teacher=path", "teacher.path=big",
    ]  # fmt: skip
    done = lab.run(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "rougeL" in done.out and "stops" in done.out
    records = {
        json.loads(file.read_text())["names"]["source"]: file.parent
        for file in (tmp_path / "runs" / "finetune").glob("*/result.json")
    }
    assert set(records) == {"small", "big"} or len(records) == 2
    again = lab.run(*words, cwd=tmp_path)
    assert again.code == 0 and again.out == done.out
