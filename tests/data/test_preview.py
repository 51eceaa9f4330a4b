"""The preview: learned text is marked with and without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from biddable.data.conversation import Conversation
from biddable.data.preview import preview
from biddable.data.templates import get_template
from tests.jinja_tokenizer import tokenizer_for
from tests.masks import assistant, user
from tests.odd_templates import WORKING
from tests.tiny import END, tiny_tokenizer


def show(conversations: list[Conversation], *, limit: int, colour: bool = False) -> str:
    tokenizer = tiny_tokenizer()
    out = io.StringIO()
    system = "standard" if colour else None
    console = Console(file=out, width=120, color_system=system, force_terminal=colour)
    console.print(preview(conversations, get_template("inst", tokenizer), tokenizer, limit=limit))
    return out.getvalue()


ROWS = [
    Conversation((user(f"say {word} [b]é"), assistant(f"{word}é")), "t.jsonl", line)
    for line, word in enumerate(["uno", "dos", "tres"], start=1)
]


def test_learned_text_is_in_brackets_and_rows_are_named() -> None:
    text = show(ROWS, limit=2)
    assert f"{END}[INST] say uno [b]é [/INST]⟦ unoé{END}⟧" in text
    assert "t.jsonl:2" in text
    assert "tres" not in text
    assert "2 of 3 rows shown. All: 3 of 3 rows kept" in text
    assert "learned (" in text


def test_learned_text_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    text = show(ROWS, limit=1, colour=True)
    assert "\x1b[1;4;32m⟦ uno" in text


def test_rows_that_teach_nothing_are_named() -> None:
    silent = Conversation((user("a"), assistant("b", learn=False)), "t.jsonl", 9)
    assert "t.jsonl:9: nothing in it is learned." in show([*ROWS, silent], limit=1)


def test_a_row_that_becomes_several_shows_each() -> None:
    tokenizer = tokenizer_for(WORKING["thoughts lost"])
    template = get_template("tokenizer", tokenizer)
    row = Conversation((user("a"), assistant("b"), user("c"), assistant("d")), "t.jsonl", 1)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(preview([row], template, tokenizer, limit=5))
    shown = console.export_text()
    assert shown.count("t.jsonl:1") == 2
    assert "⟦<think>\n\n</think>\n\nb<|im_end|>⟧" in shown
    assert "2 of 2 rows shown" in shown
    assert "1 rows became one for each answer" in shown
