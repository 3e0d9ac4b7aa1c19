"""SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): hashes without state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
#: What the generator adds to its state for each number.
GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mixed(z: Words) -> Words:
    """The mixing function of SplitMix64, element by element."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
