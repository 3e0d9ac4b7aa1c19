"""Clusters and the shape of keys against scikit-learn and loops; the evaluator on real folders."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan as plan_distill
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge import geometry
from minilm_lab.studies.knowledge.clusters import k_means, kept_clusters, usual_number
from minilm_lab.studies.knowledge.key_space import KeySpace
from minilm_lab.studies.knowledge.keys import keys_of

from .conftest import save_causal


def points(count: int = 600, width: int = 8, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(9, width, generator=draw)
    return centres[torch.arange(count) % 9] + torch.randn(count, width, generator=draw)


def test_k_means_is_scikit_learns_from_the_same_start() -> None:
    vectors = points()
    start = vectors[:12].clone()
    ours = k_means(vectors, 12, 0, start=start, iterations=100)
    theirs = KMeans(12, init=start.numpy(), n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(
        vectors.numpy()
    )
    assert adjusted_rand_score(ours.labels.numpy(), theirs.labels_) == pytest.approx(1)
    assert ours.inertia * len(vectors) == pytest.approx(theirs.inertia_, rel=1e-4)


def test_k_means_repeats_and_starts_empty_clusters_anew() -> None:
    vectors = points()
    assert torch.equal(k_means(vectors, 30, 5).labels, k_means(vectors, 30, 5).labels)
    assert not torch.equal(k_means(vectors, 30, 5).labels, k_means(vectors, 30, 6).labels)
    start = torch.cat(
        [vectors[:4], vectors[:1] + 1000, vectors[:1] - 1000]
    )  # nobody is nearest to the last two
    assert len(k_means(vectors, 6, 0, start=start).labels.unique()) == 6
    with pytest.raises(LabError, match=r"evaluator.clusters=601 is more than the 600 keys"):
        k_means(vectors, 601, 0)


def test_clusters_are_remembered_by_content(tmp_path: Path) -> None:
    vectors = points()
    first = kept_clusters(vectors, 7, 0, tmp_path)
    (folder,) = (tmp_path / "clusters").iterdir()
    again = kept_clusters(vectors.clone(), 7, 0, tmp_path)
    assert torch.equal(first.labels, again.labels) and first.inertia == pytest.approx(again.inertia)
    kept_clusters(vectors + 1e-3, 7, 0, tmp_path)
    assert folder in (tmp_path / "clusters").iterdir() and len(list((tmp_path / "clusters").iterdir())) == 2


def test_the_number_of_clusters_is_that_of_the_published_ones() -> None:
    assert (usual_number(49_152), usual_number(50_304), usual_number(128_256)) == (512, 512, 1024)


def test_facts_against_loops() -> None:
    vectors = points(40, 5).double()
    facts = geometry.shape_facts(vectors, seed=0)
    rows = vectors.numpy()
    singular = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    share = singular / singular.sum()
    assert facts["effective_rank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert facts["participation"] == pytest.approx(1 / (share**2).sum())
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    pairs = [cosine(a, b) for a, b in itertools.combinations(rows, 2)]
    assert facts["mean_cosine"] == pytest.approx(100 * np.mean(pairs))
    counts = np.zeros(40)
    for i, row in enumerate(rows):
        near = sorted((j for j in range(40) if j != i), key=lambda j: -cosine(row, rows[j]))[:10]
        counts[near] += 1
    skew = ((counts - counts.mean()) ** 3).mean() / counts.std() ** 3
    assert facts["hubness"] == pytest.approx(skew)


def test_cka_is_blind_to_rotation_and_scale_and_sees_all_else() -> None:
    first = points(300, 6)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    assert geometry.cka(first, 3 * first @ turn + 2) == pytest.approx(1, abs=1e-6)
    gram = [x - x.mean(dim=0) for x in (first.double(), points(300, 4, seed=9).double())]
    a, b = (x @ x.T for x in gram)
    assert geometry.cka(*gram) == pytest.approx(float((a * b).sum() / a.norm() / b.norm()))
    assert geometry.shared_neighbours(first, 3 * first @ turn, seed=0) > 0.99
    assert geometry.shared_neighbours(first, torch.randn(300, 6), seed=0) < 0.2
    assert geometry.cosine_correlation(first, 3 * first @ turn, seed=0) == pytest.approx(1, abs=1e-3)


def test_agreement_is_over_different_seeds() -> None:
    ours = [k_means(points(), 9, seed).labels for seed in range(3)]
    pairs = [(a.numpy(), b.numpy()) for a, b in itertools.combinations(ours, 2)]
    expected = np.mean([adjusted_rand_score(*pair) for pair in pairs])
    assert geometry.agreement(ours)["ari"] == pytest.approx(expected)
    assert geometry.agreement(ours, ours)["ari"] == pytest.approx(expected), (
        "a space with itself: the ceiling"
    )
    nmi = np.mean([normalized_mutual_info_score(*pair) for pair in pairs])
    assert geometry.agreement(ours)["nmi"] == pytest.approx(nmi)


def test_special_reserved_and_padded_rows_are_no_keys(causal: Path) -> None:
    model = LanguageModel.load(str(causal))
    keys = keys_of(model)
    vocabulary = model.tokenizer.get_vocab()
    assert len(model.model.get_output_embeddings().weight) == len(vocabulary) + 5
    assert set(keys.ids.tolist()) == set(vocabulary.values()) - set(model.tokenizer.all_special_ids)
    assert torch.equal(keys.vectors, model.model.get_output_embeddings().weight.detach()[keys.ids])


def words(source: Path, tmp_path: Path, *more: str) -> list[str]:
    paths = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", "logger=none"]
    return [f"source={source}", "evaluator=key_space", "evaluator.clusters=8", *paths, *more]


def test_a_model_alone_and_beside_another(causal: Path, other: Path, tmp_path: Path) -> None:
    alone = plan(compose_command("evaluate", words(causal, tmp_path))).make()
    assert alone["score"]["name"] == "effective_rank" and alone["details"]["clusters"] == 8
    run = plan(compose_command("evaluate", words(other, tmp_path, f"evaluator.against={causal}")))
    scores = run.make()["scores"]
    assert scores["ari_ceiling"] == pytest.approx(alone["scores"]["ari_seeds"])
    assert 0 <= scores["cka"] < 90 and 0 <= scores["neighbours"] < 50
    same = plan(compose_command("evaluate", words(causal, tmp_path, f"evaluator.against={causal}"))).make()[
        "scores"
    ]
    assert same["cka"] == pytest.approx(100) and same["neighbours"] == pytest.approx(100)
    assert same["ari"] == pytest.approx(same["ari_ceiling"]), "never above what two seeds of one space give"
    assert "<svg" in (run.folder.path / "keys.svg").read_text()
    lines = (run.folder.path / "clusters.csv").read_text().splitlines()
    assert len(lines) == 9
    # What it is compared with is part of what was computed.
    changed = plan(compose_command("evaluate", words(other, tmp_path, f"evaluator.against={other}")))
    assert changed.identity != run.identity


def test_bad_input(causal: Path, tiny_teacher: Path, tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        LabError, match="source: a 'bert' model does not predict the next token; give a causal"
    ):
        plan(compose_command("evaluate", words(tiny_teacher, tmp_path)))
    with pytest.raises(LabError, match=r"evaluator.clusters=5000 is more than the \d+ keys"):
        plan(compose_command("evaluate", words(causal, tmp_path, "evaluator.clusters=5000"))).make()
    with pytest.raises(LabError, match="takes a finished causal model with its head"):
        plan_distill(compose_command("distill", [*tiny, "evaluator=key_space"]))
    with pytest.raises(LabError, match=r"evaluator.against=nowhere: there is no such"):
        plan(compose_command("evaluate", words(causal, tmp_path, "evaluator.against=nowhere")))
    foreign = save_causal(tmp_path / "foreign", specials=True)
    with pytest.raises(LabError, match="its vocabulary is not that of the model"):
        plan(compose_command("evaluate", words(causal, tmp_path, f"evaluator.against={foreign}"))).make()
    with pytest.raises(LabError, match="two or more different seeds"):
        KeySpace(seeds=[1])
    with pytest.raises(LabError, match=r"evaluator.batch_size=0 must be at least 1"):
        KeySpace(batch_size=0)
