"""Table → LaTeX with booktabs."""

from __future__ import annotations

from minilm_lab.reports.table import Table
from minilm_lab.reports.text import caption_sentences, grid, one_line

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "[": "{[}",  # a bracket after a row's \\ would be read as its optional argument
        "]": "{]}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "†": r"$^\dagger$",
        "·": r"$\cdot$",
        "−": "$-$",
        "→": r"$\rightarrow$",
        "½": r"$\frac{1}{2}$",
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
    }
)


def to_latex(table: Table, label: str = "") -> str:
    r"""Return a `table` environment that needs ``\usepackage{booktabs}``; controls stand below a rule of their own.

    Rows keep their order. A rule is drawn wherever control rows and other rows meet.
    """
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape(table.title)}. {escape(' '.join(caption_sentences(table)))}}}",
        *([rf"  \label{{{label}}}"] if label else []),
        rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"    \toprule",
        "    " + " & ".join(["", *(escape(column.title) for column in table.columns)]).strip() + r" \\",
        r"    \midrule",
    ]
    before: bool | None = None
    for row, texts in zip(table.rows, grid(table), strict=True):
        if before is not None and before != row.control:
            lines.append(r"    \midrule")
        before = row.control
        title = escape(row.title)
        title = rf"\textit{{{title}}}" if row.control else title
        lines.append("    " + " & ".join([title, *map(escape, texts)]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return `text` with LaTeX's special characters escaped."""
    return one_line(text).translate(_ESCAPES)
