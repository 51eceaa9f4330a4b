"""Each token has the kind that a reader would give it."""

from __future__ import annotations

import re

import pytest

from biddable.evaluation.token_classes import token_classes


def named(text: str, *, is_code: bool = False) -> dict[str, str]:
    """Cut a text as byte-level tokenizers do, a blank before its word."""
    spans = [match.span() for match in re.finditer(r" ?[^\W\d]+| ?\d+| ?[^\w\s]+|\s+", text)]
    kinds = token_classes(text, spans, is_code=is_code)
    return {text[a:b]: kind for (a, b), kind in zip(spans, kinds, strict=True)}


def test_kinds_of_prose() -> None:
    found = named("Where is it? The cat,\n  she said, ate 12 of them.")
    assert found == {
        "Where": "line start", " is": "function word", " it": "function word",
        "?": "punctuation", " The": "function word", " cat": "content word",
        ",": "punctuation", "\n  ": "white space", "she": "line start", " said": "content word",
        " ate": "content word", " 12": "digits", " of": "function word",
        " them": "function word", ".": "punctuation",
    }  # fmt: skip


def test_pieces_of_a_word_are_told_from_its_start() -> None:
    kinds = token_classes("A lighthouse isn't", [(0, 1), (1, 7), (7, 12), (12, 15), (15, 18)])
    assert kinds[1:3] == ["content word", "rest of a word"]
    assert kinds[4] == "rest of a word"
    # the first piece of "the" is a little word only if the word is that word
    assert token_classes("x them theory", [(1, 5), (6, 10)])[1] == "content word"


@pytest.mark.parametrize("is_code", [True, False])
def test_code_is_what_is_fenced_or_said_to_be(is_code: bool) -> None:
    text = "x = 1" if is_code else "So:\n```\nx = 1\n```\nand then 2"
    found = named(text, is_code=is_code)
    assert found[" ="] == found[" 1"] == "code"
    if not is_code:
        assert found["and"] == "line start"
        assert found[" 2"] == "digits"
