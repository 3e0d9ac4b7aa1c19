"""The blockwise loss holds a few blocks, not length x length x heads of the batch."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = textwrap.dedent(
    """
    import resource, sys
    import torch
    from minilm_lab.relations import relation_kls

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 * (1 if sys.platform == "linux" else 1 / 1024)

    batch, length, heads, relations = (int(n) for n in sys.argv[1:])
    torch.set_num_threads(1)  # Two would wait for each other on a busy machine.

    def step(batch, length):
        student = [torch.randn(batch, length, 384, requires_grad=True) for _ in range(relations)]
        teacher = [torch.randn(batch, length, 384) for _ in range(relations)]
        pairs = [((x, x), (y, y), heads) for x, y in zip(student, teacher)]
        before = peak()
        relation_kls(pairs, backend="blockwise").sum().backward()
        return peak() - before

    step(1, 16)  # What torch loads on first use does not count.
    print(step(batch, length))
    """
)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "length", "heads", "relations"), [(8, 512, 48, 3), (1, 4096, 12, 1)])
def test_memory_over_inputs(batch: int, length: int, heads: int, relations: int) -> None:
    """Materialised, these take 4 GB and 5 GB."""
    arguments = [str(n) for n in (batch, length, heads, relations)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=300, check=True
    )
    assert float(done.stdout) < 150, f"{done.stdout.strip()} MB over the inputs"
