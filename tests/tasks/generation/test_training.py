"""The head learns four texts by heart; the command line goes from a TSV file to scores and texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.helpers import WORDS, wordpiece
from lab import Lab
from torch.nn import functional as F

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.data.loading import eval_batches
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.generation import check, scores
from minilm_lab.tasks.generation.features import featurize
from minilm_lab.tasks.generation.model import Symbols, load
from minilm_lab.tasks.generation.module import SequenceToSequence
from tasks.helpers import make_split

from .helpers import batch, symbols, tiny

#: The source does not say how the target goes on: it must be read. All four begin alike.
TEXTS = {
    "the cat sat on a mat": "two dogs running over green fields",
    "rain fell softly again": "two dogs sat on a mat",
    "green fields and two dogs": "two cat running again and again",
    "a cat saw the mat": "two dogs running over the mat",
}


def settings_of(**settings: object) -> dict[str, Any]:
    """Without smoothing, greedy."""
    plain = {"target_length": 16, "label_smoothing": 0.0, "beams": 1, "length_penalty": 0.0, "no_repeat": 0}
    return {**plain, **settings}


def module_of(model: Any, **settings: object) -> SequenceToSequence:
    """A module on a tiny model."""
    module = SequenceToSequence(model, wordpiece(), **settings_of(**settings))
    module.symbols = symbols(model)
    return module


def loaded(where: Path) -> Any:
    """The masked-LM model of a folder."""
    return load(Backbone(str(where), None, wordpiece()))


def examples():
    """The four texts."""
    pairs: list[tuple[str, str | None]] = [(source, None) for source in TEXTS]
    targets = list(TEXTS.values())
    return make_split(pairs, targets, [str(n) for n in range(4)], [[target] for target in targets])


def test_the_loss_is_the_mean_over_target_tokens_of_the_smoothed_cross_entropy() -> None:
    model = tiny()
    ids, real, target = batch([(5, 4), (3, 2)])
    own = module_of(model, label_smoothing=0.1)
    labels = torch.where(target, ids, -100)
    losses = own.losses({"input_ids": ids, "attention_mask": real.long(), "labels": labels})
    (loss,) = losses.values()
    _, logits = check.forward(model, symbols(model), ids, real, target)
    terms = []
    for row, (source, count) in enumerate([(5, 4), (3, 2)]):
        for number in range(count):
            log_p = logits[row, number].log_softmax(dim=-1)
            terms.append(-0.9 * log_p[ids[row, source + number]] - 0.1 * log_p.mean())
    torch.testing.assert_close(loss, torch.stack(terms).mean(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beams", [1, 4])
def test_four_examples_are_learned_by_heart(tiny_teacher: Path, beams: int) -> None:
    torch.manual_seed(0)
    tokenizer = wordpiece()
    backbone = Backbone(str(tiny_teacher), None, tokenizer)
    own = SequenceToSequence.load(
        backbone, **settings_of(beams=beams, length_penalty=1.0)
    ).eval()  # no dropout
    settings = {"source_length": 24, "target_length": 16}
    features = featurize(examples(), tokenizer, **settings, training=True)
    learned = features.batch(np.arange(4))
    optimizer = torch.optim.AdamW(own.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (loss,) = own.losses(learned).values()
        loss.backward()
        optimizer.step()
        if loss < 0.02:
            break
    # To be generated from sources alone, in batches of another order than the data's.
    asked = featurize(examples(), tokenizer, **settings, training=False)
    found: dict[int, list[int]] = {}
    with torch.no_grad():
        for part in eval_batches(asked, 3):
            for row, ids in zip(part["index"].tolist(), own.predict(part), strict=True):
                found[row] = ids.tolist()
    expected = [tokenizer(target, add_special_tokens=False)["input_ids"] for target in TEXTS.values()]
    assert [found[row] for row in range(4)] == expected


def test_reading_in_small_parts_is_reading_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    own = module_of(model, beams=3)
    ids, real, _ = batch([(9, 0), (5, 0), (2, 0), (7, 0)])
    given = {"input_ids": ids, "attention_mask": real.long(), "labels": torch.full_like(ids, -100)}
    with torch.no_grad():
        whole = own.predict(given)
        monkeypatch.setattr("minilm_lab.tasks.generation.module.CACHED_TOKENS", 1)
        parts = own.predict(given)
    assert [row.tolist() for row in whole] == [row.tolist() for row in parts] and len(whole) == 4
    # A reference in the batch is not read.
    behind = torch.cat([ids, torch.full((4, 3), 7)], dim=1)
    labels = torch.cat([given["labels"], torch.full((4, 3), 7)], dim=1)
    mask = torch.cat([real.long(), torch.ones(4, 3, dtype=torch.long)], dim=1)
    with torch.no_grad():
        again = own.predict({"input_ids": behind, "attention_mask": mask, "labels": labels})
    assert [row.tolist() for row in whole] == [row.tolist() for row in again]


def test_a_checkpoint_s_own_head_is_used_and_a_missing_one_is_drawn(
    tiny_teacher: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    drawn = loaded(tiny_teacher)
    drawn.save_pretrained(tmp_path)
    torch.manual_seed(2)
    kept, other = loaded(tmp_path), loaded(tiny_teacher)
    name = "cls.predictions.transform.dense.weight"
    assert torch.equal(kept.state_dict()[name], drawn.state_dict()[name])
    assert not torch.equal(other.state_dict()[name], drawn.state_dict()[name])
    # The output layer is the word embeddings.
    assert kept.cls.predictions.decoder.weight is kept.bert.embeddings.word_embeddings.weight


def test_what_is_masked_is_a_bool_where_the_fused_kernel_wants_it_and_numbers_for_the_plain_one() -> None:
    # The plain kernel adds its mask: booleans would hide nothing. Both must agree.
    model = tiny().float()
    ids, real, target = batch([(5, 4), (3, 2)])
    found = []
    for kernel in ("eager", "sdpa"):
        model.set_attn_implementation(kernel)
        with torch.no_grad():
            found.append(check.forward(model, symbols(model), ids, real, target)[1])
    filled = torch.tensor([[True] * 4, [True, True, False, False]])
    torch.testing.assert_close(found[0][filled], found[1][filled], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", ["mask_token", "sep_token", "pad_token"])
def test_a_tokenizer_without_a_needed_token_is_refused(missing: str) -> None:
    tokenizer = wordpiece()
    setattr(tokenizer, missing, None)
    named = {"pad_token": "no padding token"}.get(missing, f"no {missing}")
    with pytest.raises(LabError, match=named):
        Symbols.of(tokenizer)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A TSV file of 48 texts and what to make of them, two of them empty."""
    lines = ["source\ttarget"]
    for n in range(48):
        words = WORDS[n % len(WORDS) :] + WORDS[: n % len(WORDS)]
        lines.append(f"{' '.join(words[: 4 + n % 5])}\t{' '.join(words[2 : 4 + n % 3])}")
    lines[7], lines[9] = "the cat\t", "\tthe cat"
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def words(tiny: list[str], table: Path) -> list[str]:
    """A generation task on the table, with the tiny teacher as it is."""
    return [
        *tiny,
        "task=generation",
        "source=teacher",
        f"task.path={table}",
        "task.dev_fraction=0.25",
        "task.length=40",
        "task.target_length=10",
        "task.beams=2",
        "tune.batch_size=8",
        "tune.lr=1e-3",
        "scale.epochs=2",
    ]


def test_from_the_command_line_to_texts_and_scores(lab: Lab, words: list[str]) -> None:
    done = lab.run("finetune", *words)
    assert done.code == 0, done.err
    record = json.loads(Path(done.out.split("record: ")[1].strip()).read_text())
    folder = Path(done.out.split("record: ")[1].strip()).parent
    assert "2 of 48 examples" in done.err and "2 of 'train' with an empty text dropped" in record["data_note"]
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == record["examples"]["dev"] and record["examples"]["train"] + len(rows) == 46
    lines = (folder / "hypotheses.txt").read_text().splitlines()
    assert lines == [row["prediction"] for row in rows]
    assert (folder / "references.txt").read_text().splitlines() == [row["references"][0] for row in rows]
    # Scores are those of the saved texts, and each is defined.
    again = scores.score(list(record["scores"]), lines, [row["references"] for row in rows])
    assert record["scores"] == pytest.approx(again)
    assert set(record["definitions"]) == {"rouge1", "rouge2", "rougeL", "bleu4", "meteor"}
    # Judged once, at the end: generating after each epoch would take longer than the epochs.
    assert len(record["history"]) == 1 and record["selection"] == "epoch 2 of 2 (last)"


def test_choosing_the_best_epoch_judges_each(words: list[str]) -> None:
    ready = plan(compose_command("finetune", [*words, "tune.select=best", "task.score=rouge1"]))
    record = ready.make()
    assert len(record["history"]) == 2
    assert record["score"]["value"] == max(epoch["rouge1"] for epoch in record["history"])


def test_mixed_precision_generates_too(words: list[str]) -> None:
    record = plan(compose_command("finetune", [*words, "impl.precision=bf16", "scale.epochs=1"])).make()
    assert record["precision"] == "bf16-mixed" and np.isfinite(record["score"]["value"])


def test_smoothing_is_torch_s() -> None:
    # What the docstring of the loss says of it: the share is spread over all words, the right one included.
    logits, word = torch.randn(1, 9, dtype=torch.float64), torch.tensor([4])
    log_p = logits.log_softmax(dim=-1)[0]
    wanted = torch.full((9,), 0.2 / 9, dtype=torch.float64)
    wanted[4] += 0.8
    torch.testing.assert_close(F.cross_entropy(logits, word, label_smoothing=0.2), -(wanted * log_p).sum())
