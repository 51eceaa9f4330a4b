"""Hold that the page needs no other file, and says what was found."""

from __future__ import annotations

import json
import re

import pytest

from biddable.data.check import CheckReport, Rows, check
from biddable.data.check_page import MAX_FINDINGS, draw_histogram, render_page
from biddable.data.conversation import Conversation, Message
from biddable.data.lengths import RowLength, Truncation
from biddable.data.problems import Problem


def report(*problems: Problem, truncation: Truncation | None = None) -> CheckReport:
    row = Conversation((Message("user", "Hi?"), Message("assistant", "Yes.")), "a.jsonl", 1, "talk")
    found = check(Rows("a <b>.jsonl", 1, [row]))
    return CheckReport(
        path=found.path,
        num_rows=found.num_rows,
        problems=list(problems),
        lengths=found.lengths,
        truncation=truncation or found.truncation,
        languages={"en": 3},
        categories={f"kind {n}": 30 - n for n in range(25)},
        row_lengths=[RowLength(3, 4), RowLength(5, 6, 4, 4, 1), RowLength(9, 1, 3, 1, 1)],
    )


def findings(page: str) -> list[dict[str, str]]:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    shown: list[dict[str, str]] = json.loads(data[1])
    return shown


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = render_page(report(Problem("leak", "see https://example.org", "a", 1)))
    without_data = re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"https?://|<link|<img|\bsrc=|@import|url\(", without_data)


def test_findings_are_shown_and_cannot_close_the_script() -> None:
    told = 'spells "</script><b>&"\u2028'
    page = render_page(report(Problem("control-token", told, "a.jsonl", 3, None, "warning")))
    assert findings(page) == [
        {"place": "a.jsonl:3", "code": "control-token", "severity": "warning", "text": told}
    ]
    assert 'data-code="control-token"' in page
    assert "a &lt;b&gt;.jsonl" in page


def test_many_findings_are_counted_and_the_first_are_shown() -> None:
    page = render_page(report(*(Problem("leak", "x", "a", n) for n in range(MAX_FINDINGS + 5))))
    assert len(findings(page)) == MAX_FINDINGS
    assert f"leak <small>{MAX_FINDINGS + 5:,}</small>" in page


def test_nothing_found() -> None:
    page = render_page(report())
    assert "Nothing was found." in page
    assert 'id="codes"' not in page


def test_no_row_could_be_measured() -> None:
    page = render_page(check(Rows("a.jsonl", 0, ())))
    assert "<svg" not in page


def test_the_ledger_is_drawn() -> None:
    told = Truncation(10, rows_over=2, tokens_over=7, stops_lost=2, rows_without_answer=1)
    page = render_page(report(truncation=told))
    assert "33.3 % fit" in page
    assert "33.3 % would have nothing left to learn" in page
    assert "limit 10: 2 rows over" in page


def test_the_rest_of_many_categories_is_added_up() -> None:
    page = render_page(report())
    assert "<b>all others</b>" in page
    assert "<b>kind 24</b>" not in page


@pytest.mark.parametrize(
    ("values", "ends"),
    [([3], None), ([0, 0], None), ([1, 2, 3] * 50, None), ([1, 5, 9000], None), ([50], (0, 100))],
)
def test_every_row_is_in_the_histogram(values: list[int], ends: tuple[float, float] | None) -> None:
    drawn = draw_histogram(values, ends=ends)
    counts = [int(count.replace(",", "")) for count in re.findall(r": ([\d,]+) rows<", drawn)]
    assert sum(counts) == len(values)


def test_a_long_tail_is_drawn_logarithmically() -> None:
    assert "logarithmic" in draw_histogram([10, 20, 30, 9000])
    assert "logarithmic" not in draw_histogram([10, 20, 30, 90])
    assert draw_histogram([]) == ""
