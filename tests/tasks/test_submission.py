"""The leaderboard's files, against lines written by hand."""

import numpy as np

from minilm_lab.tasks.submission import tsv

NAMES = ["entailment", "neutral", "contradiction"]


def test_numbers_of_classes():
    assert tsv(np.asarray([1, 0, 1]), None, None) == "index\tprediction\n0\t1\n1\t0\n2\t1\n"


def test_names_of_classes():
    assert tsv(np.asarray([2, 0]), NAMES, None) == "index\tprediction\n0\tcontradiction\n1\tentailment\n"


def test_values_are_cut_to_what_can_be():
    lines = tsv(np.asarray([5.2, -0.1, 2.34567], np.float32), None, [0.0, 5.0]).splitlines()
    assert lines == ["index\tprediction", "0\t5.000", "1\t0.000", "2\t2.346"]


def test_values_without_bounds():
    assert tsv(np.asarray([-7.5], np.float32), None, None) == "index\tprediction\n0\t-7.500\n"
