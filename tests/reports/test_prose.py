"""Markdown into a page that stands alone."""

from __future__ import annotations

from minilm_lab.reports.prose import to_html
from minilm_lab.reports.results import Experiment

README = """# table3

**Claim.** MiniLM is above *TinyBERT*
at every size.

**Reproduce.** `make table3`
"""


def test_claim_is_the_paragraph_that_says_so() -> None:
    def claim(readme: str) -> str:
        return Experiment("x", "X", readme=readme).claim

    assert claim(README) == "MiniLM is above *TinyBERT* at every size."
    assert claim("# x\n\nNo such thing.") == ""
    assert claim("**Claim.** the end") == "the end"


def test_without_title() -> None:
    assert Experiment("x", "X", readme=README).prose.lstrip().startswith("**Claim.**")
    assert Experiment("x", "X", readme="## Second\n# First\n").prose == "## Second\n# First\n"


def test_headings_stand_below_those_of_the_page() -> None:
    assert to_html("# A\n\n##### B") == "<h3>A</h3>\n<h6>B</h6>\n"


def test_links_into_the_repository_and_pictures_become_text() -> None:
    html = to_html("[a](results/x.md) [b](https://example.org/) [c](http://example.org/) ![d](x.png)")
    assert html == ('<p>a <a href="https://example.org/" rel="noreferrer">b</a> c [picture: d]</p>\n')


def test_raw_html_and_scripts_are_text() -> None:
    html = to_html("<script>alert(1)</script>\n\nx <img src=x onerror=alert(2)> [y](javascript:alert(3))")
    assert "<script" not in html and "<img" not in html and "href" not in html


def test_tables_scroll_in_their_box_and_have_scopes() -> None:
    html = to_html("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert html.count('scope="col"') == 2
    assert (
        html.index('class="scroll"') < html.index("<table>") < html.index("</table>") < html.index("</div>")
    )
