"""Where a conversation says it is from."""

from __future__ import annotations

from pathlib import Path

from biddable.data.conversation import Conversation


def test_source_names_as_much_of_the_place_as_is_known() -> None:
    assert Conversation((), "a.jsonl", 3).source == "a.jsonl:3"
    assert Conversation((), str(Path("a.jsonl"))).source == "a.jsonl"
    assert Conversation((), line=3).source == ""
