"""How the data differs from the official data, in the words that are printed with every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def data_note(
    counts: Mapping[str, int], official: Mapping[str, int], dropped: int, notes: Sequence[str]
) -> str:
    """One line, or "". Counts and official counts of examples by split; examples dropped for want of a label."""
    different = {split: n for split, n in official.items() if split in counts and counts[split] != n}
    fewer = all(counts[split] < n for split, n in different.items())
    word = "subset" if fewer else "not the official data"
    listed = ", ".join(f"{split} {counts[split]:,} of {n:,}" for split, n in different.items())
    parts = [f"{word}: {listed}"] if different else []
    parts += [f"{dropped:,} examples without a label dropped"] if dropped else []
    return "; ".join([*parts, *notes])
