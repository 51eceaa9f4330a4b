"""The turns of a conversation stay together wherever items are shown."""

from __future__ import annotations

import json
import re
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.evaluation.comparison import compare
from biddable.evaluation.terminal import side_by_side
from biddable.evaluation.turns import conversations_of

QUESTIONS = (
    ("writing", "Write about the sea.", "Rewrite your previous response as a poem."),
    ("writing", "Name a red fruit.", "And a green one?"),
    ("math", "What is 12 times 3?", "Divide your result by 4."),
)
ANSWERS = {
    "base": ("The sea is wide.", "\nWrite about the sky.\nWrite about the moon.") * 3,
    "instruct": ("Waves come and go.", "O waves, O foam!", "A cherry.", "I cannot help with that.",
                 "It is 36.", "That is 9."),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare ready responses to three questions of two turns each, in MT-Bench's form."""
    place = tmp_path_factory.mktemp("turns")
    rows = [
        {"question_id": 81 + n, "category": kind, "turns": turns}
        for n, (kind, *turns) in enumerate(QUESTIONS)
    ]
    asked = [turn for _, *turns in QUESTIONS for turn in turns]
    said = {
        name: [{"prompt": p, "response": r} for p, r in zip(asked, answers, strict=True)]
        for name, answers in ANSWERS.items()
    }
    for name, lines in {"question": rows, **said}.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (place / f"{name}.jsonl").write_text(text)
    sides = (str(place / f"{name}.jsonl") for name in ANSWERS)
    compare(*sides, suite=f"mt_bench:{place / 'question.jsonl'}", out=place / "out")
    return place / "out"


def cards(html: str) -> list[str]:
    return re.findall(r'<details class="it".*?(?=<details class="it"|</section>)', html, re.DOTALL)


def test_a_card_has_both_turns_of_both_sides(folder: Path) -> None:
    found = cards((folder / "report.html").read_text())
    assert len(found) == 3
    for n, ((_, *asked), card) in enumerate(zip(QUESTIONS, found, strict=True)):
        own = [answers[2 * n : 2 * n + 2] for answers in ANSWERS.values()]
        in_order = [
            *(asked[0], own[0][0], own[1][0]),
            *(asked[1], own[0][1].strip().splitlines()[0], own[1][1]),
        ]
        places = [card.rindex(text) for text in in_order]
        assert places == sorted(places), card
        assert f"{81 + n}-1, {81 + n}-2" in card


def test_behaviour_in_any_turn_is_the_conversation_s(folder: Path) -> None:
    html = (folder / "report.html").read_text()
    marks = [set(re.search(r'data-b="([^"]*)"', card)[1].split()) for card in cards(html)]  # type: ignore[index]
    assert marks == [set(), {"0:mimicry", "1:refusal"}, {"0:mimicry"}]
    counts = json.loads(re.search(r'id="counts">(.*?)</script>', html)[1])  # type: ignore[index]
    assert counts["0"]["mimicry"] == 2
    assert counts["1"]["refusal"] == counts[""]["refusal"] == 1


def test_the_text_for_a_reviewer_shows_whole_conversations(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "### 3 of 3 unchecked conversations" in text
    assert "No items" not in text
    example = text[text.index("Rewrite your previous response") - 400 :].partition("</details>")[0]
    told = ["Turn 1", "Write about the sea.", "Waves come", "Turn 2", "Rewrite your", "O waves"]
    places = [example.rindex(part) for part in told]
    assert places == sorted(places)


def test_the_terminal_shows_a_second_turn_after_its_first(folder: Path) -> None:
    console = Console(width=120, file=StringIO(), record=True)
    console.print(side_by_side(folder / "samples.jsonl", limit=2))
    text = console.export_text()
    told = ["about the sea.", "then: Rewrite", "What is 12", "then: Divide"]
    places = [text.index(part) for part in told]
    assert places == sorted(places)
    assert "red fruit" not in text  # the third; a category comes before a second of one


def test_a_turn_whose_first_is_not_there_stands_alone() -> None:
    rows: list[dict[str, Any]] = [{"id": "None"}, {"id": "2", "after": "1"}, {"id": "3"}]
    assert [len(turns) for turns in conversations_of(rows)] == [1, 1, 1]
    rows = [{"id": "a"}, {"id": "b", "after": "a"}, {"id": "c", "after": "b"}]
    assert conversations_of(rows) == [rows]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("width", [1280, 400])
def test_search_and_filters_take_the_conversation(folder: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((folder / "report.html").as_uri())
        page.fill("#search", "previous response")
        assert page.locator("#count").inner_text() == "1 of 3 conversations"
        card = page.locator(".it:visible")
        card.locator("> summary").click()
        assert card.locator("pre:visible").all_inner_texts()[:2] == [
            "The sea is wide.", "Waves come and go.",
        ]  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.click("#clear")
        page.click("[data-behaviour=refusal]")
        assert page.locator("#count").inner_text() == "1 of 3 conversations"
        assert "Name a red fruit." in page.locator(".it:visible summary").first.inner_text()
        browser.close()
