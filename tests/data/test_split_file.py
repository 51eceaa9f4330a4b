"""Hold that rows keep their side, and that nothing is written by halves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biddable.data.check import Against, check, read_for_check
from biddable.data.conversation import Conversation, Message
from biddable.data.readers import ReadOptions
from biddable.data.split_file import split_file
from biddable.data.splits import content_key, group_key, split_by_hash
from biddable.data.writing import rows_as_text, write_files
from biddable.errors import DataError

Row = dict[str, Any]
KEYS = st.lists(st.text(max_size=8), max_size=30)


def write(rows: list[Row], name: str = "rows.jsonl") -> Path:
    Path(name).write_text(rows_as_text(rows), encoding="utf-8")
    return Path(name)


def rows_of(num: int, **more: object) -> list[Row]:
    return [{"prompt": f"Question {n}?", "response": f"{n}.", "id": n, **more} for n in range(num)]


def read(name: str) -> list[Row]:
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


@given(KEYS, KEYS, st.floats(0.01, 0.99))
def test_a_row_keeps_its_side_when_others_are_added_or_moved(
    first: list[str], more: list[str], share: float
) -> None:
    alone = dict(zip(first, split_by_hash(first, held_out=share), strict=True))
    together = dict(
        zip([*more, *first], split_by_hash([*more, *first], held_out=share), strict=True)
    )
    assert {key: together[key] for key in alone} == alone


@given(KEYS, st.floats(0.01, 0.5))
def test_a_larger_share_holds_out_what_a_smaller_one_did(keys: list[str], share: float) -> None:
    small, large = (split_by_hash(keys, held_out=size) for size in (share, 2 * share))
    assert all(now or not was for was, now in zip(small, large, strict=True))


def test_the_share_is_met_on_average() -> None:
    sides = split_by_hash([f"key {n}" for n in range(20_000)], held_out=0.1)
    assert sum(sides) / len(sides) == pytest.approx(0.1, abs=0.01)


def test_the_side_is_the_same_for_ever() -> None:
    """These are frozen: another hash would move the rows of every user's split."""
    sides = split_by_hash([f"key {n}" for n in range(12)], held_out=0.3)
    assert [n for n, is_held in enumerate(sides) if is_held] == [0, 1, 2, 3, 7, 9, 10]


def test_content_is_the_first_question() -> None:
    asked = Message("user", " What  now?")
    one = Conversation((Message("system", "Be brief."), asked, Message("assistant", "Go.")))
    two = Conversation((asked, Message("assistant", "Stay."), asked, Message("assistant", "Go.")))
    assert content_key(one) == content_key(two) == "what now"
    assert content_key(Conversation((), text="Some text.")) == "some text"


def test_groups_are_values_of_any_kind() -> None:
    assert group_key({"a": 1}, "a") != group_key({"a": "1"}, "a")
    assert group_key({"a": {"x": 1, "y": 2}}, "a") == group_key({"a": {"y": 2, "x": 1}}, "a")
    assert group_key({"a": None}, "a") is None


def test_both_files_hold_all_rows_unchanged_and_in_order() -> None:
    rows = rows_of(40, note="é \u2028", deep={"a": [1, None]})
    result = split_file(write(rows), "out", held_out=0.2)
    train, held_out = read("out/train.jsonl"), read("out/held_out.jsonl")
    assert (len(train), len(held_out)) == (result["train"], result["held_out"])
    assert sorted([*train, *held_out], key=lambda row: row["id"]) == rows
    assert train == sorted(train, key=lambda row: row["id"])


def test_rows_added_later_move_no_row() -> None:
    split_file(write(rows_of(40)), "one", held_out=0.2)
    split_file(write(rows_of(90)[::-1]), "two", held_out=0.2)
    for name in ("train", "held_out"):
        before = {row["id"] for row in read(f"one/{name}.jsonl")}
        assert before <= {row["id"] for row in read(f"two/{name}.jsonl")}


def test_no_question_is_on_both_sides() -> None:
    rows = [{"prompt": f"Question {n // 3}", "response": f"{n}."} for n in range(60)]
    rows += [{"prompt": f"QUESTION  {n}?", "response": "Yes."} for n in range(20)]
    split_file(write(rows), "out", held_out=0.3)
    against = Against(held_out=read_for_check("out/held_out.jsonl"))
    found = check(read_for_check("out/train.jsonl"), against=against).problems
    assert "leak" not in {problem.code for problem in found}


def test_rows_of_one_value_go_together() -> None:
    rows = [{**row, "about": row["id"] % 9} for row in rows_of(60)]
    split_file(write(rows), "out", held_out=0.3, by="about")
    sides = [{row["about"] for row in read(f"out/{name}.jsonl")} for name in ("train", "held_out")]
    assert sides[0] & sides[1] == set()
    assert sides[0] | sides[1] == set(range(9))


def test_rows_without_the_key_are_named() -> None:
    rows = rows_of(3)
    rows[0]["about"] = 1
    with pytest.raises(DataError, match=r'rows.jsonl:2: has no "about"'):
        split_file(write(rows), "out", held_out=0.5, by="about")
    with pytest.raises(DataError, match=r'no row has the key "abuot"'):
        split_file(write(rows), "out", held_out=0.5, by="abuot")
    assert not Path("out").exists()


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(DataError, match=r"no row falls to held_out .* over 1 questions"):
        split_file(write(rows_of(1)), "out", held_out=0.001)
    assert not Path("out").exists()


def test_nothing_is_written_over() -> None:
    Path("out").mkdir()
    Path("out/held_out.jsonl").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"held_out\.jsonl: is there already"):
        split_file(write(rows_of(40)), "out", held_out=0.2)
    assert [path.name for path in Path("out").iterdir()] == ["held_out.jsonl"]
    assert Path("out/held_out.jsonl").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_made_is_told() -> None:
    Path("out").write_text("a file", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        split_file(write(rows_of(40)), "out", held_out=0.2)


def test_a_write_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_files({Path("a.jsonl"): "x", Path("b.jsonl"): "y"})
    assert [path.name for path in Path().iterdir()] == [".home"]


def test_half_a_sign_is_written_as_an_escape() -> None:
    assert rows_as_text([{"text": "\ud83d"}]) == '{"text": "\\ud83d"}\n'


def test_rows_of_several_formats_and_roles_are_split_where_that_is_said(tmp_path: Path) -> None:
    chat = [{"from": "me", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    rows = [{"instruction": f"a{n}", "output": "b"} for n in range(20)]
    path = tmp_path / "a.jsonl"
    lines = [*rows, {"conversations": chat}]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    with pytest.raises(DataError, match="--from mixed"):
        split_file(path, tmp_path / "out", held_out=0.5)
    options = ReadOptions("mixed", {"me": "user"})
    result = split_file(path, tmp_path / "out", held_out=0.5, options=options)
    assert result["train"] + result["held_out"] == 21
