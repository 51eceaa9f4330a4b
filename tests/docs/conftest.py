"""Give pages that are run a few rows of the built-in data, and the examples beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from biddable.data import builtin
from biddable.data.builtin import builtin_path

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for split, num in (("train", 16), ("held_out", 8)):  # the demo's prompts are the first held out
        path = builtin_path("mimic", split)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:num]), encoding="utf-8")
    monkeypatch.setattr(builtin, "_FOLDER", folder)
    shutil.copytree(ROOT / "examples", "examples")
