"""Imports go down only, in the order that CONTRIBUTING.md gives, and nothing goes in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import minilm_lab

PACKAGE = Path(minilm_lab.__file__).parent
#: From the top floor down. Rooms of one floor do not import each other; `runs` and `reports` serve every floor.
FLOORS = ["commands", "studies", "benchmarks", "training exporting", "tasks objectives", "evaluation", "data", "models", "relations"]  # fmt: skip
LEVEL = {room: number for number, floor in enumerate([*FLOORS, "reports", "runs"]) for room in floor.split()}


def executed(tree: ast.AST) -> list[ast.AST]:
    """Every node, also inside functions, but those under `if TYPE_CHECKING`."""
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.unparse(tree.test):
        return []
    return [tree, *(node for child in ast.iter_child_nodes(tree) for node in executed(child))]


def imports() -> dict[str, set[str]]:
    """Module -> the modules of the lab that it imports anywhere."""
    places = {
        file: ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for file in PACKAGE.rglob("*.py")
    }
    modules = {file: name.removesuffix(".__init__") for file, name in places.items()}
    used: dict[str, set[str]] = {}
    for file, module in modules.items():
        names: set[str] = set()
        for node in executed(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        used[module] = (names & set(modules.values())) - {"minilm_lab", module}
    return used


def room(module: str) -> str:
    """The folder of a module; the files beside the folders have none."""
    name = module.split(".")[1] if "." in module else ""
    return name if (PACKAGE / name).is_dir() else ""


def test_imports_go_down_only() -> None:
    pairs = [
        (module, target)
        for module, used in imports().items()
        for target in used
        if module != "minilm_lab.__main__"
    ]
    wrong = [
        f"{module} imports {target}"
        for module, target in pairs
        if room(target)
        and room(target) != room(module)
        and LEVEL[room(target)] <= LEVEL.get(room(module), 99)
    ]
    assert not wrong, wrong


def test_nothing_goes_in_a_circle() -> None:
    # A package's own file names what lies in it, which is no circle.
    graph = {m: {t for t in used if not m.startswith(f"{t}.")} for m, used in imports().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
