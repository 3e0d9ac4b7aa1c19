"""How a student's weights start: random, copied, projected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from minilm_lab.models.student import Initialisation, Student, build_student
from minilm_lab.models.student_weights import principal_directions

from .helpers import FAMILIES, NARROW, body_of, layers_of


def student(**settings: Any) -> Student:
    init = Initialisation(**settings.pop("init", {}))
    return Student(name="s", init=init, **settings)


def _layers_of(body) -> list[dict[str, torch.Tensor]]:
    return [layer.state_dict() for layer in layers_of(body)]


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("albert")])
@pytest.mark.parametrize("which, copied", [("first", [0, 1]), ("last", [1, 2]), ("uniform", [1, 2])])
def test_layers_are_copied_exactly(family: str, which: str, copied: list[int]) -> None:
    teacher = body_of(family)
    built = build_student(student(layers=2, width_ratio=1.0, init={"layers": which}), teacher, 3, seed=0)
    theirs = _layers_of(teacher)
    for mine, number in zip(_layers_of(built), copied, strict=True):
        for i, other in enumerate(theirs):
            # The first layer of ModernBERT has no norm before its attention.
            kept = {name: value for name, value in other.items() if name in mine or family != "modernbert"}
            assert _same(mine, kept) == (i == number)
    words = [body.get_input_embeddings().weight for body in (built, teacher)]
    beside = [
        name
        for name, _ in teacher.named_parameters()
        if name.startswith(
            ("encoder.rel", "encoder.LayerNorm", "encoder.conv", "ln_f", "final_norm", "norm.")
        )
    ]
    assert bool(beside) == family.startswith(("mpnet", "deberta", "gpt2", "modernbert", "llama", "qwen"))
    for name in beside:
        assert torch.equal(built.get_parameter(name), teacher.get_parameter(name)), name
    assert not torch.equal(*words)
    poolers = [name for name, _ in teacher.named_parameters() if name.startswith("pooler.")]
    for name in poolers:
        assert torch.equal(built.get_parameter(name), teacher.get_parameter(name)), name
    assert poolers or family != "bert"


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_copied_exactly(family: str) -> None:
    teacher = body_of(family)
    built = build_student(
        student(layers=2, width_ratio=1.0, init={"embeddings": "teacher"}), teacher, 3, seed=0
    )
    names = [
        name
        for name, _ in teacher.named_parameters()
        if name.startswith(("embeddings", "wte", "wpe", "embed_tokens", "encoder.embedding_hidden"))
    ]
    assert names and any(
        p is teacher.get_input_embeddings().weight for p in map(teacher.get_parameter, names)
    )
    for name in names:  # ELECTRA's projection of narrow embeddings among them
        assert torch.equal(built.get_parameter(name), teacher.get_parameter(name)), name
    assert not any(_same(mine, other) for mine in _layers_of(built) for other in _layers_of(teacher))


def test_a_copy_shares_no_memory_with_the_teacher() -> None:
    teacher = body_of("bert")
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    built = build_student(
        student(layers=3, width_ratio=1.0, init={"layers": "first", "embeddings": "teacher"}), teacher, 3, 0
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, before[name]) for name, p in teacher.named_parameters())


@pytest.mark.parametrize("init", [{}, {"layers": "last"}, {"embeddings": "teacher"}], ids=str)
@pytest.mark.parametrize("family", ["bert", "electra-narrow-embeddings", "mpnet"])
def test_the_seed_alone_decides_the_weights(family: str, init: dict[str, str]) -> None:
    teacher, which = body_of(family), student(layers=2, width_ratio=1.0, init=init)
    torch.manual_seed(1)
    first = build_student(which, teacher, 3, seed=5).state_dict()
    torch.manual_seed(2)
    torch.rand(17)
    state = torch.get_rng_state()
    second = build_student(which, teacher, 3, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(first, second)
    assert not _same(first, build_student(which, teacher, 3, seed=6).state_dict())


def test_no_gpu_is_reseeded(monkeypatch) -> None:
    """torch.manual_seed would, and fork_rng does not put that back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _seed: pytest.fail("reseeded"))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda _seed: pytest.fail("reseeded"))
    build_student(student(layers=1, width_ratio=1.0), body_of("bert"), 3, seed=5)


def test_no_weight_is_the_same_in_student_and_teacher_by_chance() -> None:
    """A student drawn from seed 0 must not be a teacher drawn from seed 0."""
    built = build_student(student(layers=2, width_ratio=0.5), body_of("bert"), 3, seed=0)
    assert built.config.hidden_size == 12 and built.config.intermediate_size == 48
    assert built.training and all(p.dtype == torch.float32 and p.requires_grad for p in built.parameters())


@pytest.mark.parametrize("dropout, expected", [(None, 0.25), (0.0, 0.0), (0.4, 0.4)])
def test_dropout_in_training_and_in_the_saved_config(dropout: float | None, expected: float) -> None:
    teacher = body_of("bert", hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.25)
    built = build_student(student(layers=2, width_ratio=1.0, dropout=dropout), teacher, 3, seed=0)
    found = [module.p for module in built.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(found) == 1 + 2 * 3 and set(found) == {expected}
    assert (built.config.hidden_dropout_prob, built.config.attention_probs_dropout_prob) == (0.25, 0.25)


@pytest.mark.parametrize("groups, expected", [(1, 1), (2, 2), (3, 2)])
def test_albert_shares_its_layers(groups: int, expected: int) -> None:
    teacher = body_of("albert", num_hidden_groups=groups)
    built = build_student(student(layers=2, width_ratio=1.0, init={"layers": "last"}), teacher, 3, seed=0)
    mine, theirs = built.encoder.albert_layer_groups, teacher.encoder.albert_layer_groups
    assert (built.config.num_hidden_groups, len(mine)) == (expected, expected)
    # Layers 2 and 3 of the teacher: its groups 0 and 1 of two, 1 and 2 of three.
    last = {1: [0], 2: [0, 1], 3: [1, 2]}[groups]
    assert all(_same(m.state_dict(), theirs[g].state_dict()) for m, g in zip(mine, last, strict=True))
    map_in = built.encoder.embedding_hidden_mapping_in.weight
    assert not torch.equal(map_in, teacher.encoder.embedding_hidden_mapping_in.weight)


OUTPUT = {
    "bert": ("attention.output", "intermediate", "output"),
    "distilbert": ("attention.out_lin", "sa_layer_norm", "ffn", "output_layer_norm"),
    "mpnet": ("attention.attn.o", "attention.LayerNorm", "intermediate", "output"),
    "modernbert": ("attn.Wo", "mlp_norm", "mlp"),
    "gpt2": ("attn.c_proj", "ln_2", "mlp"),
    "llama": ("self_attn.o_proj", "post_attention_layernorm", "mlp"),
}


@pytest.mark.parametrize("family", OUTPUT)
@pytest.mark.parametrize("layers", ["random", "last"])
@pytest.mark.parametrize("untrained", [None, "random", "teacher"])
def test_what_relations_do_not_train(family: str, layers: str, untrained: str | None) -> None:
    teacher = body_of(family)
    ffn = 36 if family == "modernbert" else 96
    settings: dict[str, Any] = {"layers": 2, "width_ratio": 1.0, "ffn_size": ffn}
    built = build_student(
        student(**settings, init={"layers": layers, "untrained": untrained}), teacher, 3, seed=4
    )
    fresh = build_student(student(**settings), teacher, 3, seed=4)
    theirs, start = layers_of(teacher)[2].state_dict(), layers_of(fresh)[1].state_dict()
    for name, value in layers_of(built)[1].state_dict().items():
        outside = name.startswith(tuple(f"{path}." for path in OUTPUT[family]))
        copied = layers == "last"
        if outside and untrained is not None:
            copied = untrained == "teacher"
        assert torch.equal(value, theirs[name] if copied else start[name]), name
    first = layers_of(built)[0].state_dict()
    other = layers_of(teacher)[1] if layers == "last" else layers_of(fresh)[0]
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in first.items())


@pytest.mark.parametrize("family", ["bert", "mpnet", "gpt2", "deberta-v3", "modernbert", "llama", "electra"])
def test_projected_embeddings_keep_the_most_they_can(family: str) -> None:
    """Against numpy's singular values: no other projection of that width keeps more of the word embeddings."""
    teacher, width = body_of(family), NARROW[family]
    which = student(layers=2, hidden_size=width, init={"embeddings": "projected"})
    built = build_student(which, teacher, 3, seed=0)
    words = teacher.get_input_embeddings().weight.detach().double().numpy()
    mine = built.get_input_embeddings().weight.detach().double().numpy()
    kept = np.linalg.svd(words, compute_uv=False)[:width]
    np.testing.assert_allclose(np.linalg.svd(mine, compute_uv=False), kept, rtol=1e-5)
    # Inner products of words are those of the best approximation of that rank.
    left, singular, right = np.linalg.svd(words, full_matrices=False)
    best = left[:, :width] * singular[:width] @ right[:width]
    np.testing.assert_allclose(mine @ mine.T, best @ best.T, atol=1e-5)
    # Positions and types on the same directions.
    directions = np.linalg.pinv(words) @ (left[:, :width] * singular[:width])
    signs = np.sign((directions * (np.linalg.pinv(words) @ mine)).sum(0))
    for name, module in teacher.named_modules():
        if isinstance(module, torch.nn.Embedding) and "rel" not in name:
            found = built.get_submodule(name).weight.detach().double().numpy()
            expected = module.weight.detach().double().numpy() @ directions * signs
            np.testing.assert_allclose(found, expected, atol=1e-4)
    again = build_student(which, teacher, 3, seed=0)
    assert torch.equal(again.get_input_embeddings().weight, built.get_input_embeddings().weight)
    norms = [m for n, m in built.named_modules() if "Norm" in type(m).__name__]
    assert all(torch.equal(m.weight, torch.ones_like(m.weight)) for m in norms)


def test_the_sign_of_a_direction_is_fixed() -> None:
    matrix = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    directions = principal_directions(matrix, 3)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    torch.testing.assert_close(directions.T @ directions, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("family", ["bert", "electra-narrow-embeddings", "gpt2", "albert"])
def test_projected_at_the_teachers_width_is_a_copy(family: str) -> None:
    teacher = body_of(family)
    copied, projected = (
        build_student(student(layers=2, width_ratio=1.0, init={"embeddings": how}), teacher, 3, seed=0)
        for how in ("teacher", "projected")
    )
    assert _same(copied.state_dict(), projected.state_dict())


@pytest.mark.parametrize("family", ["electra-narrow-embeddings", "albert"])
def test_embeddings_of_their_own_width_are_copied(family: str) -> None:
    """Width 16 under both hidden sizes: what a word is stays as it was, the map from it is new."""
    teacher = body_of(family, hidden_size=36, embedding_size=12, intermediate_size=144)
    built = build_student(
        student(layers=2, hidden_size=24, init={"embeddings": "projected"}), teacher, 3, seed=0
    )
    assert built.config.embedding_size == 12
    assert _same(built.embeddings.state_dict(), teacher.embeddings.state_dict())


@pytest.mark.parametrize("dropout", [None, 0.3])
def test_dropout_that_is_a_number(dropout: float | None) -> None:
    """Llama and ModernBERT hold it outside of any Dropout module."""
    built = build_student(student(layers=2, hidden_size=16, dropout=dropout), body_of("llama"), 3, seed=0)
    assert {layer.self_attn.attention_dropout for layer in built.layers} == {dropout or 0.0}
    ids = torch.full((1, 5), 9)
    same = torch.equal(built(input_ids=ids).last_hidden_state, built(input_ids=ids).last_hidden_state)
    assert same == (dropout is None)
    assert built.config.attention_dropout == 0.0
