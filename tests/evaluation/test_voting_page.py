"""The voting page works in a browser, by keyboard and mouse, wide and narrow, and loads nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biddable.evaluation.answer_pairs import read_two_sides
from biddable.evaluation.votes import count_votes
from biddable.evaluation.voting_page import write_page
from tests.evaluation.pairs import write_folder

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium to open the page with"),
    # asyncio's own loop under playwright, on its way out
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = write_folder(tmp_path / "c", [(f"base {n}", f"tuned {n}") for n in range(8)])
    write_page(read_two_sides(place, before="base", after="instruct"), seed=1)
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()


def opened(browser: Any, folder: Path, *, width: int = 1280, scheme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.asked, page.broken = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.broken.append(str(error)))
    page.goto((folder / "vote.html").as_uri())
    return page


def tuned_key(page: Any) -> str:
    return "a" if page.locator("#left .text").inner_text().startswith("tuned") else "b"


def downloaded(page: Any, path: Path) -> Path:
    with page.expect_download() as caught:
        page.click("#download")
    assert caught.value.suggested_filename == "votes.json"
    caught.value.save_as(path)
    return path


def test_votes_by_keyboard_are_downloaded_and_counted(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    page = opened(browser, folder)
    for _ in range(5):
        page.keyboard.press(tuned_key(page))
    assert page.locator("#count").inner_text() == "6 of 8"
    page.keyboard.press("a" if tuned_key(page) == "b" else "b")
    page.keyboard.press("t")
    page.keyboard.press("Control+a")  # the browser's own, no vote
    assert page.locator("#count").inner_text() == "8 of 8"
    page.keyboard.press("s")
    assert page.locator("#thanks").inner_text() == "Done, thank you"
    page.fill("#voter", "Abbas")  # letters in a name are no votes
    found = count_votes(folder, [downloaded(page, tmp_path / "votes.json")])
    assert found["voters"] == [{"voter": "Abbas", "won": 5, "lost": 1, "tie": 1, "skip": 1}]
    assert (page.asked, page.broken) == ([(folder / "vote.html").as_uri()], [])
    page.close()


def test_votes_by_mouse_can_be_changed_and_outlive_a_reload(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    page = opened(browser, folder, width=400, scheme="dark")
    page.click("#a" if tuned_key(page) == "b" else "#b")  # wrong, to be mended
    page.click("#back")
    page.click(f"#{tuned_key(page)}")
    page.click("#left" if tuned_key(page) == "a" else "#right")  # the answer itself
    page.wait_for_timeout(500)  # another process keeps a page's votes, and may be busy
    page.reload()
    assert page.locator("#count").inner_text() == "3 of 8"
    for _ in range(5):
        page.click("#t")
    page.click("#s")
    found = count_votes(folder, [downloaded(page, tmp_path / "votes.json")])
    assert found["voters"] == [{"voter": "voter 1", "won": 2, "lost": 0, "tie": 5, "skip": 1}]
    page.click("#review")
    assert page.locator(".answer.chosen").count() == 1
    assert page.broken == []
    page.close()


def test_it_fits_narrow_screens(browser: Any, tmp_path: Path) -> None:
    long = "supercalifragilistic" * 12 + "\n" + "a line of an answer " * 40
    place = write_folder(tmp_path / "c", [(long, "short")])
    write_page(read_two_sides(place, before="base", after="instruct"))
    for width in (320, 400, 1280):
        page = opened(browser, place, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for key in "abts":
            box = page.locator(f"#{key}").bounding_box()
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= 800  # in sight, however long the answers
        page.close()
