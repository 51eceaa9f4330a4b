"""Show in the terminal what a check found: findings by code, lengths, and what a limit costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from biddable.counting import counted
from biddable.data.check import CheckReport
from biddable.data.lengths import Truncation
from biddable.data.problems import Problem, fold

_STYLES = {"error": "bold red", "warning": "bold yellow"}


def show_report(report: CheckReport, *, limit: int = 5) -> RenderableType:
    """Lay out a report.

    Args:
        report: what was found.
        limit: findings shown of each code.
    """
    parts: list[RenderableType] = []
    for code, problems in by_code(report.problems):
        parts.append(_group(code, problems, limit=limit))
    if report.row_lengths:
        parts += [_lengths_table(report), Text(tell_truncation(report.truncation))]
    if report.languages:
        parts.append(Text(f"languages of answers: {_shares(report.languages)}"))
    parts += [Text(f"note: {note}") for note in report.notes]
    parts.append(Text(headline(report), style="bold"))
    return Group(*parts)


def headline(report: CheckReport) -> str:
    """Say it in one line."""
    errors, warnings = len(report.errors), len(report.warnings)
    found = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
    return f"{report.path}: {counted(report.num_rows, 'row')}; {found}"


def by_code(problems: Sequence[Problem]) -> list[tuple[str, list[Problem]]]:
    """Group findings by code, errors before warnings and many before few."""
    ordered = sorted(problems, key=lambda p: (p.severity, p.code))
    groups = [(code, list(group)) for (_, code), group in groupby(ordered, _kind)]
    return sorted(groups, key=lambda group: (group[1][0].severity, -len(group[1]), group[0]))


def tell_truncation(truncation: Truncation) -> str:
    """Say what the length limit costs.

    Example:
        >>> tell_truncation(Truncation(512, 2, 90, 80, 2, 1))
        'limit 512: 2 rows over, 90 tokens over (80 learned), 2 stops lost, 1 row without answer'
        >>> tell_truncation(Truncation(512))
        'limit 512: no row is over it'
    """
    if truncation.max_seq_len is None:
        return "no length limit was given (--model with --max-seq-len)"
    if not truncation.rows_over:
        return f"limit {truncation.max_seq_len:,}: no row is over it"
    return (
        f"limit {truncation.max_seq_len:,}: {counted(truncation.rows_over, 'row')} over,"
        f" {truncation.tokens_over:,} tokens over ({truncation.learned_tokens_over:,} learned),"
        f" {counted(truncation.stops_lost, 'stop')} lost,"
        f" {counted(truncation.rows_without_answer, 'row')} without answer"
    )


def _kind(problem: Problem) -> tuple[str, str]:
    return problem.severity, problem.code


def _group(code: str, problems: Sequence[Problem], *, limit: int) -> Text:
    severity = problems[0].severity
    text = Text()
    text.append(f"{severity} {code}", style=_STYLES[severity])
    text.append(f" ({len(problems):,})\n")
    lines = fold(problems)
    for line in lines[:limit]:
        text.append(f"  {line}\n")
    if len(lines) > limit:
        more = f"  ... and {len(lines) - limit:,} more: --json or --html PAGE shows all\n"
        text.append(more, style="dim")
    return text


def _lengths_table(report: CheckReport) -> Table:
    table = Table(
        box=None, title=f"lengths in {report.lengths['measured_in']}", title_justify="left"
    )
    table.add_column("")
    for name in ("p50", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    for part in ("prompt", "answer", "total"):
        values = report.lengths[part]
        table.add_row(part, *(f"{values[name]:,}" for name in ("p50", "p95", "p99", "max")))
    share = report.lengths["learned_share"]
    if share is not None:
        table.caption = f"{100 * share:.1f} % is learned"
        table.caption_justify = "left"
    return table


def _shares(counts: dict[str, int], limit: int = 5) -> str:
    total = sum(counts.values())
    told = [f"{name} {100 * count / total:.1f} %" for name, count in list(counts.items())[:limit]]
    return ", ".join(told) + (" ..." if len(counts) > limit else "")
