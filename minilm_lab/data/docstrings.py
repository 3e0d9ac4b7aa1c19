"""Docstrings of installed packages: real technical English on every machine, nothing to download."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

from minilm_lab.children import end_with_parent

#: Importable package -> distribution, for packages that installing the lab installs.
PACKAGES = {
    "datasets": "datasets",
    "huggingface_hub": "huggingface-hub",
    "hydra": "hydra-core",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "omegaconf": "omegaconf",
    "pandas": "pandas",
    "pytorch_lightning": "pytorch-lightning",
    "rich": "rich",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
    "transformers": "transformers",
    "wandb": "wandb",
}
#: Shorter docstrings are mostly signatures and one-liners.
SHORTEST = 200
_FILES_PER_TASK = 32
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "idlelib", "lib2to3", "__pycache__"}


def versions() -> dict[str, str]:
    """Return package -> installed version (``"absent"`` if it is not), with Python's own under ``"python"``."""
    found = {"python": platform.python_version()}
    for package, distribution in PACKAGES.items():
        try:
            found[package] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def docstrings(max_characters: int) -> Iterator[str]:
    """Yield docstrings longer than 200 characters, each once, until `max_characters` have been given.

    The order is pseudo-random over files (by checksum of the file's name inside its package), so that a small
    part is a sample of all packages and the file system plays no role. Files are parsed by several processes.
    """
    files = [file for _, file in sorted(_source_files(), key=lambda item: _scatter(item[0]))]
    tasks = [files[start : start + _FILES_PER_TASK] for start in range(0, len(files), _FILES_PER_TASK)]
    seen: set[bytes] = set()
    given = 0
    processes = min(8, os.cpu_count() or 1)
    pool = ProcessPoolExecutor(processes, initializer=end_with_parent)
    try:
        for texts in _map_in_order(pool, tasks, ahead=2 * processes):
            for text in texts:
                digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
                if digest in seen:
                    continue
                if given >= max_characters:
                    return
                seen.add(digest)
                given += len(text)
                yield text
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def docstrings_of_source(source: bytes) -> list[str]:
    """Return the long docstrings of one Python file: of its module, classes and functions, outermost first."""
    if source.count(b'"""') + source.count(b"'''") < 2:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escape sequences
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []  # templates and files for another Python version
    found = []
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text) > SHORTEST:
                found.append(text)
        # Definitions stand in statement lists only: visiting no expression makes this twice as fast as ast.walk.
        body = getattr(node, "body", None)
        if isinstance(body, list):
            nodes.extend(reversed(body))
    return found


def _source_files() -> Iterator[tuple[str, Path]]:
    """Yield (name inside its package, file) of every Python source file, in any order."""
    roots = [("python", Path(sysconfig.get_path("stdlib")))]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            roots.append((package, Path(spec.origin).parent))
    for package, root in roots:
        for folder, subfolders, files in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
            for name in files:
                if name.endswith(".py"):
                    file = Path(folder, name)
                    yield f"{package}/{file.relative_to(root).as_posix()}", file


def _scatter(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _map_in_order(pool: Executor, tasks: list[list[Path]], ahead: int) -> Iterator[list[str]]:
    """Like `pool.map`, but never further ahead than `ahead` tasks: the reader may stop early."""
    waiting: deque[Future[list[str]]] = deque()
    for task in tasks:
        waiting.append(pool.submit(_docstrings_of_files, task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _docstrings_of_files(files: list[Path]) -> list[str]:
    return [text for file in files for text in docstrings_of_source(file.read_bytes())]
