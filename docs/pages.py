"""Pages that are made from the code when the site is built: one an objective, one an experiment, the notebook.

An objective's page comes from its YAML, the docstring of its dataclass and of its settings, and what the committed
tables measured; an experiment's page is its README with its pictures.
"""

from __future__ import annotations

import ast
import base64
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mkdocs_gen_files
import yaml

from minilm_lab.config import locate

ROOT = Path(__file__).resolve().parents[1]


def settings(schema: type[Any]) -> dict[str, str]:
    """Field -> its docstring, of a dataclass and those it extends."""
    said: dict[str, str] = {}
    for base in reversed(schema.__mro__[:-1]):
        if not base.__module__.startswith("minilm_lab."):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                said[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return said


def objective(file: Path) -> str:
    """The page of an objective."""
    text = file.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    schema = locate(values.pop("_target_"), "objective")
    comment = " ".join(line.removeprefix("#").strip() for line in text.split("_target_")[0].splitlines())
    documented = settings(schema)
    rows = [
        f"| `{name}` | `{json.dumps(value)}` | {documented.get(name, '')} |" for name, value in values.items()
    ]
    parts = [
        f"# {file.stem}",
        comment,
        f"```bash\nminilm-lab distill objective={file.stem}\nminilm-lab finetune objective={file.stem} task=sentiment\n```"
        if file.stem != "sum"
        else "",
        inspect.cleandoc(schema.__doc__ or ""),
        "Shapes: B samples, L tokens, D width, A attention heads, M masked positions, V vocabulary.",
        "\n".join(["## Settings", "", "| setting | default | meaning |", "|---|---|---|", *rows])
        if rows
        else "",
        "\n".join(measured(file.stem)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measured(name: str) -> Iterator[str]:
    """What the table of all objectives at one budget says of it, beside the rest."""
    table = json.loads((ROOT / "experiments/objectives/results/demo/table.json").read_text(encoding="utf-8"))
    averaged = [
        column["key"] for column in table["columns"] if column.get("averaged") and column["kind"] == "score"
    ]

    def mean(row: str) -> float | None:
        scores = [table["cells"][row].get(column, {}).get("values") for column in averaged]
        return sum(sum(s) / len(s) for s in scores) / len(scores) if all(scores) else None

    means = {row["key"]: (row["title"], mean(row["key"])) for row in table["rows"]}
    if name not in means:
        return
    yield from ("## Measured here", "", "Every objective at the same small budget, from the same weights ")
    yield "([the table](../experiments/objectives.md), with its spread, which few of these differences exceed):\n"
    yield from ("| objective | average |", "|---|---:|")
    for key, (title, average) in sorted(means.items(), key=lambda item: -(item[1][1] or 0)):
        mark = "**" if key == name else ""
        yield (
            f"| {mark}{title}{mark} | {mark}{average:.1f}{mark} |"
            if average is not None
            else f"| {title} | – |"
        )


def experiment(folder: Path) -> str:
    """The README of an experiment; its pictures are copied, other links lead nowhere on the site and become text."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+\.png)\)", text):
        with mkdocs_gen_files.open(f"experiments/{folder.name}/{picture}", "wb") as copy:
            copy.write((folder / picture).read_bytes())
        text = text.replace(f"({picture})", f"({folder.name}/{picture})")
    for table in sorted(folder.glob("results/*/table.md")):
        text += f"\n\n## Result at scale `{table.parent.name}`\n\n{table.read_text(encoding='utf-8')}"
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!http)[^)#]+\)", r"\1", text)
    return text


def notebook(file: Path) -> str:
    """A notebook as Markdown, with the outputs that are saved in it; its pictures are copied."""
    parts = []
    for number, cell in enumerate(json.loads(file.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{file.stem}/{number}.png"
                with mkdocs_gen_files.open(picture, "wb") as copy:
                    copy.write(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell above shows]({picture})")
            elif text := "".join(data.get("text/plain", "")).rstrip():
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(
        [*parts, f"[The notebook]({file.name}) itself; a test runs it from its first cell to its last.\n"]
    )


def write(place: str, text: str) -> None:
    """A page of the site."""
    with mkdocs_gen_files.open(place, "w") as page:
        page.write(text)


write("a_notebook.md", notebook(ROOT / "docs/notebook.ipynb"))
pages = sorted((ROOT / "conf/objective").glob("[!_]*.yaml"))
for file in pages:
    write(f"objectives/{file.stem}.md", objective(file))
write(
    "objectives/index.md", "# Objectives\n\n" + "\n".join(f"- [{p.stem}]({p.stem}.md)" for p in pages) + "\n"
)
folders = sorted(file.parent for file in (ROOT / "experiments").glob("*/README.md"))
for folder in folders:
    write(f"experiments/{folder.name}.md", experiment(folder))
write(
    "experiments/index.md",
    "# Experiments\n\n" + "\n".join(f"- [{f.name}]({f.name}.md)" for f in folders) + "\n",
)
