"""Layers chosen on text, against models that the library builds of every choice and its own hidden states."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel, LlamaConfig, LlamaModel

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.models import layer_choice
from minilm_lab.models.layer_choice import choose_layers

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 5,
    "intermediate_size": 32,
}


def texts() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (2, 4, 9), generator=draw)
    lengths = torch.tensor([[9, 5, 7, 2], [3, 9, 4, 6]])
    return [(i, torch.arange(9) < n[:, None]) for i, n in zip(ids, lengths, strict=True)]


def model(kind: str) -> BertModel | LlamaModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "bert":
            return BertModel(BertConfig(**SHAPE, initializer_range=0.3))
        return LlamaModel(LlamaConfig(**SHAPE, initializer_range=0.3, use_cache=False))


def layers_of(body: BertModel | LlamaModel) -> nn.ModuleList:
    return body.encoder.layer if isinstance(body, BertModel) else body.layers


def vectors(body: BertModel | LlamaModel) -> Tensor:
    pooled = []
    for ids, mask in texts():
        with torch.no_grad():
            states = body.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        pooled += [row[real].double().mean(0) for row, real in zip(states, mask, strict=True)]
    return torch.stack(pooled)


def plain_scores(kind: str, depth: int) -> dict[tuple[int, ...], float]:
    """Mean cosine of each choice, by a model of so many layers with their weights."""
    whole = model(kind)
    target = vectors(whole)
    scores = {}
    for choice in combinations(range(1, 6), depth):
        small = model(kind)
        kept = nn.ModuleList([layers_of(small)[n - 1] for n in choice])
        if isinstance(small, BertModel):
            small.encoder.layer = kept
        else:
            small.layers = kept
        small.config.num_hidden_layers = depth
        scores[choice] = float(torch.cosine_similarity(vectors(small), target).mean())
    return scores


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_search_finds_the_best_of_all_choices(kind: str) -> None:
    scores = plain_scores(kind, 3)
    choice = choose_layers("search", model(kind), 3, texts())
    assert choice.layers == list(max(scores, key=scores.__getitem__))
    assert len(choice.scores) == 10
    for layers, score in choice.scores.items():
        assert score == pytest.approx(scores[tuple(map(int, layers.split(", ")))], abs=1e-5)


def test_of_many_choices_layers_are_taken_away_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_choice, "EXHAUSTIVE", 3)
    four, three = plain_scores("bert", 4), plain_scores("bert", 3)
    first = max(four, key=four.__getitem__)
    second = max(combinations(first, 3), key=three.__getitem__)
    assert choose_layers("search", model("bert"), 3, texts()).layers == list(second)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_influence_is_what_a_block_changes(kind: str) -> None:
    body = model(kind).eval()
    cosines: list[list[float]] = [[] for _ in range(5)]
    outputs: list[Tensor] = []
    for block in layers_of(body):
        block.register_forward_hook(lambda _, __, out: outputs.append(out))
    for ids, mask in texts():
        outputs.clear()
        with torch.no_grad():
            first = body(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states[
                0
            ]
        states = [first, *(out[0] if isinstance(out, tuple) else out for out in outputs)]
        for n, (before, after) in enumerate(pairwise(states)):
            for row in range(len(ids)):
                for place in range(int(mask[row].sum())):
                    cosines[n].append(
                        float(torch.cosine_similarity(before[row, place], after[row, place], dim=0))
                    )
    expected = [1 - sum(values) / len(values) for values in cosines]
    choice = choose_layers("influence", body, 3, texts())
    assert [choice.scores[str(n)] for n in range(1, 6)] == pytest.approx(expected, abs=1e-5)
    assert choice.layers == sorted(sorted(range(1, 6), key=lambda n: -expected[n - 1])[:3])


@pytest.mark.parametrize("rule", ["search", "influence"])
def test_student_and_control_start_from_the_chosen_layers(
    rule: str, tiny: list[str], tiny_teacher: Path
) -> None:
    words = [*tiny, f"student.init.layers={rule}", "student.init.embeddings=teacher"]
    control = [word for word in words if not word.startswith("objective")]
    runs = [plan(compose_command("distill", [*given])) for given in (words, [*control, "objective=none"])]
    chosen = []
    for run in runs:
        run.make()
        chosen.append(json.loads((run.folder.path / "result.json").read_text())["layers_copied"]["layers"])
    assert chosen[0] == chosen[1]
    start = load_file(runs[1].folder.path / "student" / "model.safetensors")
    teacher = AutoModel.from_pretrained(tiny_teacher).state_dict()
    for mine, theirs in enumerate(chosen[0]):
        name = "encoder.layer.{}.output.dense.weight"
        assert torch.equal(start[name.format(mine)], teacher[name.format(theirs - 1)])
    assert f"chosen: layers {', '.join(map(str, chosen[0]))}" in (
        runs[0].folder.path / "student" / "README.md"
    ).read_text(encoding="utf-8")


def test_a_list_of_layers(tiny: list[str], tiny_teacher: Path) -> None:
    run = plan(compose_command("distill", [*tiny, "teacher.layer=2", "student.init.layers=[1,4]"]))
    run.make()
    start = load_file(run.folder.path / "student" / "model.safetensors")
    teacher = AutoModel.from_pretrained(tiny_teacher).state_dict()
    name = "encoder.layer.{}.output.LayerNorm.bias"  # of the last block, which relations do not train
    assert torch.equal(start[name.format(1)], teacher[name.format(3)])
    other = plan(compose_command("distill", [*tiny, "teacher.layer=2", "student.init.layers=[2,4]"]))
    assert other.identity != run.identity


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[1,2,3]", "needs 2 of the teacher's 1..4"),
        ("[1,5]", "needs 2 of the teacher's 1..4"),
        ("[3,1]", "ascending"),
        ("[1,b]", "ascending"),
        ("serch", "allowed are random, first"),
    ],
)
def test_what_cannot_be_a_choice_is_refused(layers: str, message: str, tiny: list[str]) -> None:
    with pytest.raises(LabError, match=message):
        plan(compose_command("distill", [*tiny, f"student.init.layers={layers}"]))
