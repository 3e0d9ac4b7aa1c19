"""The Triton backend, in processes of its own: interpreted on a CPU, and compiled for a GPU that need not be there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (pip install --no-deps triton)",
)
HERE = Path(__file__).parent


def _run_cases(*selection: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *selection,
        str(HERE / "triton_cases.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_the_plain_cases() -> None:
    _run_cases("-k", "(pair and float32) or several_tiles or launch")


@pytest.mark.slow
def test_every_case() -> None:
    _run_cases()


COMPILE = textwrap.dedent(
    """
    import subprocess, tempfile, triton
    from pathlib import Path
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from minilm_lab.relations import triton_kernels, triton_launch

    POINTERS = {"weights": "*fp32", "grad_losses": "*fp32", "s_lse": "*fp32", "t_lse": "*fp32", "partial": "*fp32"}
    SIDES = {"s_left", "s_right", "t_left", "t_right", "s_own", "s_other", "t_own", "t_other"}
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

    def spilled(kernel, dtype, size, masked):
        sizes = triton_launch.block_sizes(size, size, 4 if dtype == "fp32" else 2, masked)
        options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
        constants = {
            "CAUSAL": masked, "MASK": masked, "PRECISION": "tf32x3",
            "OWN_ASKS": True, "OTHER_ASKS": True, **sizes,
        }
        constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
        signature = {}
        for name in kernel.arg_names:
            if name in constants:
                signature[name] = "constexpr"
            elif name in SIDES:
                signature[name] = ("*" + dtype,) * 3
            elif name == "mask":
                signature[name] = "*u8" if masked else "*" + dtype
            elif name == "gradient":
                signature[name] = "*" + dtype
            else:
                signature[name] = POINTERS.get(name, "fp32" if name.endswith("scale") else "i32")
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["cubin"]
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            Path(file.name).write_bytes(binary)
            usage = subprocess.run(
                [tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
            )
        return int(usage.stdout.split("STACK:")[1].split()[0])

    for kernel in (triton_kernels.forward, triton_kernels.backward):
        for dtype in ("bf16", "fp16", "fp32"):
            for size in (8, 32, 64, 128):
                for masked in (False, True):
                    print(kernel.__name__, dtype, size, masked, spilled(kernel, dtype, size, masked))
    """
)


@pytest.mark.slow
def test_the_kernels_compile_for_sm_90_and_keep_their_tiles_in_registers() -> None:
    pytest.importorskip("triton.backends.nvidia", reason="this Triton has no NVIDIA compiler")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, env=environment, cwd=HERE.parents[1]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 48
    # Bytes of a thread's tile that went to memory; products of float32 without tensor cores take 8000.
    spilling = [line for line in lines if int(line.split()[-1]) > (1024 if "fp32 128" in line else 256)]
    assert not spilling, "\n".join(spilling)
