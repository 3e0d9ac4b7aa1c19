"""Data sets of the hub and local copies of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import huggingface_hub
import pytest

from minilm_lab.data import build
from minilm_lab.data.hub import HubCorpus, HubSource, Rows
from minilm_lab.errors import LabError

from .test_path import write, write_parquet

CACHE = Path("unused")
SHARED = Path(os.environ.get("MINILM_LAB_SHARED", Path(__file__).parents[3] / "shared")) / "hub"


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    for name in ("owner/articles", "owner/books"):
        write(
            tmp_path / name / "README.md",
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n",
        )
    write_parquet(tmp_path / "owner/articles/data/train-00000-of-00002.parquet", text=["a1", "a2"], id=[1, 2])
    write_parquet(tmp_path / "owner/articles/data/train-00001-of-00002.parquet", text=["a3"], id=[3])
    write_parquet(tmp_path / "owner/books/data/train-0.parquet", text=[f"s{n}" for n in range(2500)])
    return tmp_path


def corpus(**sources: HubSource) -> HubCorpus:
    return HubCorpus(name="test", sources=sources)


def test_sources_are_read_one_after_the_other(hub: Path) -> None:
    both = corpus(
        articles=HubSource(path="owner/articles", max_documents=2),
        books=HubSource(path="owner/books", rows=Rows.lines),
    )
    documents = list(both.documents(str(hub), CACHE))
    assert documents[:2] == ["a1", "a2"]
    assert len(documents) == 2 + 3
    assert " ".join(documents[2:]).split() == [f"s{n}" for n in range(2500)]


def test_the_fingerprint_is_that_of_the_local_content(hub: Path) -> None:
    articles = corpus(articles=HubSource(path="owner/articles"))
    before = articles.fingerprint(str(hub), CACHE)
    renamed = hub / "moved"
    (hub / "owner").rename(renamed)
    assert corpus(x=HubSource(path="moved/articles")).fingerprint(str(hub), CACHE) == before
    assert corpus(x=HubSource(path="moved/articles", max_documents=1)).fingerprint(str(hub), CACHE) != before
    write_parquet(renamed / "articles/data/train-00001-of-00002.parquet", text=["other"], id=[3])
    assert corpus(x=HubSource(path="moved/articles")).fingerprint(str(hub), CACHE) != before


def test_the_fingerprint_of_a_hub_id_needs_no_network() -> None:
    ids = [
        HubSource(path="owner/none"),
        HubSource(path="owner/none", revision="abc"),
        HubSource(path="owner/none", config="en"),
    ]
    assert len({corpus(x=source).fingerprint(None, CACHE) for source in ids}) == 3


def test_a_data_set_that_the_local_hub_lacks(hub: Path) -> None:
    with pytest.raises(
        LabError, match=r"has no 'owner/article'; it has: owner/articles.*Did you mean 'owner/articles'"
    ):
        corpus(x=HubSource(path="owner/article")).fingerprint(str(hub), CACHE)


def test_wrong_configuration_split_and_column(hub: Path) -> None:
    with pytest.raises(LabError, match="no such configuration; it has: default"):
        corpus(x=HubSource(path="owner/articles", config="nope")).fingerprint(str(hub), CACHE)
    with pytest.raises(LabError, match="no split 'test'; it has: train"):
        corpus(x=HubSource(path="owner/articles", split="test")).fingerprint(str(hub), CACHE)
    with pytest.raises(LabError, match="no text column 'body'; it has: text, id"):
        list(corpus(x=HubSource(path="owner/articles", text="body")).documents(str(hub), CACHE))


@pytest.mark.parametrize("how", ["told to stay offline", "unreachable"])
def test_without_network_the_error_says_what_to_do(how: str, monkeypatch) -> None:
    def unreachable(*_, **__):
        raise OSError("Name or service not known")

    if how == "unreachable":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    else:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(LabError, match=r"'owner/none'.*paths\.hub.*corpus=path corpus\.path="):
        next(corpus(x=HubSource(path="owner/none")).documents(None, CACHE))
    assert time.monotonic() - started < 10


def test_impossible_values() -> None:
    with pytest.raises(LabError, match=r"corpus\.sources is empty"):
        HubCorpus(name="test")
    with pytest.raises(LabError, match=r"corpus\.sources\.x\.max_documents=0"):
        corpus(x=HubSource(path="a", max_documents=0))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no local copy of hub data sets in {SHARED}")
def test_real_articles_become_blocks(bert, tmp_path: Path) -> None:
    wikipedia = corpus(
        wikipedia=HubSource(path="wikimedia/wikipedia", config="20231101.en", max_documents=20)
    )
    blocks = build(wikipedia, bert, "bert", length=128, hub=str(SHARED), cache=tmp_path, progress=False)
    assert blocks.index.documents == 20
    texts = list(wikipedia.documents(str(SHARED), tmp_path))
    ids = bert(texts[0], add_special_tokens=False)["input_ids"]
    assert blocks.tokens[0, 1:-1].tolist() == ids[:126]
