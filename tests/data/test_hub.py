"""Data sets of the hub, with a stand-in for the library that fetches them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from biddable.data.hub import is_hub_name
from biddable.data.readers import ReadOptions, examine, read_conversations
from biddable.errors import DataError

ROWS = [
    {"prompt": "a", "response": "b", "note": None},
    {"prompt": "c", "response": "d", "note": "e"},
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    import datasets

    calls: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, **options: Any) -> Any:
        calls.append((name, config, options))
        rows = datasets.Dataset.from_list(ROWS)
        return rows.to_iterable_dataset() if options["streaming"] else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_numbered_and_nulls_left_out(
    asked: list[tuple[Any, ...]], streaming: bool
) -> None:
    options = ReadOptions(streaming=streaming)
    found = read_conversations("org/name/small:test", options=options)
    assert asked == [("org/name", "small", {"split": "test", "streaming": streaming})]
    assert [c.source for c in found] == ["org/name/small:test:1", "org/name/small:test:2"]
    assert [c.extra for c in found] == [{}, {"note": "e"}]
    reading = examine("org/name", options=options)
    assert reading.summary() == "org/name: 2 rows, recognised as prompt-response (2 of 2)"
    assert asked[1][2]["split"] == "train"


def test_without_a_connection_the_name_is_said_to_be_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("datasets.config.HF_HUB_OFFLINE", "huggingface_hub.constants.HF_HUB_OFFLINE"):
        monkeypatch.setattr(name, True)  # it was read from the environment long ago
    with pytest.raises(DataError) as caught:
        read_conversations("org/nmae:train")
    message = str(caught.value)
    assert message.startswith("org/nmae:train: no such file or folder here, nor a data set in the")
    assert "HF_HUB_OFFLINE forbids asking the hub. Check the name and the connection" in message


def test_a_hub_that_is_not_there_is_not_asked_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in ("datasets.config.HF_ENDPOINT", "huggingface_hub.constants.ENDPOINT"):
        monkeypatch.setattr(name, "http://127.0.0.1:9")
    for name in ("datasets.config.HF_HUB_OFFLINE", "huggingface_hub.constants.HF_HUB_OFFLINE"):
        monkeypatch.setattr(name, False)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9 cannot be reached\. Check the name"):
        read_conversations("org/name")
    assert time.monotonic() - start < 10  # the library goes on asking for 23 s


def test_a_split_that_is_not_there_is_told_as_the_library_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets

    def load_dataset(*_: object, **__: object) -> None:
        raise ValueError('Unknown split "tset".')

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        read_conversations("org/name:tset")
    message = str(caught.value)
    assert message.startswith("org/name:tset: no such file or folder here, and as a data set on")
    assert message.endswith(
        '(Unknown split "tset".). Check the name, the split and the connection.'
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/name", True),
        ("org/name:train[:10%]", True),
        ("org/name/config", True),
        ("rows.jsonl", False),
        ("data/rows.jsonl", False),
        ("data/rows.CSV.GZ", False),
        ("/etc/passwd", False),
        ("a/b/c/d", False),
    ],
)
def test_names(name: str, expected: bool) -> None:
    assert is_hub_name(name) is expected
