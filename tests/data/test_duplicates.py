"""Hold which rows repeat or contradict an earlier one."""

from __future__ import annotations

import time

import pytest

from biddable.data.conversation import Conversation, Message
from biddable.data.duplicates import contradict, duplicate_findings
from biddable.data.near import NearIndex, common_pairs, sign
from biddable.data.wording import same_text, split_words, whole_text

TEXT = (
    "The old harbour was built by monks who wanted to trade salt and wool with the islands, and"
    " its first wall of grey granite still stands behind the market."
)


def rows(*pairs: tuple[str, str]) -> list[Conversation]:
    return [
        Conversation((Message("user", asked), Message("assistant", told)), "a.jsonl", line)
        for line, (asked, told) in enumerate(pairs, start=1)
    ]


def findings(*pairs: tuple[str, str]) -> list[tuple[str, int | None, str]]:
    given = rows(*pairs)
    found = duplicate_findings(given, sign([whole_text(row) for row in given]))
    assert {problem.severity for problem in found} <= {"warning"}
    return [(problem.code, problem.line, problem.message) for problem in found]


def test_the_same_row_twice_is_named_at_the_later_one() -> None:
    [(code, line, text)] = findings(("Hi?", "Yes."), ("Why?", "So."), ("Hi?", "Yes."))
    assert (code, line) == ("duplicate", 3)
    assert text == "says the same as line 1; delete one (--fix does)."


def test_white_space_capitals_and_the_last_dot_do_not_make_another_row() -> None:
    [(code, _, text)] = findings(("Hi  there?", "Yes."), ("hi\nthere", "YES"))
    assert code == "duplicate"
    assert "--fix" not in text


def test_a_nearly_equal_row_is_named_with_how_near_it_is() -> None:
    [(code, line, text)] = findings(("Tell me.", TEXT), ("Tell me.", TEXT.replace("grey ", "")))
    assert (code, line) == ("near-duplicate", 2)
    assert "as line 1 (9" in text


def test_only_the_first_of_a_family_is_named() -> None:
    family = [("Tell me.", TEXT + f" It has {n} rings.") for n in range(5)]
    assert [(code, line) for code, line, _ in findings(*family)] == [
        ("near-duplicate", line) for line in range(2, 6)
    ]
    assert all("line 1 " in text for _, _, text in findings(*family))


def test_one_passage_asked_about_twice_is_not_a_copy() -> None:
    assert findings((f"Who built it? {TEXT}", "Monks."), (f"What stone? {TEXT}", "Granite.")) == []


def test_other_rows_are_no_copies() -> None:
    assert findings(("Capital of France?", "Paris."), ("Capital of Spain?", "Madrid.")) == []
    assert findings(("What is 2+2?", "4"), ("What is 2-2?", "0")) == []


def test_short_answers_that_cannot_both_be_right_contradict() -> None:
    [(code, line, text)] = findings(
        ("What is the capital?", "Paris."), ("What is the capital", "It is Lyon.")
    )
    assert (code, line) == ("contradicting-answers", 2)
    assert "contradicts line 1" in text


def test_several_answers_to_an_open_prompt_are_only_named() -> None:
    found = findings(
        ("Write a line.", "Rain falls."), ("Write a line.", "Snow melts."), ("Write a line.", "Hm.")
    )
    assert [(code, line) for code, line, _ in found] == [
        ("several-answers", 2),
        ("several-answers", 3),
    ]
    assert "line 1, line 2" in found[1][2]


def test_plain_texts_repeat_but_do_not_contradict() -> None:
    given = [Conversation((), "a.jsonl", n, text=text) for n, text in enumerate(("x", "y", "x"), 1)]
    found = duplicate_findings(given, sign([whole_text(row) for row in given]))
    assert [(problem.code, problem.line) for problem in found] == [("duplicate", 3)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Yes.", "No.", True),
        ("It is safe.", "It is not safe.", True),
        ("42", "43", True),
        ("Positive", "Negative", True),
        ("Berlin.", "The capital of Germany is Berlin.", False),
        ("dark", "The opposite is dark.", False),
        (TEXT, TEXT.replace("monks", "sailors"), False),
    ],
)
def test_contradiction(one: str, other: str, expected: bool) -> None:
    assert contradict(one, other, "What is the opposite?") is expected
    assert contradict(other, one, "What is the opposite?") is expected


def test_pairs_that_many_rows_have_do_not_make_them_alike() -> None:
    frame = (
        "Below is a task that was set for you by someone who cannot see you. Read it twice, do it"
        " as well as you can, say plainly where you are not sure, and above all be kind to them."
    )
    names = [chr(97 + n) * 3 for n in range(26)]
    texts = [f"{frame} What is {name} made of?" for name in names]
    near = NearIndex()
    for number, signature in enumerate(sign(texts, common_pairs(texts))):
        assert near.find(signature) is None
        near.add(number, signature)
    first, second = sign(texts[:2])
    near.add(100, first)
    assert near.find(second) is not None  # without that, the frame is most of each text


def test_texts_without_spaces_are_compared_by_their_signs() -> None:
    text = "古いダムの水は春になると谷の畑に流れて、村の人々は米を育てます"
    near = NearIndex()
    one, other = sign([text, text.replace("春", "夏")])
    near.add(0, one)
    assert near.find(other) is not None
    assert split_words("水は a1") == ["水", "は", "a1"]


def test_nothing_but_signs_is_still_a_text() -> None:
    assert same_text(" ?! ") == "?!"


def test_a_file_that_asks_the_same_in_every_row_is_checked_in_time() -> None:
    """Each answer is compared with some of the earlier ones: all pairs would be two million."""
    pairs = [("What is it?", f"{n} of {n}") for n in range(2000)]
    start = time.process_time()
    found = findings(*pairs)
    assert time.process_time() - start < 3
    assert {code for code, _, _ in found} == {"contradicting-answers"}
