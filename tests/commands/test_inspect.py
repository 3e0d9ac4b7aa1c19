"""`minilm-lab inspect`: for eyes, for pipes and for programs, without loading weights."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path

import pytest
from lab import Lab

LINES = {
    "family": "bert",
    "layers": "4",
    "hidden size": "48",
    "attention heads": "4 of 12",
    "feed-forward size": "192",
    "longest input": "64 tokens",
    "Q, K, V": "encoder.layer.0 … 3: attention.self.query, attention.self.key, attention.self.value",
    "attention": "QKᵀ/√d",
    "relation heads": "1, 2, 3, 4, 6, 8, 12, 16, 24, 48",
    "masked-LM head": "none in the checkpoint; `minilm-lab pretrain head=mlm` trains one",
}


def no_weights() -> None:
    """Called in the process of the command: loading weights ends it."""
    from transformers import PreTrainedModel

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    PreTrainedModel.from_pretrained = classmethod(refuse)  # type: ignore[assignment]


def shown(text: str) -> dict[str, str]:
    """Name and value of each line: at least two spaces are between them."""
    return dict(re.split(r"  +", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip())  # type: ignore[misc]


def test_a_teacher_in_a_pipe(lab: Lab, tiny_teacher: Path) -> None:
    done = lab.run("inspect", "teacher=path", f"teacher.path={tiny_teacher}", before=no_weights)
    assert done.code == 0, done.err
    lines = shown(done.out)
    assert {name: lines.get(name) for name in LINES} == LINES
    assert lines["model"] == f"path ({tiny_teacher})"
    assert not done.err


def test_a_source_for_programs(lab: Lab, tiny_teacher: Path) -> None:
    done = lab.run("inspect", f"source={tiny_teacher}", "json=true", "width=36", before=no_weights)
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["name"] == "tiny" and facts["layers"] == 4
    assert facts["relation_heads_with_student"] == [1, 2, 3, 4, 6, 12]
    # 12 h² + 13 h in each layer (h = 48, feed-forward 4 h), the pooler apart.
    assert facts["parameters"]["transformer"] == 4 * (12 * 48**2 + 13 * 48)
    assert facts["masked_lm_head"] == "absent"


def test_a_run(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    done = lab.run("distill", *tiny)
    assert done.code == 0, done.err
    (run,) = (tmp_path / "runs" / "distill").iterdir()
    identity = run.name.rpartition("-")[2]
    for said in (identity, run.name, run.name.rpartition("-")[0], str(run)):
        found = lab.run(
            "inspect", f"source={said}", f"paths.runs={tmp_path / 'runs'}", "json=true", before=no_weights
        )
        assert found.code == 0, found.err
        facts = json.loads(found.out)
        assert (facts["layers"], facts["name"]) == (2, run.name)


def test_a_terminal_gets_a_table(lab: Lab, tiny_teacher: Path) -> None:
    ours, theirs = pty.openpty()

    # sys.stdout is asked whether it is a terminal: give the command one.
    done = lab.start(
        "inspect",
        f"source={tiny_teacher}",
        before=_Terminal(os.ttyname(theirs)),
        env={"COLUMNS": "100", "TERM": "xterm"},
    )
    assert done.finish().code == 0
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert "\x1b[1m" in text and "relation heads" in text and "4 of 12" in text


class _Terminal:
    """Called in the process of the command: its output goes to the terminal `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None:
        import os
        import sys

        os.dup2(os.open(self.name, os.O_RDWR | os.O_NOCTTY), 1)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["source=nothing"], ["source=nothing", "no such run"]),
        (["source=./nothing"], ["source: nothing is not a folder"]),
        (["source=someone/something"], ["someone/something", "hub"]),
        (["width=0"], ["width=0", "hidden size"]),
        (["width=wide"], ["width='wide'"]),
        (["teacher=mpnet"], ["teacher=mpnet", "Did you mean 'mpnet_base'?"]),
        (["sorce=x"], ["sorce", "Did you mean 'source'?"]),
    ],
)
def test_what_is_refused(lab: Lab, words: list[str], message: list[str], tmp_path: Path) -> None:
    done = lab.run("inspect", f"paths.runs={tmp_path}", *words)
    assert done.code == 1
    assert "Traceback" not in done.err
    for word in message:
        assert word in done.err
