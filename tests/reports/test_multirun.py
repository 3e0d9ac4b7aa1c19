"""The table at the end of a multirun, against numbers worked out by hand."""

from __future__ import annotations

import math
import random
import re

from minilm_lab.reports.multirun import text


def note(score: float | None, **settings: object) -> dict[str, object]:
    words = [f"{key.replace('_', '.', 1)}={value}" for key, value in settings.items()]
    return {"overrides": words, **({"error": "e"} if score is None else {"score": score})}


def test_seeds_are_averaged_and_the_best_is_marked() -> None:
    notes = [note(s, tune_lr=lr, tune_seed=seed, task="x") for lr, seed, s in
             [("1e-4", 0, 70.0), ("1e-4", 1, 74.0), ("2e-4", 0, 80.0), ("2e-4", 1, None)]]  # fmt: skip
    lines = text(notes, "score", True).splitlines()
    assert lines[0] == "score (mean ± sd over seeds; * = best of 2)"
    assert [line.split() for line in lines[1:]] == [
        ["tune.lr", "score"],
        ["2e-4", "80", "*"],
        ["1e-4", "72", "±", f"{math.sqrt(8):.4g}"],
    ]


def test_two_settings_make_a_grid() -> None:
    notes = [note(10 * a + b, x_a=a, x_b=b) for a in (2, 1) for b in (7, 8) if (a, b) != (1, 8)]
    lines = text(notes, "held-out loss", False).splitlines()
    assert re.fullmatch(r"x\.b +7 +8", lines[1]) and lines[2].strip() == "x.a"
    assert [line.split() for line in lines[3:]] == [["2", "27", "28"], ["1", "17", "*", "–"]]


def test_seeds_alone_are_one_line_and_nothing_varied_is_no_table() -> None:
    lines = text([note(1.0, seed=0), note(3.0, seed=1)], "score", True).splitlines()
    assert lines[-1].split() == ["all", "seeds", "2", "±", "1.414", "*"]
    assert text([note(1.0, seed=0)], "score", True) == ""
    assert text([note(None, seed=0), note(None, seed=1)], "score", True) == ""


def test_of_a_search_it_says_what_decided() -> None:
    draw = random.Random(0)
    trials = [(10 ** draw.uniform(-5, -3), draw.choice(["16", "32"])) for _ in range(24)]
    notes = [
        {"overrides": [f"tune.lr={lr}", f"tune.batch_size={size}"], "score": 80 + 5 * math.log10(lr) + 0.1 * (size == "16")}
        for lr, size in trials
    ]  # fmt: skip
    last = text(notes, "score", True).splitlines()[-1]
    shares = dict(re.findall(r"([\w.]+) (\d+)%", last.partition(": ")[2]))
    assert last.startswith("what decided (random forest, 24 trials): tune.lr ")
    assert int(shares["tune.lr"]) > 90 and sum(map(int, shares.values())) in (99, 100, 101)
    # A grid says it by itself, and few trials say nothing.
    grid = [{"overrides": [f"a={a}", f"b={b}"], "score": a + b} for a in range(3) for b in range(3)]
    assert "what decided" not in text(grid, "score", True) + text(notes[:7], "score", True)
