"""Sources of a config: mixed by weight, counted, none of them held out and learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biddable.config import parse_config
from biddable.config_data import DataConfig
from biddable.data.sources import draw, read_held_out, read_sources
from biddable.errors import ConfigError, DataError


def write(path: str, count: int, **more: Any) -> str:
    rows = [{"instruction": f"{path} {n}", "output": "b"} | more for n in range(count)]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(train: Any, **more: Any) -> DataConfig:
    return parse_config({"model": "m", "output": "o", "data": {"train": train, **more}}).data


def test_sources_are_read_each_in_its_own_way() -> None:
    write("a.jsonl", 3)
    Path("b.jsonl").write_text(json.dumps({"text": "Once."}) + "\n")
    bot = {"messages": [{"role": "me", "content": "a"}, {"role": "bot", "content": "b"}]}
    Path("c.jsonl").write_text(json.dumps(bot) + "\n")
    roles = {"me": "user", "bot": "assistant"}
    found = read_sources(
        config(
            ["a.jsonl", {"path": "b.jsonl", "weight": 2}, {"path": "c.jsonl", "role_map": roles}]
        )
    )
    assert [(s.name, s.weight, len(s.reading.conversations)) for s in found] == [
        ("a.jsonl", 1, 3),
        ("b.jsonl", 2, 1),
        ("c.jsonl", 1, 1),
    ]
    (described,) = found[1].describe()
    assert len(described.pop("sha256")) == 64
    assert described == {"file": "b.jsonl", "num_rows": 1, "format": "text", "weight": 2}


def test_the_problems_of_all_sources_come_at_once() -> None:
    write("a.jsonl", 1, output="")
    write("b.jsonl", 1, output=3)
    with pytest.raises(DataError) as caught:
        read_sources(config(["a.jsonl", "b.jsonl"]))
    assert str(caught.value).splitlines() == [
        'a.jsonl:1: "output" is empty; fill it in, or delete the row.',
        'b.jsonl:1: "output" holds a number; expected text.',
    ]


def test_the_format_and_limits_of_the_config_are_followed() -> None:
    write("a.jsonl", 1, text="all of it")
    (source,) = read_sources(config("a.jsonl", format="text"))
    assert source.reading.conversations[0].text == "all of it"
    assert read_held_out("a.jsonl", config("x", format="text")).reading.format == "text"
    with pytest.raises(DataError, match="longer than 10 bytes; split it, or raise max_line_bytes"):
        read_sources(config("a.jsonl", max_line_bytes=10))


def test_the_builtin_rows_have_their_splits() -> None:
    (source,) = read_sources(config("mimic"))
    held_out = read_held_out("mimic", config("mimic"))
    assert len(source.reading.conversations) > len(held_out.reading.conversations) > 0


def test_weights_repeat_and_choose_the_same_rows_for_a_seed() -> None:
    rows = [(n % 2, n) for n in range(200)]
    drawn, counts = draw(rows, [2, 0.25], seed=0)
    assert counts == [200, 25]
    assert sorted(n for n in drawn if n % 2 == 0) == sorted([*range(0, 200, 2)] * 2)
    assert len({n for n in drawn if n % 2}) == 25
    assert draw(rows, [2, 0.25], seed=0) == (drawn, counts)
    assert draw(rows, [2, 0.25], seed=1) != (drawn, counts)
    assert draw(rows, [1, 1], seed=0)[0] == list(range(200))
    assert draw(rows, [1.5, 1], seed=0)[1] == [150, 100]


def test_another_source_changes_none_of_the_rows_drawn() -> None:
    rows = [(0, n) for n in range(50)]
    alone, _ = draw(rows, [0.3], seed=3)
    beside, _ = draw([*rows, (1, 99)], [0.3, 1], seed=3)
    assert beside == [*alone, 99]


def test_a_weight_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^data\.train\[1\]\.weight: 0\.1 of 3 rows leaves none;"
    ):
        draw([(0, "a"), (1, "b"), (1, "c"), (1, "d")], [1, 0.1], seed=0)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ([], "config: data.train: found []; it should name at least one source."),
        ("", 'config: data.train[0].path: found ""; it should not be empty.'),
        ([3], "config: data.train[0]: found 3; it should be a section of keys."),
        (None, "config: data.train[0]: found nothing; it should be a section of keys."),
        (
            ["a", {"pth": "b"}],
            'config: data.train[1].pth: unknown key; did you mean "path"?',
        ),
        ({"path": "a", "weight": 0}, "config: data.train[0].weight: found 0; it should be greater"),
        ({"path": "a", "role_map": {"bot": "bot"}}, "config: data.train[0].role_map: found"),
    ],
)
def test_sources_that_are_none(train: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(train)
    assert expected in str(caught.value)
