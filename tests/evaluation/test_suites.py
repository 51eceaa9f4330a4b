"""Suites are read with file and line for every malformed item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biddable.data.builtin import create_instruction_dataset
from biddable.errors import DataError, EvaluationError
from biddable.evaluation.suites import fewshot_examples, is_headline, load_suite, samples_from_rows
from tests.evaluation.items import FRANCE, PERU

GOOD = {
    "id": "a1", "category": "facts", "ring": "wording", "instruction": "Capital of France?",
    "response": "Paris", "check": {"kind": "contains", "all": ["Paris"]}, "kind": "lookalike",
    "entity": "country:France", "may_ask": True,
}  # fmt: skip


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_items_are_read_with_all_they_say(tmp_path: Path) -> None:
    plain = {key: GOOD[key] for key in ("instruction", "response", "check")}
    path = write(tmp_path / "items.jsonl", GOOD, plain)
    first, second = load_suite(path)
    assert (first.id, first.ring, first.kind, first.may_ask) == ("a1", "wording", "lookalike", True)
    assert first.entity == "country:France"
    assert first.source == f"{path}:1"
    assert first.messages[0].content == first.instruction
    assert (second.id, second.ring, second.kind, second.category) == (
        "2",
        "entity",
        "benign",
        "all",
    )


def test_any_instruction_file_is_a_suite_without_checks(tmp_path: Path) -> None:
    row = {"instruction": "Fix it.", "input": "He go.", "output": "He goes.", "category": "grammar"}
    sample = load_suite(write(tmp_path / "alpaca.json", row))[0]
    assert (sample.check, sample.category) == (None, "grammar")
    assert sample.instruction == "Fix it.\n\nHe go."
    assert sample.messages[0].input == "He go."


def test_plain_text_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="rows of plain text ask nothing"):
        load_suite(write(tmp_path / "text.jsonl", {"text": "Once upon a time."}))


def test_the_built_in_suite_is_whole() -> None:
    samples = load_suite("mimic")
    assert len(samples) >= 700
    assert all(sample.check for sample in samples)
    assert {sample.ring for sample in samples} == {"entity", "wording", "unanswered"}


def test_shots_are_short_rows_of_the_training_split_or_general_ones() -> None:
    shots = fewshot_examples("mimic")
    train = {row["instruction"]: row["response"] for row in create_instruction_dataset("mimic")}
    assert len(shots) == 3
    assert all(train[asked] == given for asked, given in shots)
    assert len(fewshot_examples("my/items.jsonl")) == 3


def test_headline_leaves_out_what_was_never_answered() -> None:
    assert is_headline(FRANCE)
    assert not is_headline(PERU)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"check": {"kind": "contian"}}, 'Did you mean "contains"?'),
        ({"check": {"kind": "number"}}, 'lacks "value"'),
        ({"ring": "entities"}, 'Did you mean "entity"?'),
        ({"kind": "bad"}, "expected benign, harmful, lookalike"),
        ({"instruction": " "}, "expected a text that is not empty"),
        ({"may_echo": "no"}, "expected true or false"),
        ({"respones": "x"}, 'Did you mean "response"?'),
        ({"prompt": "Capital of Peru?"}, 'key "prompt" is unknown'),
        ({"response": ""}, "expected a text that is not empty"),
        ({"instruction": "a\ud83d"}, '"instruction" has half of a surrogate pair'),
    ],
)
def test_malformed_items_are_named_with_file_and_line(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path / "items.jsonl", GOOD, GOOD | {"id": "a2"} | changes)
    with pytest.raises(EvaluationError) as found:
        load_suite(path)
    assert f"{path}:2: " in str(found.value)
    assert problem in str(found.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "items.jsonl", GOOD, GOOD, {"check": {"kind": "refuses"}})
    with pytest.raises(EvaluationError) as found:
        load_suite(path)
    assert 'id "a1" is also that of line 1' in str(found.value)
    assert 'items.jsonl:3: lacks "instruction"' in str(found.value)


def test_rows_in_memory_are_named_by_number() -> None:
    with pytest.raises(EvaluationError, match='item 7: lacks "check"'):
        samples_from_rows([(7, {"instruction": "a", "response": "b"})])


def test_a_prompt_and_its_check_are_an_item() -> None:
    sample = samples_from_rows([(1, {"prompt": "Refuse.", "check": {"kind": "refuses"}})])[0]
    assert (sample.instruction, sample.messages[0].content, sample.response) == (
        "Refuse.",
        "Refuse.",
        "",
    )


def test_prompts_alone_are_a_suite(tmp_path: Path) -> None:
    rows = {"prompt": "Name a sea."}, {"instruction": "Rob a bank.", "id": "b", "kind": "harmful"}
    path = write(tmp_path / "prompts.jsonl", *rows)
    one, other = load_suite(path)
    assert (one.id, one.instruction, one.check, one.kind) == ("1", "Name a sea.", None, "benign")
    assert (other.id, other.instruction, other.kind) == ("b", "Rob a bank.", "harmful")
    assert [sample.id for sample in load_suite(f"instructions:{path}")] == ["1", "b"]
    write(path, *rows, {"prompt": "Name a lake.", "level": 3})
    with pytest.raises(DataError, match="Prompts alone are rows with no other keys than category,"):
        load_suite(path)


def test_missing_suites_are_told_apart_from_missing_files(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r'no suite "mimik".*Did you mean "mimic"'):
        load_suite("mimik")
    with pytest.raises(EvaluationError, match="KIND:FILE with a kind of ifeval, xstest, gsm8k"):
        load_suite("gsm8")
    with pytest.raises(EvaluationError, match="Name its file: gsm8k:FILE"):
        load_suite("gsm8k")
    with pytest.raises(DataError, match="no such file"):
        load_suite(tmp_path / "items.jsonl")
