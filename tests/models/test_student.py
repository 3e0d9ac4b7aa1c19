"""The student's shape, its errors, and how its weights start."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig

from minilm_lab.errors import LabError
from minilm_lab.models.families import FAMILIES as KINDS
from minilm_lab.models.families import positions_of
from minilm_lab.models.self_check import self_check
from minilm_lab.models.student import Initialisation, Student, build_student
from minilm_lab.models.student_weights import principal_directions
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher

from .helpers import FAMILIES, NARROW, batch, body_of, config_of, layers_of, saved, tokenizer_of

BASE = BertConfig()  # 12 layers, hidden size 768, 12 heads, FFN 3072


def student(**settings: Any) -> Student:
    init = Initialisation(**settings.pop("init", {}))
    return Student(name="s", init=init, **settings)


@pytest.mark.parametrize(
    "absolute, ratio",
    [
        ({"layers": 6, "hidden_size": 384}, {"depth_ratio": 0.5, "width_ratio": 0.5}),
        ({"layers": 4, "hidden_size": 768}, {"depth_ratio": 1 / 3, "width_ratio": 1.0}),
        (
            {"layers": 12, "hidden_size": 384},
            {"layers": 12, "width_ratio": 0.5, "ffn_size": 1536, "heads": 12},
        ),
        ({"layers": 1, "hidden_size": 768}, {"depth_ratio": 0.01, "hidden_size": 768}),
    ],
)
def test_ratios_and_absolute_shapes_are_the_same_student(absolute: dict, ratio: dict) -> None:
    assert student(**absolute).identity(BASE) == student(**ratio).identity(BASE)
    assert Student("a", **absolute).identity(BASE) == Student("b", **absolute).identity(BASE)


def test_shape_by_hand() -> None:
    assert student(depth_ratio=0.5, width_ratio=0.5).shape(BASE) == {
        "layers": 6,
        "hidden_size": 384,
        "heads": 12,
        "ffn_size": 1536,
        "dropout": 0.1,
    }


@pytest.mark.parametrize(
    "changes",
    [{"layers": 5}, {"hidden_size": 192}, {"heads": 6}, {"ffn_size": 100}, {"dropout": 0.0}],
    ids=str,
)
def test_whatever_changes_a_student_changes_its_identity(changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {"layers": 6, "hidden_size": 384}
    assert student(**base | changes).identity(BASE) != student(**base).identity(BASE)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden_size": 384}, r"one of student\.layers and student\.depth_ratio \(got none\)"),
        ({"layers": 6, "depth_ratio": 0.5, "hidden_size": 384}, r"one of student\.layers and .*depth_ratio"),
        ({"layers": 6}, r"one of student\.hidden_size and student\.width_ratio \(got none\)"),
        ({"layers": 0, "hidden_size": 384}, r"student\.layers=0 must be more than 0"),
        ({"layers": 6, "width_ratio": -0.5}, r"student\.width_ratio=-0\.5 must be more than 0"),
        ({"layers": 6, "width_ratio": float("nan")}, r"student\.width_ratio=nan must be more than 0"),
        ({"layers": 6, "hidden_size": 384, "dropout": 1.0}, r"student\.dropout=1\.0 must be in \[0, 1\)"),
        ({"layers": 6, "hidden_size": 384, "heads": 0}, r"student\.heads=0 must be at least 1"),
        ({"layers": 6, "hidden_size": 384, "heads": -2}, r"student\.heads=-2 must be at least 1"),
        ({"layers": 6, "hidden_size": 384, "ffn_size": 0}, r"student\.ffn_size=0 must be at least 1"),
    ],
)
def test_impossible_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        student(**settings)


def test_impossible_initialisations() -> None:
    with pytest.raises(
        LabError, match=r"student\.init\.layers=middle: allowed are random, first, last, uniform"
    ):
        Initialisation(layers="middle")
    with pytest.raises(
        LabError, match=r"student\.init\.embeddings=copied: allowed are random, teacher, projected"
    ):
        Initialisation(embeddings="copied")


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"hidden_size": 384, "heads": 7},
            r"student\.heads=7 does not divide student\.hidden_size=384; these do: \[1, 2, 3, 4, 6, 8, 12",
        ),
        ({"width_ratio": 0.3}, r"student\.heads=12 does not divide student\.hidden_size=230; .*\[1, 2, 5,"),
        ({"width_ratio": 1e-6}, r"student\.heads=12 does not divide student\.hidden_size=1; .*\[1\]"),
        (
            {"hidden_size": 384, "init": {"layers": "first"}},
            r"init\.layers=first .*hidden size 768 \(student: 384\).*init\.layers=random",
        ),
        (
            {"hidden_size": 384, "init": {"embeddings": "teacher"}},
            r"init\.embeddings=teacher .*hidden size 768 \(student: 384\).*init\.embeddings=projected",
        ),
        (
            {"hidden_size": 768, "heads": 8, "init": {"layers": "last"}},
            r"init\.layers=last .*teacher's heads 12 \(student\.heads: 8\).*init\.layers=random",
        ),
        (
            {"hidden_size": 768, "ffn_size": 1000, "init": {"layers": "uniform"}},
            r"init\.layers=uniform .*ffn_size 3072 \(student\.ffn_size: 1000\).*init\.layers=random",
        ),
    ],
)
def test_shapes_that_do_not_fit_the_teacher(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        student(layers=6, **settings).shape(BASE)


@pytest.mark.parametrize(
    "layers, depth, distilled, expected",
    [
        ("random", 6, 12, None),
        ("first", 3, 12, [1, 2, 3]),
        ("last", 3, 12, [10, 11, 12]),
        ("last", 3, 10, [8, 9, 10]),
        ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]),
        ("uniform", 4, 12, [3, 6, 9, 12]),
        ("uniform", 12, 12, list(range(1, 13))),
        ("uniform", 1, 12, [12]),
        ("uniform", 5, 21, [4, 8, 13, 17, 21]),
    ],
)
def test_copied_layers(layers: str, depth: int, distilled: int, expected: list[int] | None) -> None:
    which = student(layers=depth, hidden_size=768, init={"layers": layers})
    assert which.copied_layers(depth, distilled) == expected


def test_uniform_names_every_layer_once() -> None:
    for distilled in range(1, 49):
        for depth in range(1, distilled + 1):
            which = student(layers=depth, hidden_size=768, init={"layers": "uniform"})
            found = which.copied_layers(depth, distilled)
            assert found == sorted(set(found)) and found[0] >= 1 and found[-1] == distilled


def test_too_deep_to_copy() -> None:
    which = student(layers=6, hidden_size=768, init={"layers": "last"})
    with pytest.raises(LabError, match=r"init\.layers=last: a student of 6 layers .*the 5 layers.*=random"):
        which.copied_layers(6, 5)


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


def test_ratios_are_of_the_whole_teacher(tmp_path) -> None:
    """A teacher that is loaded up to its distilled layer only has a configuration cut to that."""
    teacher = Teacher(name="t", path=str(saved(tmp_path / "t", num_hidden_layers=6)), layer=4)
    whole = teacher.config(tmp_path)
    half = student(depth_ratio=0.5, width_ratio=1.0)
    built = build_student(half, teacher.body(tmp_path, layers=4), 4, 0, whole)
    assert built.config.num_hidden_layers == len(built.encoder.layer) == half.shape(whole)["layers"] == 3


def test_the_teachers_config_is_left_alone() -> None:
    config = config_of("bert")
    before = config.to_dict()
    student(layers=1, hidden_size=12).config(config)
    assert config.to_dict() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_student_runs(family: str) -> None:
    teacher, width = body_of(family), NARROW[family]
    built = build_student(student(layers=2, hidden_size=width), teacher, 3, seed=0)
    ids = torch.full((2, 7), 9)
    assert built(input_ids=ids).last_hidden_state.shape == (2, 7, width)
    assert re.fullmatch(r"\w*", built.config._name_or_path)
    view = Tapped(built, Needs(projections=frozenset({2}), scores=frozenset({1})))
    self_check(view, 100)


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


def test_the_kinds_of_layers_follow_the_layers_they_come_from() -> None:
    """ModernBERT: layers 1, 4, 7, … see all tokens, the others a window."""
    teacher = AutoConfig.for_model("modernbert")  # 22 layers
    full = [n for n, kind in enumerate(teacher.layer_types, 1) if kind == "full_attention"]
    assert full == [1, 4, 7, 10, 13, 16, 19, 22]
    for layers, init, expected in (
        (11, "random", [4, 10, 16, 22]),  # every second
        (11, "first", [1, 4, 7, 10]),
        (8, "last", [16, 19, 22]),
        (1, "random", [22]),
    ):
        which = student(layers=layers, hidden_size=768, ffn_size=1152, init={"layers": init})
        found = which.config(teacher).layer_types
        come_from = which.copied_layers(layers, 22) or [round((i + 1) * 22 / layers) for i in range(layers)]
        assert [come_from[i] for i, kind in enumerate(found) if kind == "full_attention"] == expected
        assert len(found) == layers


def test_shapes_of_gated_and_grouped_models() -> None:
    """By hand: Llama-like with 12 heads of 64 that share 4, FFN 2048; Qwen3's heads are wider than hidden / heads."""
    shared = {"num_hidden_layers": 4, "hidden_size": 768, "num_attention_heads": 12, "num_key_value_heads": 4}
    llama = AutoConfig.for_model("llama", **shared, intermediate_size=2048)
    config = student(depth_ratio=0.5, width_ratio=0.5).config(llama)
    assert (config.intermediate_size, config.num_key_value_heads, config.head_dim) == (1024, 4, 32)
    assert student(layers=2, hidden_size=384, heads=6).config(llama).num_key_value_heads == 2
    qwen = AutoConfig.for_model("qwen3", **shared, head_dim=128, intermediate_size=3072)
    config = student(depth_ratio=0.5, width_ratio=0.5).config(qwen)
    assert (config.head_dim, config.num_key_value_heads, len(config.layer_types)) == (64, 4, 2)
    assert student(layers=1, width_ratio=1.0).config(qwen).head_dim == 128


@pytest.mark.parametrize(
    "teacher, settings, message",
    [
        (("llama", {"num_key_value_heads": 2}), {"heads": 3}, r"heads=3 cannot share .* 4 heads share 2"),
        (("llama", {}), {"hidden_size": 12}, r"heads of size 3; rotary .* even"),
        (("qwen3", {"head_dim": 10}), {"hidden_size": 16}, r"no whole head .*4 heads of 10, hidden size 24"),
        (("bert", {}), {"family": "qwen2"}, r"student\.family=qwen2: .*student\.family=qwen3"),
        (("bert", {}), {"family": "brt"}, r"student\.family=brt .*Did you mean 'bert'"),
        (("bert", {}), {"family": "mpnet"}, r"student\.family=mpnet .*pads with id 0"),
        (
            ("bert", {}),
            {"family": "roberta", "init": {"layers": "first"}},
            r"init\.layers=first .*'bert' model.*student\.family=roberta.*init\.layers=random",
        ),
        (
            ("albert", {}),
            {"init": {"untrained": "random"}},
            r"init\.untrained=random: all layers of 'albert' models share",
        ),
        (
            ("bert", {}),
            {"hidden_size": 12, "init": {"untrained": "teacher"}},
            r"init\.untrained=teacher .*hidden size 24 \(student: 12\).*init\.untrained=random",
        ),
        (
            ("bert", {}),
            {"ffn_size": 48, "init": {"untrained": "teacher"}},
            r"init\.untrained=teacher .*ffn_size 96 \(student\.ffn_size: 48\)",
        ),
        (
            ("bert", {}),
            {"hidden_size": 48, "init": {"embeddings": "projected"}},
            r"init\.embeddings=projected .*width 24; .*hidden size 48 is wider",
        ),
    ],
)
def test_students_that_cannot_be(teacher: tuple[str, dict], settings: dict[str, Any], message: str) -> None:
    name, changes = teacher
    with pytest.raises(LabError, match=message):
        student(**{"layers": 2, "hidden_size": 24, **settings}).shape(config_of(name, **changes))


def test_impossible_untrained() -> None:
    with pytest.raises(LabError, match=r"init\.untrained=copied: allowed are null, random, teacher"):
        Initialisation(untrained="copied")


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


def test_identity_of_what_is_not_usual() -> None:
    usual = student(layers=6, width_ratio=1.0).identity(BASE)
    assert usual["init"] == {"layers": "random", "embeddings": "random"} and "family" not in usual

    def told(**settings: Any) -> dict[str, Any]:
        return student(layers=6, width_ratio=1.0, **settings).identity(BASE)

    assert told(family="bert") == told(init={"untrained": "random"}) == usual
    copied = told(init={"layers": "last", "embeddings": "teacher"})
    assert told(init={"layers": "last", "embeddings": "projected", "untrained": "teacher"}) == copied
    assert told(init={"untrained": "teacher"})["init"]["untrained"] == "teacher"
    assert told(init={"layers": "last", "untrained": "random"})["init"]["untrained"] == "random"
    assert told(family="roberta")["family"] == "roberta"
    narrow = student(layers=6, hidden_size=384, init={"embeddings": "projected"}).identity(BASE)
    assert narrow["init"]["embeddings"] == "projected"


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


OTHERS = [kind for kind in KINDS if kind not in ("bert", "mpnet", "qwen2")]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("embeddings", ["random", "teacher", "projected"])
def test_a_student_of_another_family(kind: str, embeddings: str, tmp_path: Path) -> None:
    teacher = body_of("bert")
    width = 24 if embeddings == "teacher" else 12
    which = student(layers=2, hidden_size=width, family=kind, init={"embeddings": embeddings})
    if kind in ("llama", "qwen2", "qwen3") and width == 12:
        which = dataclasses.replace(which, heads=2)
    built = build_student(which, teacher, 3, seed=0)
    assert (
        built.config.model_type == kind and positions_of(built.config) == positions_of(teacher.config) == 64
    )
    assert built.config.vocab_size == 100 and built.config.pad_token_id == 0
    ids, mask = batch(teacher, "mixed")
    view = Tapped(built, Needs(projections=frozenset({2}), scores=frozenset({1}), hidden=frozenset({0, 1})))
    assert view(ids, mask).projections[2].query.shape == (3, 11, width)
    self_check(view, 100)
    longest = torch.full((1, 64), 9)
    assert built(input_ids=longest).last_hidden_state.shape == (1, 64, width)
    words, mine = (body.get_input_embeddings().weight for body in (teacher, built))
    if mine.shape == words.shape:
        assert torch.equal(mine, words) == (embeddings != "random")
    built.save_pretrained(tmp_path)
    tokenizer_of("bert").save_pretrained(tmp_path)
    text = "w3 w4"
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer_of("bert")(text).input_ids
    again = AutoModel.from_pretrained(tmp_path)
    assert _same(again.state_dict(), built.state_dict())
    with torch.no_grad():
        assert torch.equal(
            again(input_ids=longest).last_hidden_state, built.eval()(input_ids=longest).last_hidden_state
        )
