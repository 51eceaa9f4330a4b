"""Hold the sizes and names that CONVENTIONS and DESIGN section 2 ask for."""

from __future__ import annotations

import ast

from tests.architecture.source_tree import PACKAGE, modules

BANNED_NAMES = {"utils", "util", "helpers", "common", "manager", "handler", "misc"}


def test_files_are_short_enough_to_read() -> None:
    lines = {path: path.read_text().count("\n") for path in PACKAGE.rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}


def test_functions_are_short_enough_to_read() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert long == []


def test_functions_take_two_things_by_place() -> None:
    """Settings after the second are keyword-only; the learners' own signatures are given."""
    learners = {"format_instruction_example", "finetune_instruct_model", "compare_base_vs_instruct"}
    wrong = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.name not in learners
        and not name.startswith("cli")
        and len([a for a in node.args.args if a.arg not in ("self", "cls")]) > 4
    ]
    assert wrong == []


def test_modules_say_what_they_hold() -> None:
    parts = {part for name in modules() for part in name.split(".")}
    assert parts & BANNED_NAMES == set()
    assert [part for part in parts if part.endswith("_v2")] == []


def test_every_module_opens_with_a_docstring() -> None:
    assert [name for name, tree in modules().items() if not ast.get_docstring(tree)] == []
