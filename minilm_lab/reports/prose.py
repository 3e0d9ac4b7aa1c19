"""Markdown (a README, a note) as HTML that stands on its own: nothing is fetched, raw HTML is text."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

_LOWER = 2
"""Headings of a README stand below those of the page."""


def to_html(markdown: str, *, lower: int = _LOWER) -> str:
    """Return `markdown` as HTML, headings `lower` levels down.

    Links keep their target if it is a web address; others, and pictures, become their text: the page stands alone.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + lower)}"
        if token.type == "inline" and token.children is not None:
            token.children = _alone(token.children)
    html = str(parser.renderer.render(tokens, parser.options, {}))
    html = html.replace("<th style=", '<th scope="col" style=').replace("<th>", '<th scope="col">')
    # A table is as wide as it is: it scrolls in its own box.
    return html.replace(
        "<table>", '<div class="scroll" role="region" tabindex="0" aria-label="table">\n<table>'
    ).replace("</table>", "</table>\n</div>")


def _alone(tokens: Sequence[Token]) -> list[Token]:
    shown: list[Token] = []
    open_links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            open_links.append(str(token.attrGet("href") or "").startswith("https://"))
            if open_links[-1]:
                token.attrSet("rel", "noreferrer")
                shown.append(token)
        elif token.type == "link_close":
            if open_links.pop():
                shown.append(token)
        elif token.type == "image":
            shown.append(Token("text", "", 0, content=f"[picture: {token.content}]"))
        else:
            shown.append(token)
    return shown
