"""Formats: each recognised by many rows, read, written, and carried through every other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biddable.config import parse_config
from biddable.config_data import DataConfig, Role, RowFormat
from biddable.data.conversation import CALLING, ROLES, Conversation, Message
from biddable.data.formats import FORMATS, MIXED, recognise
from biddable.data.json_rows import Limits
from biddable.data.problems import Problem
from biddable.data.readers import (
    ReadOptions,
    examine,
    examine_rows,
    iter_conversations,
    read_conversations,
)
from biddable.data.row_reading import read_row
from biddable.data.row_writing import write_row
from biddable.errors import ConfigError, DataError

USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello.")
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
TOOLS = [{"type": "function", "function": {"name": "rain", "parameters": {}}}]


def read(row: dict[str, Any], **options: Any) -> Conversation:
    conversations, problems = examine_rows([(1, row)], options=ReadOptions(**options))
    assert problems == []
    return conversations[0]


def problems_of(row: dict[str, Any], **options: Any) -> list[str]:
    _, problems = examine_rows([(1, row)], path="a", options=ReadOptions(**options))
    return [str(problem) for problem in problems]


def test_the_config_names_the_formats_roles_and_limits_that_there_are() -> None:
    assert set(get_args(RowFormat)) == {*FORMATS, MIXED}
    assert set(get_args(Role)) == {*ROLES, CALLING}
    data = DataConfig.model_validate({"train": "a"})
    assert Limits(data.max_file_bytes, data.max_line_bytes, data.max_ratio) == Limits()


# Reading.


def test_sharegpt_with_its_own_names_and_a_tool() -> None:
    row = {
        "system": "Be brief.",
        "tools": json.dumps(TOOLS),
        "conversations": [
            {"from": "human", "value": "Rain?"},
            {"from": "function_call", "value": json.dumps(CALL["function"])},
            {"from": "observation", "value": ""},
            {"from": "gpt", "value": "No.", "weight": 1},
            {"from": "human", "value": "Sure?", "note": 1},
            {"from": "gpt", "value": "Yes.", "weight": 0},
        ],
        "id": 7,
    }
    conversation = read(row)
    assert conversation.messages == (
        Message("system", "Be brief."),
        Message("user", "Rain?"),
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", ""),
        Message("assistant", "No."),
        Message("user", "Sure?", extra={"note": 1}),
        Message("assistant", "Yes.", learn=False),
    )
    assert (list(conversation.tools), conversation.extra) == (TOOLS, {"id": 7})


def test_role_map_names_other_sides() -> None:
    row = {
        "conversations": [{"from": "ai_user", "value": "Hi"}, {"from": "bot", "value": "Hello."}]
    }
    roles = {"ai_user": "user", "bot": "assistant"}
    assert read(row, role_map=roles).messages == (USER, ANSWER)
    messages = [{"role": "user", "content": "Hi"}, {"role": "model", "content": "Hello."}]
    assert read({"messages": messages}, role_map={"model": "assistant"}).messages == (USER, ANSWER)
    assert problems_of(row) == [
        'a:1: message 1 has role "ai_user"; expected human, gpt, system, function_call or'
        " observation. Map it with data.role_map: {ai_user: ROLE} (--role ai_user=ROLE).",
        'a:1: message 2 has role "bot"; expected human, gpt, system, function_call or'
        " observation. Map it with data.role_map: {bot: assistant} (--role bot=assistant).",
    ]


def test_calls_and_results_under_other_names_are_mapped() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "tool_use", "value": json.dumps(CALL["function"])},
            {"from": "env", "value": "dry"},
            {"from": "gpt", "value": "Hello."},
        ]
    }
    expected = (
        USER,
        Message("assistant", "", extra={"tool_calls": [CALL]}),
        Message("tool", "dry"),
        ANSWER,
    )
    roles = {"tool_use": "function_call", "env": "tool"}
    assert read(row, role_map=roles).messages == expected
    assert "{tool_use: function_call} (--role tool_use=function_call)" in problems_of(row)[0]
    row["conversations"][1]["value"] = "rain()"
    assert problems_of(row, role_map=roles) == [
        'a:1: message 2 (tool_use) is no JSON of {"name", "arguments"}.'
    ]
    chat = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "call", "content": json.dumps(CALL["function"])},
            {"role": "env", "content": "dry"},
            {"role": "assistant", "content": "Hello."},
        ]
    }
    roles = {"call": "function_call", "env": "tool"}
    assert read(chat, role_map=roles).messages == expected


def test_a_mapped_call_may_stay_text() -> None:
    call = json.dumps(CALL["function"])
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "fn", "value": call}]}
    assert read(row, role_map={"fn": "assistant"}).messages == (USER, Message("assistant", call))


def test_openais_older_function_call_is_a_tool_call() -> None:
    function = {"name": "rain", "arguments": '{"city": "Oslo"}'}
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "function_call": function},
            {"role": "function", "name": "rain", "content": "dry"},
            {"role": "assistant", "content": "Hello.", "function_call": None},
        ],
        "functions": [TOOLS[0]["function"]],
    }
    conversation = read(row)
    assert conversation.messages == (
        USER,
        Message(
            "assistant", "", extra={"tool_calls": [{"type": "function", "function": function}]}
        ),
        Message("tool", "dry", extra={"name": "rain"}),
        ANSWER,
    )
    assert (list(conversation.tools), conversation.extra) == (TOOLS, {})
    row["messages"][1]["function_call"] = "rain"
    assert problems_of(row) == [
        'a:1: message 2 has a "function_call" that holds a text; expected an object with "name" and'
        ' "arguments".'
    ]
    row["messages"][1]["function_call"] = function
    row["messages"][1]["tool_calls"] = [CALL]
    assert problems_of(row) == [
        'a:1: message 2 has both "tool_calls" and "function_call"; keep the first.'
    ]


def test_functions_that_are_none_are_another_key() -> None:
    row = {"prompt": "Hi", "completion": "Hello.", "functions": "sine, cosine"}
    conversation = read(row)
    assert (conversation.tools, conversation.extra) == ((), {"functions": "sine, cosine"})
    assert write_row(conversation, "prompt-completion") == row
    taken = dataclasses.replace(conversation, extra={"functions": [{"name": "rain"}]})
    assert isinstance(write_row(taken, "messages"), Problem)


def test_openai_tool_calls_need_no_content() -> None:
    call = {**CALL, "id": "c1"}
    for content in ({"content": None}, {"content": ""}, {}):
        row = {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", **content, "tool_calls": [call]},
                {"role": "tool", "content": "dry", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Hello.", "tool_calls": None},
            ],
            "tools": TOOLS,
        }
        conversation = read(row)
        assert conversation.messages == (
            USER,
            Message("assistant", "", extra={"tool_calls": [call]}),
            Message("tool", "dry", extra={"tool_call_id": "c1"}),
            ANSWER,
        )
        assert list(conversation.tools) == TOOLS


def test_text_parts_are_joined_and_images_refused() -> None:
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    row = {
        "messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Hello."}]
    }
    assert read(row).messages == (USER, ANSWER)
    parts.append({"type": "image_url", "image_url": {"url": "x"}})  # type: ignore[dict-item]
    assert problems_of(row) == [
        'a:1: message 1 (user) has a part of type "image_url"; only text can be learned. Take the'
        " part or the row out."
    ]


def test_prompt_and_completion_as_messages_learn_the_completion() -> None:
    row = {
        "prompt": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Hi"},
        ],
        "completion": [{"role": "assistant", "content": "Hello."}],
    }
    unlearned = dataclasses.replace(ANSWER, learn=False)
    assert read(row).messages == (USER, unlearned, USER, ANSWER)
    row["completion"] = [{"role": "model", "content": "Hello."}]
    assert read(row, role_map={"model": "assistant"}).messages == (USER, unlearned, USER, ANSWER)


def test_history_of_an_alpaca_row_comes_first() -> None:
    row = {"instruction": "Hi", "output": "Hello.", "history": [["a", "b"]], "system": "s"}
    assert [m.content for m in read(row).messages] == ["s", "a", "b", "Hi", "Hello."]
    assert problems_of({**row, "history": ["a"]}) == [
        'a:1: "history" holds a text; expected pairs of two texts.'
    ]


def test_text_rows_have_no_turns() -> None:
    assert read({"text": "Once.", "source": "x"}) == Conversation(
        (), None, 1, text="Once.", extra={"source": "x"}
    )
    assert problems_of({"text": " "}) == ['a:1: "text" is empty; fill it in, or delete the row.']


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"conversations": [{"value": "a"}]}, 'message 1 has keys "value"; expected "from" and'),
        ({"conversations": "a"}, '"conversations" holds a text; expected a list of messages.'),
        (
            {"conversations": [{"from": "human", "value": "a"}]},
            "ends with a message of the user; add the answer, or delete it.",
        ),
        (
            {"conversations": [{"from": "function_call", "value": "rain()"}]},
            'message 1 (function_call) is no JSON of {"name", "arguments"}.',
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": "rain"}]},
            'message 1 has "tool_calls" that hold a text; expected a list of calls.',
        ),
        (
            {"messages": [{"role": "assistant", "content": "a", "learn": True, "weight": 0}]},
            'message 1 has "learn" and "weight", which disagree; keep one.',
        ),
        (
            {"system": "s", "messages": [{"role": "system", "content": "t"}]},
            '"system" stands beside a system message; keep one of the two.',
        ),
        ({"prompt": "a", "completion": "b", "tools": "x"}, '"tools" holds a text that is no JSON'),
        ({"prompt": "a", "completion": "b", "tools": [1]}, '"tools" holds a list; expected a list'),
        ({"prompt": ["a"], "completion": "b"}, "message 1 has a text; expected"),
        ({"prompt": "a", "completion": b"b"}, '"completion" holds a value of type bytes; expected'),
    ],
)
def test_rows_that_cannot_be_read(row: dict[str, Any], expected: str) -> None:
    assert problems_of(row)[0].startswith(f"a:1: {expected}")


# Recognising.


def lines(path: str, *rows: dict[str, Any]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_was_recognised_is_said() -> None:
    alpaca = {"instruction": "a", "input": "", "output": "b", "text": "a b"}
    reading = examine(lines("a.jsonl", *[alpaca] * 1100))
    assert (reading.format, reading.num_rows) == ("alpaca", 1100)
    assert reading.summary() == "a.jsonl: 1,100 rows, recognised as alpaca (1,100 of 1,100)"
    told: list[Any] = []
    assert len(list(iter_conversations("a.jsonl", tell=told.append))) == 1100
    assert tuple(told) == reading.files


def test_what_few_rows_are_is_not_called_recognised() -> None:
    rows = [{name: "a" for name in keys} for keys in FORMATS.values()][2:]
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    reading = examine(lines("a.jsonl", chat, *rows))
    expected = "a.jsonl: 6 rows, taken for messages, which only 1 of 6 rows are"
    assert reading.summary() == expected


def test_the_first_rows_alone_do_not_decide() -> None:
    first = {"instruction": "a", "output": "b"}
    rest = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    reading = examine(lines("a.jsonl", *[first] * 400, *[rest] * 600))
    assert reading.summary() == "a.jsonl: 1,000 rows, recognised as sharegpt (600 of 1,000)"
    assert [problem.line for problem in reading.problems] == list(range(1, 401))
    assert reading.problems[0].message == (
        'has keys "instruction", "output"; expected "conversations". The row is of the format'
        " alpaca, and the file was taken for sharegpt. Keep the two in files of their own, or have"
        " each row read by itself: data.format: mixed (--from mixed)."
    )
    with pytest.raises(DataError, match=r"^a\.jsonl:1: has keys"):
        next(iter_conversations("a.jsonl"))
    mixed = examine("a.jsonl", options=ReadOptions("mixed"))
    assert (len(mixed.conversations), mixed.problems) == (1000, [])
    assert mixed.summary() == "a.jsonl: 1,000 rows, read as mixed (1,000 of 1,000)"


def test_a_format_that_is_told_is_taken() -> None:
    path = lines("a.jsonl", {"instruction": "a", "output": "b", "text": "c"})
    (conversation,) = read_conversations(path, options=ReadOptions("text"))
    assert conversation.text == "c"
    with pytest.raises(DataError, match=r'^a\.jsonl:1: has keys .* expected "conversations"'):
        read_conversations(path, options=ReadOptions("sharegpt"))
    with pytest.raises(ConfigError, match=r'^no format "alpacca"; .* Did you mean "alpaca"\?$'):
        read_conversations(path, options=ReadOptions("alpacca"))


def test_rows_of_no_known_format_are_all_named() -> None:
    reading = examine(lines("a.jsonl", {"question": "a"}, {"question": "b"}))
    assert reading.summary() == "a.jsonl: 2 rows, of no known format"
    assert [problem.line for problem in reading.problems] == [1, 2]


def test_a_column_of_another_type_makes_no_format() -> None:
    rows = [{"messages": 3, "instruction": "a", "output": "b"}] * 3
    assert recognise(rows) == "alpaca"


# Writing, and the way through every format.

KEYS = st.sampled_from(["id", "source", "n", "x:json", "a,b", "Ü"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
EXTRA = st.dictionaries(KEYS, JSON, max_size=2)
CATEGORY = st.none() | TEXTS


@st.composite
def pairs(draw: st.DrawFn) -> Conversation:
    system = draw(st.none() | TEXTS)
    turns = (
        Message("user", draw(TEXTS), input=draw(st.just("") | TEXTS)),
        Message("assistant", draw(TEXTS)),
    )
    messages = (Message("system", system), *turns) if system else turns
    return Conversation(messages, None, None, draw(CATEGORY), extra=draw(EXTRA))


@st.composite
def chats(draw: st.DrawFn) -> Conversation:
    extra = st.dictionaries(
        st.sampled_from(["name", "note", "reasoning_content"]), JSON, max_size=1
    )
    messages = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(TEXTS), extra=draw(extra)))
        if draw(st.booleans()):
            call = draw(st.sampled_from([CALL, {**CALL, "id": "c1"}]))
            calls = {"tool_calls": [call] * draw(st.integers(1, 2))}
            messages.append(Message("assistant", draw(st.just("") | TEXTS), extra=calls))
            identity = draw(st.sampled_from([{}, {"tool_call_id": "c1"}]))
            messages.append(Message("tool", draw(st.just("") | TEXTS), extra=identity))
        messages.append(Message("assistant", draw(TEXTS), draw(st.booleans()), extra=draw(extra)))
    tools = tuple(draw(st.sampled_from([[], TOOLS])))
    return Conversation(tuple(messages), None, None, draw(CATEGORY), tools, extra=draw(EXTRA))


TEXT_ROWS = st.builds(
    lambda text, category, extra: Conversation((), None, None, category, text=text, extra=extra),
    TEXTS,
    CATEGORY,
    EXTRA,
)


def through(conversation: Conversation, form: str) -> Conversation | None:
    """Write and read again, as JSON; None where the format says that it cannot carry it."""
    row = write_row(conversation, form)
    if isinstance(row, Problem):
        assert row.code == "cannot-carry"
        return None
    row = json.loads(json.dumps(row))
    assert recognise([row]) == form
    found = read_row(row, form)
    assert isinstance(found, Conversation), found
    return found


def joined(conversation: Conversation) -> Conversation:
    """Take the inputs into their messages, as a format without a place for them does."""
    messages = tuple(
        dataclasses.replace(m, content=m.text, input="") for m in conversation.messages
    )
    return dataclasses.replace(conversation, messages=messages)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=pairs() | chats() | TEXT_ROWS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_format_carries_all_or_says_that_it_cannot(form: str, conversation: Conversation) -> None:
    found = through(conversation, form)
    if found is not None and found != conversation:
        assert found == joined(conversation)
        assert form in ("messages", "sharegpt", "prompt-completion")


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=pairs())
def test_every_format_of_turns_carries_a_pair_through_every_other(
    conversation: Conversation,
) -> None:
    forms = [form for form in FORMATS if form != "text"]
    for first in forms:
        there = through(conversation, first)
        assert there is not None, first
        for second in forms:
            back = through(there, second)
            assert back is not None, (first, second)
            assert joined(back) == joined(conversation)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=chats())
def test_messages_carry_every_chat(conversation: Conversation) -> None:
    assert through(conversation, "messages") == conversation
    assert through(conversation, "prompt-completion") == conversation


@pytest.mark.parametrize(
    ("conversation", "form", "expected"),
    [
        (
            Conversation((USER, ANSWER, USER, ANSWER), "a", 3),
            "alpaca",
            "it has the messages user, a",
        ),
        (Conversation((USER, ANSWER), "a", 3), "text", "it has turns, and a text has none"),
        (Conversation((), "a", 3, text="x"), "messages", "it is plain text, without turns"),
        (
            Conversation((USER, Message("assistant", "", extra={"tool_calls": [CALL]})), "a", 3),
            "alpaca",
            'a message has "tool_calls"',
        ),
        (
            Conversation(
                (USER, Message("assistant", "", extra={"tool_calls": [{**CALL, "id": "1"}]})),
                "a",
                3,
            ),
            "sharegpt",
            "ShareGPT has no place for a call's id, nor for words beside a call",
        ),
        (
            Conversation((USER, Message("tool", "", extra={"tool_call_id": "1"}), ANSWER), "a", 3),
            "sharegpt",
            "ShareGPT has no place for a tool_call_id",
        ),
        (
            Conversation((USER, Message("assistant", "b", learn=False)), "a", 3),
            "prompt-response",
            "its assistant message is not learned",
        ),
        (
            Conversation((USER, ANSWER), "a", 3, extra={"output": 1}),
            "alpaca",
            'its other key "output" has another meaning there',
        ),
        (
            Conversation((USER, ANSWER), "a", 3, extra={"messages": []}),
            "alpaca",
            "its other keys would make it a row of messages",
        ),
        (
            Conversation((USER, ANSWER), "a", 3, extra={"when": b"x"}),
            "alpaca",
            "a value of its other keys is no JSON (Object of type bytes",
        ),
        (
            Conversation((USER, Message("assistant", "b", extra={"from": "x"})), "a", 3),
            "sharegpt",
            'a message has another key "from"',
        ),
        (Conversation((ANSWER,), "a", 3), "prompt-completion", "it has no message before its"),
    ],
)
def test_what_a_format_cannot_carry_is_said(
    conversation: Conversation, form: str, expected: str
) -> None:
    problem = write_row(conversation, form)
    assert str(problem).startswith(f"a:3: cannot be written as {form}: {expected}")


def test_sources_of_a_config_are_written_as_plainly_as_they_were() -> None:
    base = {"model": "mimic", "output": "o"}
    for train in ("a", ["a", {"path": "b", "weight": 0.5}], {"path": "c", "format": "text"}):
        data = parse_config({**base, "data": {"train": train}}).model_dump(mode="json")["data"]
        assert data["train"] == train
