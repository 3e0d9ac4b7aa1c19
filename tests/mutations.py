"""Small plausible mistakes, put into the code one at a time: each must make a test of its own fail.

By hand, minutes: python -m tests.mutations [words of the mistakes to try]. It works on a copy of the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MISTAKES = [
    # (what, file, as it is, as it would be wrong, tests that must notice)
    ("pooler not copied", "models/student_weights.py", 'family.final_norm, "pooler"):', "family.final_norm):", "tests/models/test_student_weights.py"),
    ("dropout alike in all micro-batches", "training/callbacks.py", "trainer.global_step, micro, trainer.global_rank)", "trainer.global_step, 0, trainer.global_rank)", "tests/training/test_resume.py tests/training/test_distiller.py"),
    ("held-out loss as mean of batches", "training/stream.py", 'float(module.losses(moved)["loss"]) * size\n                count += size', 'float(module.losses(moved)["loss"])\n                count += 1', "tests/training/test_distiller.py"),
    ("scores hidden by the student alone", "objectives/distances.py", "(student == -torch.inf) | (teacher == -torch.inf)", "teacher == -torch.inf", "tests/objectives"),
    ("scores hidden by the teacher alone", "objectives/distances.py", "(student == -torch.inf) | (teacher == -torch.inf)", "student == -torch.inf", "tests/objectives"),
    ("probability that underflows", "relations/attention.py", "masked_fill(p_BAIJ == 0, 0)", "masked_fill(log_p_BAIJ == -torch.inf, 0)", "tests/relations/test_attention.py"),
    ("teacher's gradient in attention_kl", "relations/attention.py", "teacher_scores.detach()", "teacher_scores", "tests/relations/test_attention.py"),
    ("pairs above teacher.layer", "training/pair.py", "max(distilled, of_teacher.layers(whole_depth))", "distilled", "tests/training/test_objectives.py"),
    ("NaN inside a list", "config.py", "    elif isinstance(value, list):\n        for number, inner in enumerate(value):\n            _check_finite(inner", "    elif isinstance(value, tuple):\n        for number, inner in enumerate(value):\n            _check_finite(inner", "tests/test_config.py"),
    ("secret of the shortest length", "secrecy.py", "len(value) >= SHORTEST", "len(value) > SHORTEST", "tests/reliability/test_secrets.py"),
    ("secret as a key", "secrecy.py", '            _check(str(name), f"a key of', '            (str(name), f"a key of', "tests/reliability/test_secrets.py"),
    ("renamed before it is flushed", "runs/files.py", "            stream.flush()\n            os.fsync(stream.fileno())\n        temporary.replace(path)", "            temporary.replace(path)\n            stream.flush()\n            os.fsync(stream.fileno())", "tests/runs"),
    ("not flushed", "runs/files.py", "            os.fsync(stream.fileno())\n", "", "tests/runs"),
    ("record before its files are flushed", "runs/folder.py", '    settle(contents.everything(folder.path))\n    write_json(folder.path / "result.json", record)', '    write_json(folder.path / "result.json", record)\n    settle(contents.everything(folder.path))', "tests/runs"),
    ("checkpoint renamed before it is flushed", "training/checkpoints.py", "            settle(files)\n", "", "tests/training/test_checkpoints.py"),
    ("skipped steps counted across a good one", "training/guards.py", "0 if whole else self.in_a_row + 1", "self.in_a_row + (not whole)", "tests/reliability/test_guards.py"),
    ("one int8 scale for a matrix", "exporting/quantised.py", "per_channel=True", "per_channel=False", "tests/exporting/test_quantised.py"),
    ("separator lost behind an empty piece", "data/pack.py", "self._begins = self._begins or first", "self._begins = first", "tests/data/test_pack.py"),
    ("a lock file as damage", "runs/contents.py", 'OTHER = ("lock", ', "OTHER = (", "tests/runs"),
    ("a grown file is no damage", "runs/contents.py", "found != size", "found < size", "tests/runs"),
    ("started overwritten at the end", "runs/folder.py", 'now() if state == "RUNNING" else old.get("started", now())', "now()", "tests/runs"),
]  # fmt: skip


def main(words: list[str]) -> int:
    """Try the mistakes whose names hold one of `words` (all without); the number of those that no test notices."""
    lived = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        for name in ("minilm_lab", "conf", "tests", "experiments", "docs"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
            shutil.copy(ROOT / name, copy / name)
        for what, name, right, wrong, tests in MISTAKES:
            if words and not any(word in what for word in words):
                continue
            file = copy / "minilm_lab" / name
            text = file.read_text(encoding="utf-8")
            assert text.count(right) == 1, f"{what}: {name} has changed"
            file.write_text(text.replace(right, wrong), encoding="utf-8")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
            env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
            done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
            file.write_text(text, encoding="utf-8")
            noticed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            lived += not noticed
            print(f"{what}: {noticed[0].split(' - ')[0] if noticed else 'LIVES'}", flush=True)
    return lived


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
