"""What counts as right: whole answers, whatever their spelling; and the lists of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.knowledge.gold_lists import GoldList, checksum, read_lists

GOLD = GoldList(
    "x", "things", (("Canada",), ("Netherlands", "Holland"), ("Curaçao",), ("berry",), ("Paris",))
)


@pytest.mark.parametrize(
    "text, right",
    [
        ("canada", 0),
        (" Canada. ", 0),
        ("The Netherlands", 1),
        ("holland", 1),
        ("Curacao", 2),
        ("berries", 3),
        ("a Berry", 3),
        ("Paris", 4),
        ("Pari", None),  # a prefix of an answer is none
        ("Canada and Mexico", None),
        ("Parisian", None),
        ("", None),
    ],
)
def test_whole_answers_are_judged(text: str, right: int | None) -> None:
    assert GOLD.judge(text) == right


def test_the_labs_lists_are_many_and_right_on_what_everybody_knows() -> None:
    lists = {gold.name: gold for gold in read_lists("embedded")}
    assert len(lists) >= 60 and all(len(gold.answers) >= 20 for gold in lists.values())
    assert len(lists["us_states"].answers) == 50 == len(lists["us_state_capitals"].answers)
    assert len(lists["elements"].answers) == 118
    for name, right, wrong in (
        ("countries_europe", "France", "Japan"),
        ("capitals_asia", "Tokyo", "Paris"),
        ("elements", "aluminium", "steel"),
        ("birds", "sparrows", "bats"),
        ("rivers", "Nile", "Sahara"),
        ("presidents", "Abraham Lincoln", "Benjamin Franklin"),
        ("us_state_capitals", "Saint Paul", "Chicago"),
    ):
        assert lists[name].judge(right) is not None, (name, right)
        assert lists[name].judge(wrong) is None, (name, wrong)
    # WordNet's is-a is not the world's: roses would be shrubs, computers no tools.
    assert not {"flowers", "tools", "clothes", "trees"} & set(lists)
    assert (
        "Princeton"
        in (Path(__file__).parents[3] / "minilm_lab/studies/knowledge/gold/WORDNET-LICENSE").read_text()
    )


def test_a_checksum_is_of_content() -> None:
    other = GoldList("x", "things", (("Canada",),))
    assert checksum([GOLD]) == checksum([GoldList("x", "things", GOLD.answers)]) != checksum([other])


def test_bad_lists(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"evaluator.prompts=.*there is no folder with lists"):
        read_lists(str(tmp_path))
    (tmp_path / "a.txt").write_text("# asks: things\n")
    with pytest.raises(LabError, match=r"a.txt has no answers: write each on a line"):
        read_lists(str(tmp_path))
    (tmp_path / "a.txt").write_text("France\n")
    with pytest.raises(LabError, match="begin it with `# asks:"):
        read_lists(str(tmp_path))
    with pytest.raises(LabError, match=r"no list 'element' in embedded. Did you mean 'elements'"):
        read_lists("embedded", ["element"])
    (tmp_path / "a.txt").write_text("# asks: things\nFrance | la France\n")
    assert read_lists(str(tmp_path))[0].answers == (("France", "la France"),)
