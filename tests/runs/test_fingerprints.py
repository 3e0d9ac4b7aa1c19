"""Files are read once, for as long as nothing touched them."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from minilm_lab.errors import LabError
from minilm_lab.runs import fingerprints
from minilm_lab.runs.fingerprints import file_checksum, file_checksums


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)
    return tmp_path / "cache"


def expected(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class Reads:
    """Counts the pieces that are read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _: bytes) -> None:
        self.count += 1


def test_a_file_is_read_once(tmp_path: Path, cache: Path) -> None:
    file, reads = tmp_path / "a", Reads()
    file.write_bytes(b"text")
    for _ in range(3):
        assert file_checksum(file, cache, reads) == expected(b"text")
    assert reads.count == 1
    assert file_checksum(file, None, reads) == expected(b"text") and reads.count == 2
    # What was remembered without a check does not pass it.
    assert file_checksum(file, cache, reads, "checked") == expected(b"text") and reads.count == 3


def test_a_replaced_file_is_seen_whatever_its_time_stamp(tmp_path: Path, cache: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_bytes(b"old text")
    before = file.stat()
    assert file_checksum(file, cache) == expected(b"old text")
    # Written in place, with the size and the time stamp of before: the kernel's own stamp tells.
    file.write_bytes(b"new text")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert file_checksum(file, cache) == expected(b"new text")
    # Another file in its place: the inode tells.
    other.write_bytes(b"odd text")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert file_checksum(file, cache) == expected(b"odd text")


def test_a_file_that_was_just_changed_is_not_remembered(tmp_path: Path) -> None:
    """Two changes within a tick of the clock have one time stamp."""
    file, reads = tmp_path / "a", Reads()
    file.write_bytes(b"text")
    for _ in range(2):
        file_checksum(file, tmp_path / "cache", reads)
    assert reads.count == 2


def test_what_a_check_refuses_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    def refuse(file: Path, chunk: bytes) -> None:
        raise LabError(f"{file} is bad")

    (tmp_path / "a").write_bytes(b"text")
    for _ in range(2):
        with pytest.raises(LabError, match="a is bad"):
            file_checksums([tmp_path / "a"], cache, refuse, "refused")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"state": 1}'])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, cache: Path, damage: bytes) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"text")
    file_checksum(file, cache)
    (memory,) = (cache / "fingerprints").iterdir()
    memory.write_bytes(damage)
    assert file_checksum(file, cache) == expected(b"text")


def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    cache.write_text("a file in its place")
    assert file_checksum(tmp_path / "a", cache) == expected(b"text")


def test_many_at_once(tmp_path: Path, cache: Path) -> None:
    files = [tmp_path / f"f{n}" for n in range(20)]
    for file in files:
        file.write_bytes(file.name.encode())
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(file_checksums(files, cache))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[expected(file.name.encode()) for file in files]] * 4
    assert not list((cache / "fingerprints").glob(".*"))
