"""The report in a browser: wide and narrow, light and dark, by mouse, by keyboard, scriptless."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.report import render_report
from biddable.evaluation.sides import sample_rows
from tests.evaluation.test_comparison import sides

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with"),
    # asyncio's own loop under playwright, on its way out
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six models, a loss curve, and forty items, so that a group is longer than what is shown."""
    given = sides()
    given |= {f"a-model-with-a-long-name-{k}": given["instruct"] for k in range(3)}
    given["a_model_with_a_long_name_and_no_break"] = given["instruct"]
    suite = f"/home/somebody/{'evaluations_of_the_spring' * 3}/items.jsonl"
    notes = [f"base_fewshot was left out: {suite}:3: too long"]
    result = build_comparison(
        given, suite=suite, notes=notes, manifest={"results": {}}, command="x " * 90
    )
    result["training"]["losses"] = {"train": [[1, 2.0], [2, 1.0]]}
    rows = [
        row | {"id": f"{row['id']}-{n}", "instruction": f"{row['instruction']} ({n})"}
        for n in range(8)
        for row in sample_rows(given)
    ]
    rows[0] |= {"change": "broken", "instruction": "unbroken" * 60}
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(result, rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Any]:
    """Open the page; afterwards hold that it asked nobody for anything and had no error."""
    pages: list[Any] = []
    told: list[str] = []

    def open_page(**settings: Any) -> Any:
        settings.setdefault("viewport", {"width": 1280, "height": 800})
        page = browser.new_page(**settings)
        pages.append(page)
        page.on("request", lambda request: told.append(request.url))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("console", lambda message: told.append(message.text))
        page.goto(report.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [text for text in told if text != "data:,"] == [report.as_uri()] * len(pages)


def shown(page: Any) -> int:
    return int(page.locator(".it:visible").count())


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_reaches_beyond_the_screen(opened: Any, width: int, scheme: str) -> None:
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(245, 244, 240)", "dark": "rgb(19, 22, 24)"}[scheme]
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("p, pre, td, th, dd, li, .name")]
        .filter((n) => n.checkVisibility() && n.getBoundingClientRect().right > innerWidth + 1)
        .map((n) => n.textContent.slice(0, 40))"""
    )
    assert beyond == []
    wide = page.evaluate(
        """() => [...document.querySelectorAll(".plot .nums")]
        .filter((n) => n.checkVisibility() && n.scrollWidth > n.clientWidth)
        .map((n) => n.textContent)"""
    )
    assert wide == []


def test_filters_narrow_and_are_cleared(opened: Any) -> None:
    page = opened()
    whole = shown(page)
    assert page.locator(".group").count() == 3  # broken, fixed, wrong in both
    page.click("[data-change=broken]")
    assert page.locator("#count").inner_text() == "1 of 40 items"
    assert shown(page) == 1
    page.click("[data-change=broken]")  # once more lets go
    assert shown(page) == whole
    page.select_option("#category", "math")
    assert page.locator("#count").inner_text() == "8 of 40 items"
    page.select_option("#category", "")
    page.select_option("#side", "1")
    assert page.locator("[data-behaviour=mimicry]").inner_text() == "mimics (0)"
    page.select_option("#side", "0")
    assert page.locator("[data-behaviour=mimicry]").inner_text() == "mimics (32)"
    page.click("[data-behaviour=mimicry]")
    assert page.locator("#count").inner_text() == "32 of 40 items"
    page.fill("#search", "CAPITAL OF PERU")
    assert page.locator("#count").inner_text() == "8 of 40 items"
    page.click("#clear")
    assert (shown(page), page.locator("#search").input_value()) == (whole, "")


def test_a_long_group_is_shown_in_parts(opened: Any) -> None:
    page = opened()
    fixed = page.locator("[data-group=fixed]")
    assert fixed.locator(".it:visible").count() == 12
    more = fixed.locator(".more")
    assert more.inner_text() == "Show 11 more"
    more.click()
    assert fixed.locator(".it:visible").count() == 23
    assert page.evaluate("document.activeElement.closest('.it') !== null")  # the first new one


def test_all_of_it_is_reached_by_keyboard(opened: Any) -> None:
    page = opened()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("2+2")
    assert page.locator("#count").inner_text() == "8 of 40 items"
    seen = []
    for _ in range(10):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(({id, dataset, tagName}) => id || dataset.change || dataset.behaviour || tagName)"
                "(document.activeElement)"
            )
        )
        width = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert width == "3px"  # where the focus is can be seen
    changes, behaviours = ["broken", "fixed", "neither"], ["side", "refusal", "mimicry", "run_on"]
    assert seen == ["category", "ring", "clear", *changes, *behaviours]
    first = page.locator(".it:visible").first
    first.locator("> summary").focus()
    was = first.evaluate("(node) => node.open")
    page.keyboard.press("Enter")
    assert first.evaluate("(node) => node.open") is not was


def test_without_a_script_every_item_can_be_read(opened: Any) -> None:
    page = opened(java_script_enabled=False)
    assert not page.locator("#filters").is_visible()
    assert page.locator("[data-group=fixed] .it:visible").count() == 23
    item = page.locator("[data-group=fixed] .it:visible").nth(5)
    assert not item.locator("pre").first.is_visible()
    item.locator("> summary").click()
    assert item.locator("pre").first.is_visible()
