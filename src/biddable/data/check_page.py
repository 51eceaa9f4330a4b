"""Write what a check found as one HTML page that opens anywhere, offline."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from biddable.data.check import CheckReport
from biddable.data.check_report import by_code, headline, tell_truncation
from biddable.data.problems import Problem

MAX_FINDINGS = 500  # of each code in the page; the rest are counted, and --json has them all
_BARS = 28
_MAX_CATEGORIES = 20
_WIDTH, _HEIGHT, _FOOT = 320, 110, 22


def render_page(report: CheckReport) -> str:
    """Render the page.

    Args:
        report: what was found.

    Returns:
        HTML that needs no other file.
    """
    environment = Environment(
        loader=PackageLoader("biddable.data", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    groups = by_code(report.problems)
    lengths = report.row_lengths
    shares = [round(100 * row.answer / row.total) for row in lengths if row.total]
    return environment.get_template("check.html.j2").render(
        report=report,
        headline=headline(report),
        told=tell_truncation(report.truncation),
        histograms=[
            ("Prompts", draw_histogram([row.prompt for row in lengths])),
            ("Answers", draw_histogram([row.answer for row in lengths])),
            ("Learned share of a row, %", draw_histogram(shares, ends=(0, 100))),
        ],
        cut=_cut_bar(report),
        categories=_bars(report.categories),
        languages=_bars(report.languages),
        codes=[(code, found[0].severity, len(found)) for code, found in groups],
        limit=MAX_FINDINGS,
        data=_as_script([_shown(p) for _, found in groups for p in found[:MAX_FINDINGS]]),
    )


def draw_histogram(values: Sequence[int], *, ends: tuple[float, float] | None = None) -> str:
    """Draw how many rows have which length, as an SVG in the page's colours.

    The axis is logarithmic where the longest is many times the usual one.

    Args:
        values: one of each row.
        ends: of the axis; None takes those of the values.
    """
    if not values:
        return ""
    low, high = ends or (min(values), max(values))
    is_log = ends is None and high > 20 * max(1, sorted(values)[len(values) // 2])
    edges = _edges(low, high, is_log=is_log)
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[_bin_of(value, edges)] += 1
    step, top = _WIDTH / len(counts), max(counts)
    bars = []
    for n, count in enumerate(counts):
        if count:
            height = max(2.0, (_HEIGHT - 14) * count / top)
            title = f"{_round(edges[n])} to {_round(edges[n + 1])}: {count:,} rows"
            bars.append(
                f'<rect x="{n * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}"'
                f' height="{height:.1f}" rx="1.5"><title>{title}</title></rect>'
            )
    marks = [
        f'<text x="{x:.0f}" y="{_HEIGHT + 16}" text-anchor="{anchor}">{_round(edges[at])}</text>'
        for x, anchor, at in (
            (0, "start", 0),
            (_WIDTH / 2, "middle", len(counts) // 2),
            (_WIDTH, "end", len(counts)),
        )
    ]
    scale = ", logarithmic" if is_log else ""
    peak = f'<text x="0" y="9" text-anchor="start">{top:,} rows at most{scale}</text>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img"'
        f' aria-label="histogram, {_round(low)} to {_round(high)}">{"".join(bars)}'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{peak}{"".join(marks)}</svg>'
    )


def _edges(low: float, high: float, *, is_log: bool) -> list[float]:
    if is_log:
        start = max(1.0, low)
        ratio = math.log(max(high, start + 1) / start)
        return [start * math.exp(ratio * n / _BARS) for n in range(_BARS + 1)]
    num = max(1, min(_BARS, math.ceil(high - low)))
    width = max(high - low, 1) / num
    return [low + width * n for n in range(num + 1)]


def _bin_of(value: float, edges: Sequence[float]) -> int:
    inside = sum(edge <= value for edge in edges) - 1
    return min(max(inside, 0), len(edges) - 2)


def _round(value: float) -> str:
    return f"{round(value):,}"


def _cut_bar(report: CheckReport) -> dict[str, float] | None:
    """Give the shares of rows that fit, are cut, and are left with nothing to learn."""
    cut, num = report.truncation, len(report.row_lengths)
    if cut.max_seq_len is None or not num:
        return None
    without = cut.rows_without_answer
    return {
        "fits": 100 * (num - cut.rows_over) / num,
        "cut": 100 * (cut.rows_over - without) / num,
        "lost": 100 * without / num,
    }


def _bars(counts: dict[str, int]) -> list[dict[str, Any]]:
    """Give the largest counts as bars; the others are added up in the last one."""
    most = max(counts.values(), default=1)
    shown = list(counts.items())[:_MAX_CATEGORIES]
    rest = sum(counts.values()) - sum(count for _, count in shown)
    named = [*shown, ("all others", rest)] if rest else shown
    return [
        {"name": name, "count": count, "share": min(100.0, 100 * count / most)}
        for name, count in named
    ]


def _shown(problem: Problem) -> dict[str, Any]:
    place = f"{problem.path or ''}" + (f":{problem.line}" if problem.line else "")
    return {
        "place": place,
        "code": problem.code,
        "severity": problem.severity,
        "text": problem.message,
    }


def _as_script(value: object) -> str:
    """Write JSON that may stand in a script element: no text in it can close the element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
