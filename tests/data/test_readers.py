"""Reading files: every format, every kind of bad input with its file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biddable.data.conversation import Conversation, Message
from biddable.data.readers import conversations_from_rows, read_conversations, read_rows
from biddable.errors import DataError


def write(name: str, *rows: Any) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def problem(path: str, content: str | bytes) -> str:
    """Write a file and return the message with which it is refused."""
    data = content.encode() if isinstance(content, str) else content
    Path(path).write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_conversations(path)
    return str(caught.value)


ANSWERED = (Message("user", "Hi"), Message("assistant", "Hello."))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Hi", "output": "Hello."},
        {"instruction": "Hi", "input": "", "output": "Hello."},
        {"instruction": "Hi", "input": None, "output": "Hello."},
        {"instruction": "Hi", "input": " \n", "output": "Hello.", "system": ""},
        {"instruction": "Hi", "response": "Hello."},
        {"prompt": "Hi", "completion": "Hello."},
        {"prompt": "Hi", "response": "Hello."},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello."},
            ]
        },
    ],
)
def test_every_format_gives_the_same_conversation(row: dict[str, Any]) -> None:
    path = write("rows.jsonl", row)
    assert read_conversations(path) == [Conversation(ANSWERED, "rows.jsonl", 1)]


@pytest.mark.parametrize("key", ["input", "context"])
def test_input_is_kept_apart(key: str) -> None:
    path = write("a.jsonl", {"instruction": "Fix it.", key: "He go.", "response": "He goes."})
    question = read_conversations(path)[0].messages[0]
    assert (question.content, question.input) == ("Fix it.", "He go.")
    assert question.text == "Fix it.\n\nHe go."


def test_system_and_category_of_a_pair_are_kept() -> None:
    row = {"system": "Be brief.", "prompt": "Hi", "response": "Hello.", "category": "greeting"}
    (conversation,) = read_conversations(write("a.jsonl", row))
    assert conversation.messages == (Message("system", "Be brief."), *ANSWERED)
    assert conversation.category == "greeting"


def test_messages_keep_their_learn_flag_and_a_tool() -> None:
    given = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "weather()", "learn": False},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "Yes."},
    ]
    (conversation,) = read_conversations(write("a.jsonl", {"messages": given}))
    assert [m.learn for m in conversation.messages] == [True, False, True, True]
    assert [m.role for m in conversation.messages] == ["user", "assistant", "tool", "assistant"]


def test_the_format_is_that_of_most_rows() -> None:
    """A first row that happens to fit another format as well does not decide."""
    rows = [
        {"instruction": "a", "output": "b", "response": "c"},
        {"instruction": "a", "response": "c"},
        {"instruction": "a", "response": "c"},
    ]
    conversations = read_conversations(write("a.jsonl", *rows))
    assert {c.messages[1].content for c in conversations} == {"c"}


def test_array_rows_know_the_line_they_start_on() -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d\n"}]
    Path("a.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    assert [line for line, _ in read_rows("a.json")] == [2, 6]
    assert [c.source for c in read_conversations("a.json")] == ["a.json:2", "a.json:6"]


def test_blank_lines_bom_crlf_and_line_separators_are_no_problem() -> None:
    row = json.dumps({"prompt": "a\u2028b", "response": "c"}, ensure_ascii=False)
    Path("a.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\r\n{row}".encode())
    assert [c.line for c in read_conversations("a.jsonl")] == [1, 3]


def test_missing_file() -> None:
    write("train.jsonl", {"prompt": "a", "response": "b"})
    with pytest.raises(DataError) as caught:
        read_conversations("trian.jsonl")
    assert str(caught.value) == 'trian.jsonl: no such file. Did you mean "train.jsonl"?'
    with pytest.raises(DataError, match=r"^nowhere/at/all\.jsonl: no such file\.$"):
        read_conversations(Path("nowhere/at/all.jsonl"))


def test_a_folder_is_not_a_file() -> None:
    Path("folder").mkdir()
    with pytest.raises(DataError, match=r"^folder: is a folder; expected a file\.$"):
        read_rows("folder")


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_empty_file(content: str) -> None:
    expected = "e.jsonl: the file is empty; expected JSON lines or a JSON array of objects."
    assert problem("e.jsonl", content) == expected


def test_empty_array() -> None:
    assert problem("e.json", "[ ]").startswith("e.json: has no rows;")


def test_not_json_names_each_line() -> None:
    assert problem("a.jsonl", '{"prompt": "a", "response": "b"}\n{"prompt" "a"}\nhello\n') == (
        "a.jsonl:2: not JSON at column 11 (Expecting ':' delimiter); expected an object {...}.\n"
        "a.jsonl:3: not JSON at column 1 (Expecting value); expected an object {...}."
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"prompt": "a",\n "response": "b"}\n {}]', "a.json:3: not JSON at column 2"),
        ('[{"prompt": "a",\n "response": }]', "a.json:2: not JSON at column 14"),
        ('[{"prompt": "a"},]', "a.json:1: not JSON at column 18"),
        ('[{"prompt": "a"}\n', "a.json:2: not JSON at column 1"),
        ("[\n{}] {}", "a.json:2: not JSON at column"),
        ("[", "a.json:1: not JSON"),
    ],
)
def test_a_broken_array_names_the_line(content: str, expected: str) -> None:
    assert expected in problem("a.json", content)


def test_one_object_over_many_lines_is_one_problem() -> None:
    expected = "a.json:1: one object fills the whole file; expected an object on each line"
    assert problem("a.json", '{\n "data": [\n]\n}\n').startswith(expected)


def test_a_file_of_one_row_with_a_key_twice_is_not_called_one_object() -> None:
    Path("a.jsonl").write_text(
        '{"prompt": "a", "prompt": "b", "response": "c"}\n', encoding="utf-8"
    )
    with pytest.raises(DataError, match=r'^a\.jsonl:1: the key "prompt" is given twice'):
        read_rows("a.jsonl")


def test_rows_that_are_no_objects() -> None:
    assert problem("a.json", '[1,\n"a", null, [], true, [1]]').splitlines() == [
        "a.json:1: a number instead of a row; expected an object {...}.",
        "a.json:2: a text instead of a row; expected an object {...}.",
        "a.json:2: null instead of a row; expected an object {...}.",
        "a.json:2: an empty list instead of a row; expected an object {...}.",
        "a.json:2: true or false instead of a row; expected an object {...}.",
        "a.json:2: a list instead of a row; expected an object {...}.",
    ]


def test_not_utf8_names_the_line() -> None:
    content = '{"prompt": "a", "response": "b"}\n{"prompt": "caf\xe9", "response": "b"}\n'
    message = problem("latin.jsonl", content.encode("latin-1"))
    assert message.startswith("latin.jsonl:2: byte 0xe9 is not UTF-8; save the file as UTF-8")


def test_wrong_keys_in_the_whole_file_suggest_the_nearest() -> None:
    assert problem("a.jsonl", '{"instruktion": "a", "output": "b"}') == (
        'a.jsonl:1: has keys "instruktion", "output"; expected "messages", "conversations",'
        ' "instruction" and "output", "instruction" and "response", "prompt" and "completion",'
        ' "prompt" and "response" or "text". Did you mean "instruction"?'
    )


@pytest.mark.parametrize(("asked", "answered"), [("question", "answer"), ("Q", "A")])
def test_keys_that_others_use_are_told_their_names(asked: str, answered: str) -> None:
    message = problem("a.jsonl", json.dumps({asked: "a", answered: "b"}))
    assert message.endswith(f' Rename "{asked}" to "instruction" and "{answered}" to "response".')


def test_wrong_keys_in_one_row_name_the_files_own_format() -> None:
    good = '{"prompt": "a", "response": "b"}\n'
    assert problem("a.jsonl", f'{good}{good}{{"prompt": "a", "respons": "b"}}\n{{}}') == (
        'a.jsonl:3: has keys "prompt", "respons"; expected "prompt" and "response".'
        ' Did you mean "response"?\n'
        'a.jsonl:4: has no keys; expected "prompt" and "response".'
    )


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_response(text: str) -> None:
    content = json.dumps({"instruction": "Hi", "response": text})
    expected = 'a.jsonl:1: "response" is empty; fill it in, or delete the row.'
    assert problem("a.jsonl", content) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": 4, "response": "b"}, 'a.jsonl:1: "prompt" holds a number; expected text.'),
        ({"prompt": "a", "response": None}, 'a.jsonl:1: "response" holds null; expected text.'),
        ({"prompt": "a", "response": {}}, 'a.jsonl:1: "response" holds an object; expected text.'),
        (
            {"instruction": "a", "input": [], "output": "b"},
            'a.jsonl:1: "input" holds an empty list; expected text.',
        ),
        ({"prompt": "a", "response": "\ud83d"}, 'a.jsonl:1: "response" has half of a surrogate'),
    ],
)
def test_texts_that_are_no_texts(row: dict[str, Any], expected: str) -> None:
    assert problem("a.jsonl", json.dumps(row)).startswith(expected)


ASKED = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("hello", '"messages" holds a text; expected a list of messages.'),
        ([], '"messages" holds an empty list; expected a list of messages.'),
        ([ASKED, 3], 'message 2 has a number; expected "role" and "content".'),
        (
            [{"from": "human", "value": "a"}],
            'message 1 has keys "from", "value"; expected "role" and "content".',
        ),
        (
            [ASKED, {"role": "asistant", "content": "b"}],
            'message 2 has role "asistant"; expected system, user, assistant or tool.'
            ' Did you mean "assistant"?',
        ),
        (
            [{"role": 1, "content": "b"}],
            "message 1 has role 1; expected system, user, assistant or tool.",
        ),
        ([ASKED], "ends with a message of the user; add the answer, or delete it."),
        (
            [ASKED, {"role": "assistant", "content": " "}],
            "message 2 (assistant) is empty; fill it in, or delete the row.",
        ),
        (
            [ASKED, {"role": "assistant", "content": "b", "learn": 1}],
            'message 2 has "learn" 1; expected true or false.',
        ),
    ],
)
def test_bad_messages(messages: Any, expected: str) -> None:
    assert problem("a.jsonl", json.dumps({"messages": messages})) == f"a.jsonl:1: {expected}"


def test_the_error_carries_its_place() -> None:
    path = write("a.jsonl", {"messages": [ASKED, {"role": "bot", "content": "b"}]})
    with pytest.raises(DataError) as caught:
        read_conversations(path)
    assert (caught.value.path, caught.value.line, caught.value.message_index) == (path, 1, 2)


def test_many_problems_are_counted() -> None:
    rows = [f'{{"prompt": "a", "response": "b", "system": {n}}}' for n in range(50)]
    assert problem("a.jsonl", "\n".join(rows)).endswith(
        " expected text. (So are 49 more rows: lines 2, 3, 4, 5, 6 and so on.)"
    )
    rows = [f'{{"prompt": "a", "response": "b", "side{n}": 1}}' for n in range(50)]
    message = problem("a.jsonl", "\n".join(rows).replace("prompt", "promt"))
    assert len(message.splitlines()) == 21
    assert message.splitlines()[0].startswith("a.jsonl:1: ")
    assert message.splitlines()[19].startswith("a.jsonl:20: ")
    assert message.splitlines()[20] == "... and 30 more"


def test_rows_in_memory_are_counted_from_their_own_number() -> None:
    with pytest.raises(DataError, match=r'^examples:7: "response" is empty'):
        conversations_from_rows([(7, {"prompt": "a", "response": ""})], path="examples")
    with pytest.raises(DataError, match=r'^line 7: "response" is empty'):
        conversations_from_rows([(7, {"prompt": "a", "response": ""})])


TestData = Callable[[str], Path]


def test_alpaca_file_of_the_field(test_data: TestData) -> None:
    conversations = read_conversations(test_data("rasbt_instructions/instruction-data.json"))
    assert len(conversations) == 1100
    assert conversations[0].line == 2
    assert conversations[0].messages[0].input == "freind --> friend"


def test_multi_turn_file_of_the_field(test_data: TestData) -> None:
    conversations = read_conversations(test_data("oasst/messages.jsonl"))
    assert len(conversations) == 564
    assert max(len(c.messages) for c in conversations) > 4


def test_prompt_response_file_of_the_field(test_data: TestData) -> None:
    path = test_data("dolly_small/dolly_hhrlhf_train_small.jsonl")
    assert len(read_conversations(path)) == 1000


def test_file_of_another_shape_is_refused_by_its_keys(test_data: TestData) -> None:
    with pytest.raises(DataError, match=r'gsm8k/test\.jsonl:1: has keys "question", "answer"'):
        read_conversations(test_data("gsm8k/test.jsonl"))
