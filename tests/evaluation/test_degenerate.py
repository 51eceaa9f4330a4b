"""Loops and empty outputs, and the lists, poems and tables that are neither."""

from __future__ import annotations

import pytest

from biddable.evaluation.behaviour import judge
from biddable.evaluation.degenerate import find_emptiness, find_repetition

CODE = "```python\n" + "total = total + 1\n" * 4 + "```"


@pytest.mark.parametrize(
    "text",
    [
        "the " * 12,
        "on and off " * 6,
        "We went home. " * 5,
        "1. Drink water.\n2. Drink water.\n3. Drink water.\n4. Drink water.\n5. Drink water.",
        "ha" * 40,
        "The sky is blue and the sea is deep. " * 3,
        "Some: " + " ".join(f"thing_{n}" for n in range(1, 16)),
        "\n\n".join(f"Input: 7, 8\nOutput: {n}" for n in range(3, 18)),
        "なら" * 12,
        "。".join(["你可以看到"] * 6),
        "\n".join(f"{letter}: the red fox" for letter in "ABCDEFGHIJKLM"),
        "\n".join(f"It is red.\nSo is {name}." for name in ("Ann", "Bo", "Cy", "Di", "Ed")),
        "The red one is the best of the red ones, and so is the red one. " * 2
        + "The best of the red ones is the red one, and the red one is the best. " * 2
        + "And so the red one is the best of the red ones, the best of the red ones. " * 2,
    ],
)
def test_loops(text: str) -> None:
    reason = find_repetition(text)
    assert "repeats" in reason or "new" in reason
    assert judge("Tell me of colours.", text).repetition


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ("List even numbers.", ", ".join(str(n) for n in range(0, 60, 2))),
        ("Print zeros.", "0 0 0 0\n" * 4),
        ("Write code.", CODE),
        ("Draw a line.", "-" * 60),
        ("Write a form.", "Name: ______________________\nDate: ______________________"),
        ("Write a song.", "Hey, hey, the boats\nHey, hey, the sea\n" * 2),
        ("Write 'I am late' five times.", "I am late\n" * 5),
        ("Label them.", "\n".join(f"{n}. positive" for n in range(1, 5))),
        ("Times two.", "\n".join(f"{n} times 2 is {2 * n}" for n in range(1, 16))),
        ("Count sheep.", ", ".join(f"{n} sheep" for n in range(1, 16))),
        ("Plan a week.", "\n".join(f"Day {n}: rest" for n in range(1, 8))),
        ("Say moo.", "Moo, moo, moo!"),
        ("Laugh in Japanese.", "ははははははは"),
        ("Say the alphabet.", "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
    ],
)
def test_what_only_looks_like_a_loop(instruction: str, text: str) -> None:
    assert find_repetition(text, instruction) == ""


@pytest.mark.parametrize(
    "text",
    [
        "It was tin." + " The lid of it all was painted red." * 2 + " The lid of it a",
        "Lions, tigers" + ", bears" * 8,
        "w, x, y, z, " * 3 + "w, x, y",
    ],
)
def test_a_loop_that_had_only_begun_is_one_where_the_output_was_cut_off(text: str) -> None:
    asked = "What is it?"
    assert "ends in what" in judge(asked, text, stopped=False).reasons["repetition"]
    assert not judge(asked, text, stopped=True).repetition
    assert not judge(asked, text).repetition
    assert not judge("Write a song.", text, stopped=False).repetition


def test_even_an_order_to_repeat_has_an_end() -> None:
    assert find_repetition("I am late. " * 40, "Write 'I am late' five times.")


@pytest.mark.parametrize(
    "text",
    ["", " \n", "...", "**", "```\n```", "<|im_end|>", "1.\n2.\n3.", "| |\n|---|", "\u200b", "()"],
)
def test_empty(text: str) -> None:
    assert find_emptiness(text)
    found = judge("Tell me a joke.", text, stopped=True)
    assert found.is_empty
    assert (found.mimicry, found.run_on, found.repetition) == (False, False, False)
    assert found.reasons["empty"]


@pytest.mark.parametrize("text", ["4", "A.", "&", "[]", "😊", "はい", "no", "1. a\n2. b", "4."])
def test_short_but_not_empty(text: str) -> None:
    assert find_emptiness(text) == ""
    assert not judge("Answer.", text).is_empty


def test_a_thought_alone_is_no_answer() -> None:
    found = judge("What is 2+2?", "<think>It must be four.</think>")
    assert found.is_empty
    assert found.reasons == {"empty": "nothing but a thought"}
    assert judge("What is 2+2?", "<think>Four?</think>It is 4.").answer == "It is 4."


@pytest.mark.parametrize(
    ("instruction", "answer", "is_wrong"),
    [
        ("Why is the sky blue?", "Der Himmel ist blau, weil die Luft blaues Licht streut.", True),
        ("¿Cómo se hace una tortilla?", "Beat the eggs, fry the potatoes and mix them.", True),
        ("Why is the sky blue?", "Because the air scatters blue light more than red.", False),
        ("Say in German: the sky is blue.", "Der Himmel ist heute blau und sehr klar.", False),
        ("What is the capital of Italy?", "Roma.", False),
        ("Write code that greets.", "```python\nprint('Guten Morgen, liebe Leute')\n```", False),
        ("Hm?", "Der Himmel ist blau, weil die Luft blaues Licht streut.", False),
        # a few words are enough where they are an English sentence, and quotations are nobody's
        ("Nenne drei Früchte, die im Herbst reifen.", "The right word is 'Früchte'.", True),
        ("Pourquoi les feuilles tombent-elles ?", "Yes, it is.", True),
        (
            "Nenne drei Früchte, die im Herbst reifen.",
            "Nenne drei Früchte, die im Herbst reifen.\n\n"
            "It is a German sentence about what ripens in autumn, and it is correct.",
            True,
        ),
        ("Nenne drei Früchte, die im Herbst reifen.", "Das Wort ist 'the pear is'.", False),
        ("Welcher Film gewann damals die meisten Preise?", "The Lord of the Rings", False),
        ("Welches Lied von Haddaway kennt jeder?", "What Is Love", False),
        ("Comment s'appelle ce groupe de Liverpool ?", "The Beatles.", False),
        ("What is a fruit that ripens late?", "The right word is 'Quitte'.", False),
    ],
)
def test_language_of_the_answer(instruction: str, answer: str, is_wrong: bool) -> None:
    found = judge(instruction, answer)
    assert found.wrong_language is is_wrong, found
    assert ("wrong_language" in found.reasons) is is_wrong
