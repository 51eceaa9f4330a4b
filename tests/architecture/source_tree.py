"""Read the package as text, for the tests that hold its shape."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "biddable"


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every module, by its name below ``biddable`` ("" is the package itself)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts).removesuffix("__init__").removesuffix(".")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def imported(tree: ast.AST) -> list[tuple[str, int]]:
    """List what is imported anywhere in a module, in functions too, with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def imported_modules(tree: ast.AST, known: dict[str, ast.Module]) -> list[tuple[str, int]]:
    """List which of our own modules are imported, as keys of ``known``, with the line."""
    found = []
    for name, line in imported(tree):
        first, _, rest = name.partition(".")
        if first != "biddable":
            continue
        # "data.encoding.encode" is in module "data.encoding"; "load" is in the package itself.
        while rest and rest not in known:
            rest = rest.rpartition(".")[0]
        found.append((rest, line))
    return found
