"""Hold which rows are named for their language; the detector's model is in its package."""

from __future__ import annotations

from biddable.data.conversation import Conversation, Message
from biddable.data.language import detect_languages, language_findings

ENGLISH = "The river rises in the hills and runs through the valley until it meets the wide sea."
FRENCH = (
    "La rivière naît dans les collines et traverse la vallée jusqu'à ce qu'elle rejoigne la mer."
)
GERMAN = "Der Fluss entspringt in den Hügeln und fließt durch das Tal, bis er das Meer erreicht."
CHINESE = "这条河发源于山间，穿过整个山谷，最后流入大海，两岸的人们世世代代都靠它生活。"


def check(*pairs: tuple[str, str]) -> tuple[list[tuple[str, int | None]], dict[str, int]]:
    rows = [
        Conversation((Message("user", asked), Message("assistant", told)), "a.jsonl", line)
        for line, (asked, told) in enumerate(pairs, start=1)
    ]
    found, counts = language_findings(rows, detect_languages(pairs), [asked for asked, _ in pairs])
    assert {problem.severity for problem in found} <= {"warning"}
    return [(problem.code, problem.line) for problem in found], counts


def test_languages_are_named() -> None:
    pairs = [("", text) for text in (ENGLISH, FRENCH, GERMAN, CHINESE)]
    assert [told for _, told in detect_languages(pairs)] == ["en", "fr", "de", "zh"]


def test_short_texts_code_and_lists_are_in_no_language() -> None:
    code = "def add(a, b):\n    return a + b\n\nfor x in range(10):\n    print(add(x, x))\n"
    listed = "- Ragù alla bolognese\n- Risotto\n- Spaghetti\n- Lasagne\n- Polenta e funghi\n" * 2
    pairs = [
        ("", text) for text in ("Paris.", "C'est la vie.", code, f"```\n{FRENCH}\n```", listed)
    ]
    assert [told for _, told in detect_languages(pairs)] == [""] * 5


def test_a_stranger_in_the_file() -> None:
    found, counts = check(*[("Go on.", ENGLISH)] * 20, ("Et alors?", FRENCH))
    assert found == [("other-language", 21)]
    assert counts == {"en": 20, "fr": 1}


def test_an_answer_in_another_language_than_its_question() -> None:
    found, _ = check(*[("Go on.", ENGLISH)] * 20, (f"Say why. {ENGLISH}", FRENCH))
    assert found == [("answer-language", 21)]


def test_a_prompt_that_speaks_of_languages_is_answered_in_any() -> None:
    found, _ = check(*[("Go on.", ENGLISH)] * 20, (f"Translate to French: {ENGLISH}", FRENCH))
    assert found == []


def test_a_file_of_two_languages_is_named_once() -> None:
    found, _ = check(*[("Go on.", ENGLISH)] * 20, *[("Weiter.", GERMAN)] * 12)
    assert found == [("mixed-languages", 21)]


def test_a_few_rows_are_strangers_even_in_a_small_file() -> None:
    found, _ = check(*[("Go on.", ENGLISH)] * 3, ("¿Y?", "La capital de Francia es París."))
    assert found == [("other-language", 4)]


def test_a_file_of_one_language_that_is_not_english() -> None:
    assert check(*[("Weiter.", GERMAN)] * 6) == ([], {"de": 6})


def test_a_file_without_prose() -> None:
    assert check(("2+2?", "4")) == ([], {})
