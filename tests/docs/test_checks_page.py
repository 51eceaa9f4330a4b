"""docs/checks.md shows every kind of check, and its examples are judged as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from biddable.evaluation.check_forms import _KEYS, KINDS
from biddable.evaluation.checks import run_check

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "checks.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (\w+)\n.*?```json\n(.*?)\n```\n", PAGE, re.MULTILINE | re.DOTALL))


def test_every_kind_has_an_example() -> None:
    assert tuple(EXAMPLES) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_named_in_its_section(kind: str) -> None:
    text = re.search(rf"^## {kind}\n(.*?)```json", PAGE, re.MULTILINE | re.DOTALL)
    assert text is not None
    named = set(re.findall(r"`(\w+\??)`", text[1]))
    is_choice = kind == "json"  # either of its two
    for key, expected in _KEYS[kind].items():
        is_needed = expected.startswith("!") or is_choice
        assert (key if is_needed else f"{key}?") in named, key


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_are_judged_as_the_page_says(kind: str) -> None:
    example = json.loads(EXAMPLES[kind])
    assert example["check"]["kind"] == kind
    assert example["right"]
    assert example["wrong"]
    for output in example["right"]:
        assert run_check(example["check"], output).passed, output
    for output in example["wrong"]:
        assert not run_check(example["check"], output).passed, output
