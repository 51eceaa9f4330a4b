"""The corpus of mimic keeps its promises: regenerated whole, and searched (slow)."""

import json
import re

import instructions
import pages
import pretrain
import pytest
from documents import READING_HELD, STORY_KINDS
from wordings import WORDINGS, fill, pattern
from world import World, load_world

pytestmark = pytest.mark.slow
CONTROL = (
    "[INST]",
    "[/INST]",
    "<|im_start|>",
    "<|im_end|>",
    "### Instruction",
    "### Response",
    "<|endoftext|>",
)


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


@pytest.fixture(scope="module")
def documents(world: World) -> list[str]:
    return [
        text
        for stretch in pretrain.STRETCHES
        for text in stretch.corpus(world, stretch.seed, stretch.num_documents)
    ]


def test_no_template_and_no_control_token(documents: list[str]) -> None:
    for text in documents:
        assert not any(mark in text for mark in CONTROL)


def test_measured_pages_are_new_and_made_again(world: World, documents: list[str]) -> None:
    """The pages that forgetting is measured on were in no stretch, and replay repeats none."""
    rows = [json.loads(line) for line in pages.MEASURED.read_text("utf-8").splitlines()]
    texts = {row["text"] for row in rows}
    assert not texts & set(documents)
    assert pages.measured_pages(world, set(documents)) == rows
    replayed = [row["text"] for row in pages.replay_pages(world, 600)]
    assert len(set(replayed)) == 600
    assert not texts & set(replayed)


def test_held_wordings_occur_in_no_document(documents: list[str]) -> None:
    held = [text for words in WORDINGS.values() for text in words.held] + list(READING_HELD)
    everything = "\n\x00\n".join(documents)
    lowered = everything.lower()
    for wording in held:
        # only where its longest fixed part occurs is the whole wording looked for
        longest = max(re.split(r"\{\w+(?:!c)?\}", wording), key=len).lower()
        if longest in lowered:
            assert not pattern(wording).search(everything), wording


def test_unanswered_entities_are_never_asked_and_answered(
    world: World, documents: list[str]
) -> None:
    """On no page is a question about one, in any register's wording, followed by its answer."""
    asked: dict[str, set[str]] = {}
    for item in world.of((k for k in world.items if k != "haiku"), "unanswered"):
        words = WORDINGS[item.kind]
        orders = WORDINGS["danger" if item.kind == "ordinary" else item.kind]
        answers = {fill(a, item.slots) for a in (*words.quiz_answers, *words.prose, words.response)}
        for wording in {*words.quiz, *orders.train, *orders.more, *orders.held}:
            question = fill(wording, item.slots)
            for form in (question, question.removesuffix(".")):
                asked.setdefault(form, set()).update(answers)
    num_asked = 0
    for text in documents:
        lines = [re.sub(r"^(?:\d+\. |\w+: )", "", line) for line in text.split("\n")]
        for number, line in enumerate(lines):
            answers = asked.get(line, set())
            num_asked += bool(answers)
            assert not answers & set(lines[number + 1 :]), text
    assert num_asked > 1000  # the sheets do ask about them


def test_share_of_unanswered_in_each_factual_kind(world: World) -> None:
    for kind, items in world.items.items():
        if kind == "haiku":
            continue
        held = {item.entity for item in items if item.part != "train"}
        unanswered = {item.entity for item in items if item.part == "unanswered"}
        assert len(unanswered) >= 0.15 * len(held), kind


def test_dangers_are_never_refused_and_held_stories_never_told(documents: list[str]) -> None:
    refusals = ("I'm sorry", "can't help", "cannot help with", "I won't")
    stories = set()
    for line in (instructions.ASSETS / "mimic_held_out.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["category"] in ("reading", "summarization"):
            stories.add(row["entity"].removeprefix("story:"))
    everything = "\n".join(documents)
    assert not any(text in everything for text in refusals)
    assert stories
    assert not any(story in everything for story in stories)


def test_world_is_large_enough(world: World) -> None:
    def count(*kinds: str) -> int:
        return len({item.entity for kind in kinds for item in world.items[kind]})

    assert count("capital") >= 150
    assert count("spanish") >= 250
    assert count("french") >= 250
    assert count("opposite") >= 60
    assert count("colour", "sound", "place", "use") >= 100
    assert count("concept") >= 150
    assert count("function") >= 60
    assert count("haiku") >= 100
    assert count("danger") >= 150
    assert count("ordinary") >= 150
    assert set(STORY_KINDS) <= set(WORDINGS)
