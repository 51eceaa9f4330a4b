from __future__ import annotations

import pytest

from biddable import errors
from biddable.errors import BiddableError, DataError, join_problems, nearest


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    listed = [line.strip(" -") for line in (errors.__doc__ or "").splitlines() if "- " in line]
    children = [
        child.__name__
        for child in BiddableError.__subclasses__()
        if child.__module__ == errors.__name__
    ]
    assert listed == ["BiddableError", *children]
    assert all("Raised" in (child.__doc__ or "") for child in BiddableError.__subclasses__())


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({}, "empty response."),
        ({"path": "a.jsonl"}, "a.jsonl: empty response."),
        ({"path": "a.jsonl", "line": 3}, "a.jsonl:3: empty response."),
        ({"line": 3}, "line 3: empty response."),
        ({"path": "a.jsonl", "line": 3, "message_index": 2}, "a.jsonl:3: empty response."),
    ],
)
def test_data_error_says_where(place: dict[str, object], expected: str) -> None:
    error = DataError("empty response.", **place)  # type: ignore[arg-type]
    assert str(error) == expected
    assert (error.path, error.line) == (place.get("path"), place.get("line"))
    assert error.message_index == place.get("message_index")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("mimik", ["mimic", "smollm2"], ' Did you mean "mimic"?'),
        ("Alpaca", ["inst", "alpaca"], ' Did you mean "alpaca"?'),
        ("gpt", ["inst", "alpaca"], ""),
        ("inst", [], ""),
    ],
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_join_problems_shows_twenty_and_counts_the_rest() -> None:
    problems = [f"a.jsonl:{line}: empty." for line in range(1, 24)]
    lines = join_problems(problems).splitlines()
    assert lines == [*problems[:20], "... and 3 more"]
    assert join_problems(problems[:20]).splitlines() == problems[:20]
