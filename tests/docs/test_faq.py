"""docs/faq.md answers what people run into, and every answer is held by tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL))


@cache
def _tests_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_there_are_as_many_answers_as_there_were_pains() -> None:
    assert len(ENTRIES) >= 29


@pytest.mark.parametrize("symptom", ENTRIES)
def test_an_answer_is_held_by_tests_that_exist(symptom: str) -> None:
    held = ENTRIES[symptom].split("Held by:")
    assert len(held) == 2, "it names what holds it, once"
    named = re.findall(r"`(tests/\S+?\.py)::(test_\w+)`", held[1])
    assert named
    for path, name in named:
        assert name in _tests_of(path), f"{path} has no {name}"
