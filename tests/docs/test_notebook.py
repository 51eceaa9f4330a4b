"""docs/tutorial.ipynb runs from top to bottom, as a reader runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run it with so many rows in a kernel of its own, and give all that it printed."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src")]))
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert first.source.startswith("NUM_ROWS = 320")
    first.source = f"NUM_ROWS = {num_rows}"
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    tables = [output.get("data", {}).get("text/plain", "") for output in outputs]
    return "".join([*(output.get("text", "") for output in outputs), *tables])


def test_it_runs_on_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = _run(16, monkeypatch)
    assert "s the capital of the" in printed  # the base asks on
    assert "3 steps" in printed


@pytest.mark.slow
def test_it_shows_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "The capital of France is Paris." in _run(320, monkeypatch)
