"""Hold that docs/data-check.md explains every finding, and none that there is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "data-check.md").read_text(encoding="utf-8")
LOOKS = ("check_rows", "privacy", "duplicates", "leaks", "language", "lengths")


def documented() -> set[str]:
    rows = re.findall(r"^\| (`[a-z`, -]+`) \| (?:error|warning) \|", PAGE, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}


def emitted() -> set[str]:
    """Take the first text of each ``Problem(...)``, ``_warning(...)`` and ``yield ..., ...``."""
    found = set()
    for name in LOOKS:
        path = ROOT / "src" / "biddable" / "data" / f"{name}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            first = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("Problem", "_warning", "_told"):
                    first = node.args[0]
                elif node.func.id == "_problem":
                    first = node.args[1]
            elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                first = node.value.elts[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
    return found


def test_every_finding_is_explained() -> None:
    assert emitted() == documented()
