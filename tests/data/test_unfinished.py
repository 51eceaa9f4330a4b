"""Hold which answers are told to be cut, and which only end without a full stop."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from biddable.data.check import check, read_for_check
from biddable.data.conversation import Conversation, Message
from biddable.data.readers import ReadOptions, read_conversations
from biddable.data.unfinished import ends_with_stops, unfinished

TestData = Callable[[str], Path]
STOPPED = [
    "The mill stands by the river.",
    "It was built of grey stone!",
    'She said that "the wheel still turns."',
    "Who would have thought so?",
]


def talks(*answers: str) -> list[Conversation]:
    return [Conversation((Message("user", "Q"), Message("assistant", a))) for a in answers]


@pytest.mark.parametrize(
    "answer",
    [
        "Use this:\n```python\nprint(1)\n",
        '{"name": "Ada", "born": 18',
        '[{"name": "Ada"}, {"na',
        "Call the function with add(1, max(2",
        "The towns are three (Oslo, Bergen and Tro",
        "def add(a, b):\n    return max(a, min(b, 3)",
        "The three colours are red, green,",
        "It is the largest of all the lakes in the",
        "- Wash the rice.\n- Boil the water.\n- Cook it for ten min",
    ],
)
def test_a_cut_that_shows_by_itself(answer: str) -> None:
    assert unfinished(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The capital of France is Par",
        "It is Paris. It lies on the Seine and has been the cap",
        "The mill stands by the river. The whe",
        "First things first.\n\nThe wheel is still turned by the water that comes down fr",
        "Nothing is well-known about the inter-",
    ],
)
def test_a_cut_that_shows_beside_the_other_answers(answer: str) -> None:
    assert unfinished(answer) == ""
    assert "where nearly all answers of the file have one" in unfinished(
        answer, is_usual_to_stop=True
    )


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "42",
        "The answer is 42",
        "grey stone and old wood",
        "Ada Lovelace and Charles Babbage of London",
        "A Short History of the Mills of the Valley",
        "The Old Mill and the New Wheel",
        "apples, pears, plums, cherries and grapes",
        "- apples that are red\n- pears that are ripe\n- plums that are blue",
        "1. Wash the rice\n2. Boil the water\n3. Cook it for ten minutes with the lid on",
        "def add(a, b):\n    return a + b",
        "for x in range(3):\n    print(x)",
        "SELECT name FROM people WHERE age > 30 ORDER BY name",
        "See the long page at https://example.org/a_long_page_about_mills",
        "The wheel turns round\nthe water runs down\nthe corn is now ground\nall over the town",
        "Positive",
        '{"name": "Ada", "born": 1815}',
        "[1, 2, 3]",
        "[the door opens and they go out]",
        "I am sad today :(",
        "You can print text in many ways:\n```cout << text```",
        "He asked, \"Who goes there?\"",
        "| a | b |\n|---|---|\n| c | d |",
        "x = 3 (mod 7)",
        "Dear Ada,\nI hope you are well. See you soon.\n\nYours,\nCharles",
        "The stew is ready 🍲",
        "Speed = distance / time",
    ],
)  # fmt: skip
def test_a_whole_answer_is_left_alone(answer: str) -> None:
    assert unfinished(answer, is_usual_to_stop=True) == ""


def test_what_is_usual_in_a_file() -> None:
    assert ends_with_stops(talks(*STOPPED * 2))
    capitals = (("France", "Paris"), ("Norway", "Oslo"), ("Peru", "Lima"), ("Cuba", "Havana"))
    told = [f"The capital of {land} is {town}." for land, town in capitals * 2]
    assert ends_with_stops(talks(*told, "The capital of Spain is Mad"))
    assert ends_with_stops(talks(*STOPPED * 2, "The wheel is still turned by", "The capital of it"))
    assert not ends_with_stops(talks(*STOPPED))  # too few to tell
    assert not ends_with_stops(talks(*STOPPED * 2, *["It is a mill of the town"] * 3))
    assert not ends_with_stops(talks(*["Paris"] * 50))


def test_the_check_names_them_in_every_turn() -> None:
    rows = [{"prompt": f"Say {n}.", "response": f"On {n}. {STOPPED[n % 4]}"} for n in range(12)]
    asked = [{"role": "user", "content": "Q?"}]
    turns = [*asked, {"role": "assistant", "content": "The capital of France is Par"}]
    turns += [*asked, {"role": "assistant", "content": "The capital of Norway is Oslo."}]
    lines = [*rows, {"messages": turns}]
    path = Path("rows.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    report = check(read_for_check(path, options=ReadOptions("mixed")))
    [found] = [p for p in report.problems if p.code == "unfinished-answer"]
    assert (found.line, found.message_index) == (13, 2)
    assert "France is Par" in found.message


def test_the_check_names_json_that_is_open() -> None:
    path = Path("rows.jsonl")
    row = {"prompt": "Name it.", "response": '{"name": "Ada", "born": 18'}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    [found] = check(read_for_check(path)).problems
    assert found.message.startswith('the answer opens a "{" and never closes it')


def answers_of(path: Path) -> Iterator[str]:
    for row in read_conversations(path):
        yield from (m.content for m in row.messages if m.role == "assistant")


@pytest.mark.parametrize(
    ("name", "most_named", "least_found"),
    [
        ("rasbt_instructions/instruction-data.json", 0.0, 0.8),
        ("dolly_small/dolly_hhrlhf_train_small.jsonl", 0.01, 0.2),
        ("oasst/messages.jsonl", 0.025, 0.65),
    ],
)
def test_public_answers_and_the_same_cut_by_chance(
    test_data: TestData, name: str, most_named: float, least_found: float
) -> None:
    """Many writers of dolly leave stops out, so there only what shows by itself is named."""
    path = test_data(name)
    is_usual = ends_with_stops(read_conversations(path))
    answers = sorted(set(answers_of(path)))
    whole = [a for a in answers if not unfinished(a, is_usual_to_stop=is_usual)]
    assert len(answers) - len(whole) <= most_named * len(answers)
    draw = random.Random(0)
    long = [answer for answer in whole if len(answer.split()) >= 12]
    cut = [answer[: int(draw.uniform(0.4, 0.95) * len(answer))].rstrip() for answer in long]
    found = [answer for answer in cut if unfinished(answer, is_usual_to_stop=is_usual)]
    assert len(found) >= least_found * len(cut)
