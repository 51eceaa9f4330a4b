"""Converting: files of every kind hold the same rows, and what cannot be carried is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biddable.data.convert import convert, write_rows
from biddable.data.readers import ReadOptions, read_conversations, read_rows
from biddable.data.tables import plan_columns
from biddable.errors import ConfigError, DataError
from tests.data.test_formats import JSON

KINDS = ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.zst", "a.csv", "a.tsv", "a.csv.gz", "a.parquet"]
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ROW = st.dictionaries(
    st.sampled_from(["prompt", "id", "messages", "system", "tools"]) | NAMES,
    JSON,
    min_size=1,
    max_size=4,
)


def normal(row: dict[str, Any]) -> dict[str, Any]:
    """Take out what a table says by an empty cell: a text that means none if it is empty."""
    optional = ("input", "context", "system", "category")
    return {key: value for key, value in row.items() if not (key in optional and value == "")}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=1, max_size=4))
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_holds_the_same_rows(name: str, rows: list[dict[str, Any]]) -> None:
    path = Path(name)
    write_rows(path, rows, plan=plan_columns(rows, is_text="csv" in name or "tsv" in name))
    assert [normal(row) for _, row in read_rows(path)] == [normal(row) for row in rows]
    assert [entry.name for entry in Path().iterdir() if not entry.name.startswith(".h")] == [name]


def rows_of(path: str, *rows: dict[str, Any]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ALPACA = [
    {"instruction": "Fix it.", "input": "He go.", "output": "He goes.", "id": 1},
    {"instruction": "Say\nhi.", "input": "", "output": 'Hi, "you";', "category": "greeting"},
]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_goes_through_every_kind_and_format_and_back(name: str) -> None:
    source = rows_of("rows.jsonl", *ALPACA)
    for form in ("messages", "sharegpt", "prompt-completion", "instruction-response"):
        found = convert(source, f"{form}-{name}", to=form)
        assert (found.num_rows, found.files[0].format) == (2, "alpaca")
        assert read_conversations(f"{form}-{name}")[1].category == "greeting"
        convert(f"{form}-{name}", "back.jsonl", to="alpaca")
        back = [row for _, row in read_rows("back.jsonl")]
        if form == "instruction-response":
            assert back == ALPACA
        assert back[1] == ALPACA[1]


def test_columns_of_messages_are_those_that_others_read() -> None:
    convert(rows_of("rows.jsonl", *ALPACA), "a.parquet", to="messages")
    schema = pyarrow.parquet.read_schema("a.parquet")
    assert schema.names == ["messages", "id", "category"]
    assert str(schema.field("messages").type) == (
        "list<element: struct<role: string, content: string>>"
    )
    convert("rows.jsonl", "a.csv", to="alpaca")
    assert Path("a.csv").read_text().splitlines()[0] == "instruction,input,output,id:json,category"


def test_rows_that_cannot_be_carried_are_all_named_and_nothing_is_written() -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    source = rows_of("a.jsonl", {"messages": chat}, {"messages": chat * 2}, {"messages": chat * 3})
    with pytest.raises(DataError) as caught:
        convert(source, "b.jsonl", to="alpaca")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["a.jsonl:2", "a.jsonl:3"]
    assert lines[0].endswith(
        "cannot be written as alpaca: it has the messages user, assistant, user, assistant, and a"
        " pair is one turn of each. Choose another format, or take it out."
    )
    assert [path.name for path in Path().glob("*")] == ["a.jsonl"] or not Path("b.jsonl").exists()


def test_a_bad_source_writes_nothing() -> None:
    source = rows_of("a.jsonl", *ALPACA, {"instruction": "a", "output": ""})
    with pytest.raises(DataError, match=r'^a\.jsonl:3: "output" is empty'):
        convert(source, "b.csv", to="messages")
    assert not Path("b.csv").exists()


@pytest.mark.parametrize(
    ("target", "to", "expected"),
    [
        ("b.jsonl", "chatml", r'^no format "chatml"; known: messages, sharegpt,'),
        ("b.txt", "messages", r"^b\.txt: no kind of file to write; its name should end in \.jsonl"),
        ("b.parquet.gz", "messages", r"^b\.parquet\.gz: no kind of file to write"),
    ],
)
def test_targets_that_there_are_not(target: str, to: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        convert(rows_of("a.jsonl", *ALPACA), target, to=to)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"^no/b\.jsonl: cannot be written: no such folder\.$"):
        convert(rows_of("a.jsonl", *ALPACA), "no/b.jsonl", to="messages")
    Path("b.jsonl").mkdir()
    with pytest.raises(DataError, match=r"^b\.jsonl: cannot be written: Is a directory\.$"):
        convert("a.jsonl", "b.jsonl", to="messages")


def test_options_reach_the_reader() -> None:
    source = rows_of("a.jsonl", {"text": "t", "prompt": "a", "response": "b"})
    with pytest.raises(DataError, match="would make it a row of prompt-response"):
        convert(source, "b.jsonl", to="text", options=ReadOptions("text"))


def test_a_table_of_one_column_is_parted_as_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\nOne, two.\nThree; four.\n", encoding="utf-8")
    assert [row.text for row in read_conversations(path)] == ["One, two.", "Three; four."]
