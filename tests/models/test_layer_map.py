"""Layer maps against the papers' own arithmetic, and what is refused."""

from __future__ import annotations

import pytest

from minilm_lab.errors import LabError
from minilm_lab.models.layer_map import MAPS, check_map, check_pairs, layer_pairs


@pytest.mark.parametrize(
    "name, student, distilled, teacher_layers",
    [
        ("last", 6, 12, [12]),
        ("last", 6, 11, [11]),
        ("last", 12, 6, [6]),  # a student deeper than the distilled layer is no matter here
        ("uniform", 4, 12, [3, 6, 9, 12]),  # TinyBERT's 4 of 12: (i + 1) * L / M
        ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]),
        ("uniform", 3, 3, [1, 2, 3]),
        ("uniform", 1, 12, [12]),
        ("uniform", 4, 6, [2, 3, 4, 6]),  # 1.5, 3, 4.5, 6
        ("uniform", 5, 12, [2, 5, 7, 10, 12]),  # 2.4, 4.8, 7.2, 9.6, 12
        ("top", 4, 12, [9, 10, 11, 12]),
        ("top", 3, 10, [8, 9, 10]),
        ("top", 2, 2, [1, 2]),
    ],
)
def test_maps(name: str, student: int, distilled: int, teacher_layers: list[int]) -> None:
    first = student - len(teacher_layers) + 1
    expected = list(zip(range(first, student + 1), teacher_layers, strict=True))
    assert layer_pairs(name, student, distilled) == expected


@pytest.mark.parametrize("name", MAPS)
def test_every_map_ends_at_the_distilled_layer_and_rises(name: str) -> None:
    for distilled in range(1, 25):
        for student in range(1, distilled + 1):
            pairs = layer_pairs(name, student, distilled)
            assert pairs[-1] == (student, distilled)
            theirs = [teacher for _, teacher in pairs]
            assert theirs == sorted(set(theirs)) and theirs[0] >= 1


def test_uniform_is_the_map_that_students_are_copied_by() -> None:
    from minilm_lab.models.student import Initialisation, Student

    for name in ("uniform", "last"):
        student = Student("s", layers=1, hidden_size=8, init=Initialisation(layers=name))
        for depth, distilled in ((3, 12), (4, 6), (5, 12), (6, 11)):
            copied = student.copied_layers(depth, distilled)
            map_name = "top" if name == "last" else name
            assert copied == [teacher for _, teacher in layer_pairs(map_name, depth, distilled)]


@pytest.mark.parametrize("name", ["uniform", "top"])
def test_a_student_deeper_than_the_distilled_layer_is_refused(name: str) -> None:
    with pytest.raises(LabError, match=rf"objective\.map={name} .* 6 layers .* only 4 .*objective\.map=last"):
        layer_pairs(name, 6, 4)


def test_an_unknown_map_names_the_nearest() -> None:
    with pytest.raises(LabError, match=r"objective\.map=unifrom: no such map\. Did you mean 'uniform'\?"):
        check_map("unifrom")
    with pytest.raises(LabError, match="Allowed are last, uniform, top"):
        layer_pairs("first", 2, 4)


def test_given_pairs() -> None:
    """Several teacher layers at once, and the other way round."""
    assert check_pairs([[3, 11], [3, 12], [1, 11]], 3, 12) == [(3, 11), (3, 12), (1, 11)]


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([], r"objective\.pairs=\[\] gives no layer"),
        ([[1]], r"objective\.pairs has \[1\]: write \[student layer, teacher layer\]"),
        ([[1, 2, 3]], r"has \[1, 2, 3\]: write"),
        ([[0, 2]], r"has \[0, 2\]: layers are counted from 1"),
        ([[1, -1]], r"has \[1, -1\]: layers are counted from 1"),
        ([[1, 2], [1, 2]], r"names \[1, 2\] twice"),
        ([[1, 2], [4, 2]], r"has \[4, 2\]: student layer 4 is outside 1\.\.3"),
        ([[1, 13]], r"has \[1, 13\]: teacher layer 13 is outside 1\.\.12"),
    ],
)
def test_pairs_that_cannot_be(pairs: list[list[int]], message: str) -> None:
    with pytest.raises(LabError, match=message):
        check_pairs(pairs, 3, 12)
