"""What is read while planning is read once."""

from __future__ import annotations

from minilm_lab.once import once, read_once


def test_once_remembers_inside_of_a_planning_alone() -> None:
    reads: list[int] = []

    def read() -> int:
        reads.append(1)
        return len(reads)

    assert [once("a", read), once("a", read)] == [1, 2]
    with read_once():
        assert [once("a", read), once("a", read), once("b", read)] == [3, 3, 4]
        with read_once():
            assert once("a", read) == 3
        assert once("b", read) == 4
    assert once("a", read) == 5
