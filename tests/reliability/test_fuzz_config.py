"""Configs that no one should write: whatever stands in them, the answer is a plan or one message that names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minilm_lab.commands import distill, finetune, pretrain
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError

from .fuzzing import Count, cases

PLANS: dict[str, Callable[[DictConfig], Any]] = {
    "distill": distill.plan,
    "finetune": finetune.plan,
    "pretrain": pretrain.plan,
}
#: Settings that lead to a network: other tests are about those.
ELSEWHERE = ("teacher.hub", "teacher.package", "corpus.package", "task.path", "task.dev_path", "source")
TEXTS = [
    "", " ", "abc", "null", "nan", "-1", "1e400", "../../etc/passwd", "a" * 400, "\0", "é\u202e\u0301", "${nope}",
    "${oc.env:NOT_THERE}", "${teacher}", "${", "???", "true", "first", "last", "qq", "minilm_lab", "/", "\n", "1_000", "0x10",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 3, 7, 48, 10**6, 10**12, 2**63, -(2**63), 10**30, 0.5, 1.5, -0.0, 1e-300, 1e308]
NOT_FINITE = [math.nan, math.inf, -math.inf]
WORDS = [
    "1", "null", "true", "[1]", "[a,b]", "{a:1}", "a,b", "abc", "''", "???", "${x}", "${oc.env:HOME}", "range(1,3)", "glob(*)",
    "../x", "a/b", "x" * 300, "none", "minilm", "1.5", "\\0", "a b", "[]", "{}", "_shape", ".", "path@y", "nan",
]  # fmt: skip
SCALARS = st.sampled_from([*TEXTS, *NUMBERS, *NOT_FINITE, True, False, None])
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.sampled_from(["a", "layers", "_target_"]), SCALARS, max_size=2) | st.integers() | st.floats() | st.text(max_size=8)  # fmt: skip


def leaves(value: Any, prefix: str = "") -> list[str]:
    """Dotted names of all settings, groups included."""
    if not isinstance(value, dict):
        return []
    found = []
    for name, inner in value.items():
        found += [f"{prefix}{name}", *leaves(inner, f"{prefix}{name}.")]
    return found


@pytest.fixture(params=PLANS)
def planned(
    request: pytest.FixtureRequest, tiny_teacher: Path, tiny_corpus: Path, tiny_task: Path, tmp_path: Path
) -> tuple[str, dict[str, Any]]:
    """A command and a config that it plans."""
    words = [
        "teacher=path", f"teacher.path={tiny_teacher}", "corpus=path", f"corpus.path={tiny_corpus}",
        "scale.length=16", "scale.batch_size=8", "logger=none", f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache",
    ]  # fmt: skip
    if request.param != "pretrain":
        words += ["objective.heads=12"]
    if request.param == "finetune":
        words += ["task=classification", f"task.path={tiny_task}", "task.length=24", "source=teacher"]
    values = OmegaConf.to_container(compose_command(request.param, words))
    assert isinstance(values, dict)
    PLANS[request.param](OmegaConf.create(values))
    return request.param, values


def not_finite(value: Any) -> bool:
    """Whether a number in it is NaN or infinite."""
    if isinstance(value, dict):
        return any(map(not_finite, value.values()))
    if isinstance(value, list):
        return any(map(not_finite, value))
    return isinstance(value, float) and not math.isfinite(value)


def test_any_value_of_any_setting(planned: tuple[str, dict[str, Any]], count: Count) -> None:
    """One to three settings are replaced by anything; a misspelt one is added now and then."""
    command, values = planned
    names = [n for n in leaves(values) if n not in ELSEWHERE]
    change = st.tuples(
        st.sampled_from(names), VALUES, st.sampled_from(["set", "set", "set", "set", "misspell", "delete"])
    )

    @given(st.lists(change, min_size=1, max_size=3))
    @cases(120)
    def try_it(changes: list[tuple[str, Any, str]]) -> None:
        count.case()
        config = OmegaConf.create(values)
        for name, value, how in changes:
            parent, _, last = name.rpartition(".")
            try:
                node = OmegaConf.select(config, parent) if parent else config
            except OmegaConfBaseException:  # another change has put a list there
                continue
            if not isinstance(node, DictConfig):
                continue
            try:
                if how == "delete":
                    node.pop(last, None)
                else:
                    node[last + "x" * (how == "misspell")] = value
            except Exception:  # what OmegaConf does not hold, no file can say either
                return
        try:
            plan = PLANS[command](config)
        except LabError as error:
            count.refuse()
            words = [part for name, _, _ in changes for part in name.split(".")]
            assert any(word in str(error) for word in words), f"{error} names nothing of {changes}"
            assert len(str(error)) < 2000, "shortened where a value is long"
        else:
            assert not not_finite(plan.what)

    try_it()
    assert count.refused > count.cases / 4


def test_any_words_on_the_command_line(planned: tuple[str, dict[str, Any]], count: Count) -> None:
    """What Hydra's parser and composer make of it is a config or a message."""
    command, values = planned
    names = st.sampled_from([*leaves(values), "hydra.run.dir", "hydra/launcher", "experiment", "nothing"])
    junk = st.text("ab.=+~@[]{}:,/ \\'\"$()!\0\n#é-1", max_size=12) | st.sampled_from(WORDS)
    word = st.one_of(
        junk,
        st.builds("{}{}{}{}".format, st.sampled_from(["", "+", "++", "~"]), names, st.sampled_from(["=", "", "@x=", ":"]), junk),
        st.builds("objective=[{}]".format, junk),
    )  # fmt: skip

    @given(st.lists(word, min_size=1, max_size=2))
    @example(["objective=[]"])
    @example(["objective=[null]"])
    @example(["objective=[" + "x" * 300 + "]"])
    @example(["teacher=5"])
    @example(["+=minilm"])
    @example(["~paths@x=true"])
    @example(["--experimental-rerun=x.pickle"])
    @cases(30)
    def try_it(words: list[str]) -> None:
        count.case()
        try:
            compose_command(command, words)
        except LabError as error:
            count.refuse()
            assert str(error).strip()

    try_it()


@pytest.mark.parametrize(
    "words",
    [
        ["corpus.path=LONG"], ["teacher.path=LONG"], ["source=LONG"], ["source=/LONG"], ["task.path=LONG"], ["task.dev_path=LONG"],
        ["task=span", "task.path=LONG"], ["task=span", "task.path=LONG.json"], ["paths.runs=LONG", "paths.cache=/LONG"],
    ],
)  # fmt: skip
def test_a_name_too_long_for_any_file(words: list[str], tiny: list[str], tiny_tune: list[str]) -> None:
    """The system refuses to look for it, which is another error than not finding it."""
    long = [word.replace("LONG", "a" * 300) for word in words]
    with pytest.raises(LabError, match=words[-1].partition("=")[0].partition(".")[0]):
        ready = finetune.plan(compose_command("finetune", [*tiny, *tiny_tune, *long]))
        ready.make()
