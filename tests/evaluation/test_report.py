"""The page is whole, escapes what models wrote, and shows the same figures as the terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.errors import EvaluationError
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.report import read_losses, render_report, write_text
from biddable.evaluation.sides import sample_rows
from biddable.evaluation.terminal import percent, side_by_side, summary_table, why_not
from tests.evaluation.test_comparison import sides

VOID = {"meta", "input", "br", "path", "use", "rect"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def page(**losses: Any) -> str:
    given = sides()
    result = build_comparison(given, suite="mimic", notes=["a <note>"])
    return render_report(result, sample_rows(given), losses=losses or None)


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    html = page(train=[(1, 2.0), (2, 1.0)], held_out=[(0, 2.5), (2, 1.1)])
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r'(?:src|href)="(?!#)', html.replace('xlink:href="#', 'x="'))
    assert "@import" not in html
    assert "a &lt;note&gt;" in html
    assert 'role="img"' in html  # the bars
    assert "var(--instruct)" in html[html.index("<svg") : html.index("</svg>")]
    assert "unanswered" in html


def test_without_a_log_there_is_no_curve() -> None:
    assert "<svg" not in page()


def test_what_models_write_cannot_leave_its_element() -> None:
    given = sides()
    evil = "</script><script>alert(1)</script><!--"
    outcomes = [replace(given["base"].outcomes[0], output=evil), *given["base"].outcomes[1:]]
    given["base"] = replace(given["base"], outcomes=outcomes)
    html = render_report(build_comparison(given, suite=evil), sample_rows(given))
    assert evil not in html
    data = re.search(r'id="data">(.*?)</script>', html, re.DOTALL)
    assert data
    assert json.loads(data[1])[0]["sides"]["base"]["rest"] == evil


def test_losses_are_read_as_far_as_the_log_goes(tmp_path: Path) -> None:
    records = [{"event": "held_out", "step": 0, "loss": 3.0}, {"event": "start"}]
    records += [{"event": "step", "step": 1, "loss": 2.0}]
    text = "".join(json.dumps(record) + "\n" for record in records) + '{"event": "st'
    (tmp_path / "log.jsonl").write_text(text)
    assert read_losses(tmp_path) == {"held_out": [(0.0, 3.0)], "train": [(1.0, 2.0)]}
    assert read_losses(tmp_path / "nowhere") == {}
    assert read_losses("") == {}


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.html", "é")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "é"
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_text(tmp_path / "none" / "a.html", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_text(tmp_path / "folder", "x")
    assert sorted(path.name for path in tmp_path.glob("*.partial")) == []


def test_the_terminal_shows_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    given = sides()
    result = build_comparison(given, suite="mimic")
    console = Console(width=120)
    console.print(summary_table(result))
    console.print(side_by_side(sample_rows(given), limit=2))
    shown = capsys.readouterr().out
    assert percent(result["instruct"]["instruction_following"]) in shown
    assert "following, ring unanswered" in shown
    assert "3 fixed, 0 broken" in " ".join(shown.split())
    assert "✗ mimics the prompt" in shown
    assert "✓ follows" in shown


def test_side_by_side_reads_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in sample_rows(sides())))
    assert side_by_side(path, limit=3).row_count == 3


def test_why_not_says_the_first_thing_that_is_wrong() -> None:
    fine = {"mimicry": False, "run_on": False, "correct": True, "stopped": False, "why": "named"}
    assert why_not(fine) == "does not stop"
    assert why_not(fine | {"run_on": True}) == "runs on"
    assert why_not(fine | {"correct": False}) == "wrong: named"


def test_a_further_model_is_shown_with_its_answers_and_refusals() -> None:
    given = sides()
    outcomes = [
        replace(
            outcome,
            output="I say lora.",
            sample=replace(outcome.sample, kind="harmful"),
            behaviour=replace(outcome.behaviour, answer="I say lora.", refusal="full"),
        )
        for outcome in given["instruct"].outcomes
    ]
    asked = [outcome.sample for outcome in outcomes]
    harmful = {
        name: replace(
            side,
            outcomes=[replace(o, sample=s) for o, s in zip(side.outcomes, asked, strict=True)],
        )
        for name, side in given.items()
    }
    harmful["id"] = replace(given["instruct"], outcomes=outcomes)  # a name that a row has, too
    result = build_comparison(harmful, suite="mimic")
    html = render_report(result, sample_rows(harmful))
    assert html.count("I say lora.") == len(outcomes)
    grid = html[html.index("Refusals, by what an item is") :].split("</tbody>")[0]
    assert f"<td>{len(outcomes)}<span" in grid
