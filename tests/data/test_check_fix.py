"""Hold what is mended, and that nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from biddable.data.check_fix import clean_text, fix_rows

Row = dict[str, Any]


def fix(*rows: Row) -> tuple[list[Row], list[str]]:
    kept, changes = fix_rows(list(enumerate(rows, start=1)), path="a.jsonl")
    return kept, [str(change) for change in changes]


def test_white_space_and_control_characters_go() -> None:
    kept, changes = fix({"instruction": " Go.\n", "output": "\n\nGo\x00ne. ", "id": " 7 "})
    assert kept == [{"instruction": "Go.", "output": "Gone.", "id": " 7 "}]
    assert changes == [
        'a.jsonl:1: white space trimmed in "instruction".',
        'a.jsonl:1: control characters removed in "output".',
        'a.jsonl:1: white space trimmed in "output".',
    ]


def test_whole_terminal_sequences_go() -> None:
    assert clean_text("a \x1b[31mred\x1b[0m word")[0] == "a red word"


def test_the_indentation_of_code_stays() -> None:
    code = "    if x:\n        return y"
    assert clean_text(f"\n{code}\n") == (code, ["white space trimmed"])
    assert clean_text("  plain") == ("plain", ["white space trimmed"])


def test_messages_are_mended_one_by_one() -> None:
    turns = [{"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Yo.", "x": 1}]
    kept, changes = fix({"messages": turns})
    assert kept[0]["messages"][0] == {"role": "user", "content": "Hi"}
    assert kept[0]["messages"][1] == turns[1]
    assert changes == ["a.jsonl:1: white space trimmed in message 1."]
    assert turns[0]["content"] == "Hi "  # what was given is not changed


def test_rows_without_prompt_or_answer_go() -> None:
    rows = (
        {"instruction": "Go.", "output": " \n"},
        {"prompt": "\x00", "response": "Gone."},
        {"messages": []},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": " "}]},
    )
    kept, changes = fix(*rows)
    assert kept == []
    assert [change.split()[:2] for change in changes] == [
        [f"a.jsonl:{n}:", "dropped:"] for n in range(1, 6)
    ]


def test_signs_that_cannot_be_seen_are_no_answer() -> None:
    kept, changes = fix({"instruction": "Go.", "output": "\u200b\u200b"})
    assert (kept, len(changes)) == ([], 1)


def test_a_call_without_text_stays() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}
    assert fix({"messages": [{"role": "user", "content": "Hi"}, call]})[1] == []


def test_repeats_go_whatever_their_other_keys_are() -> None:
    kept, changes = fix(
        {"prompt": "Hi", "response": "Yo.", "id": 1},
        {"prompt": "Hi", "response": "Hey.", "id": 2},
        {"prompt": "Hi\n", "response": "Yo.", "id": 3},
    )
    assert [row["id"] for row in kept] == [1, 2]
    assert changes == ["a.jsonl:3: dropped: it says the same as line 1."]


def test_what_only_looks_alike_stays() -> None:
    rows = (
        {"prompt": "Hi", "response": "Yo."},
        {"prompt": "hi", "response": "Yo."},
        {"text": "Hi Yo."},
        {"strange": 1},
        {"strange": 2},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo."}]},
        {"messages": ["no message"]},
        {"prompt": 3, "response": None},
    )
    assert fix(*rows) == (list(rows), [])


TEXTS = st.text(st.sampled_from("ab .\n\t\x00é"), max_size=8)
PAIRS = st.lists(st.fixed_dictionaries({"prompt": TEXTS, "response": TEXTS, "id": st.integers()}))


@given(PAIRS)
def test_nothing_is_lost_unsaid(rows: list[Row]) -> None:
    before = json.dumps(rows)
    kept, changes = fix(*rows)
    assert json.dumps(rows) == before
    dropped = {int(change.split(":")[1]) for change in changes if "dropped" in change}
    assert len(kept) + len(dropped) == len(rows)
    left = [row for n, row in enumerate(rows, start=1) if n not in dropped]
    for row, mended in zip(left, kept, strict=True):
        assert mended["id"] == row["id"]
        assert mended["prompt"] == clean_text(row["prompt"])[0]
    assert fix(*kept) == (kept, [])  # mended once is mended
