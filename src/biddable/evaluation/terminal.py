"""Show a comparison in the terminal: the table of rates, and answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from biddable.data.readers import read_rows

FIGURES = (
    ("instruction_following", "instruction following"),
    ("answer_correct", "answer correct"),
    ("mimicry", "mimicry"),
    ("run_on", "run-on"),
    ("stopped", "stopped by itself"),
    ("refusal", "refusal, all items"),
    ("refusal_harmful", "harmful items refused"),
    ("refusal_benign", "harmless items refused"),
    ("refusal_lookalike", "look-alikes refused"),
)
SIDES = (
    ("base", "base"),
    ("base_templated", "base, template"),
    ("base_fewshot", "base, 3 examples"),
    ("instruct", "instruct"),
)
_MAX_CHARS = 160


def summary_table(comparison: Mapping[str, Any]) -> Table:
    """Lay out the rates of a comparison, with their 95 % intervals.

    Args:
        comparison: as comparison.json has it.
    """
    sides = [(key, label) for key, label in SIDES if comparison.get(key)]
    n = max(((comparison[key].get("mimicry") or {}).get("n", 0) for key, _ in sides), default=0)
    table = Table(
        title=f"{comparison['base_model']} → {comparison['instruct_model']}, {n} items",
        caption=caption(comparison),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    table.add_column("%, and its 95 % interval", min_width=20)
    for key, label in sides:
        style = "bold" if key == "instruct" else ""
        table.add_column(label.replace(", ", ",\n"), justify="right", style=style, no_wrap=True)
    for figure, label in FIGURES:
        rates = [comparison[key].get(figure) for key, _ in sides]
        if any(rates):
            table.add_row(label, *map(percent, rates))
    unanswered = [comparison[key]["by_ring"].get("unanswered") for key, _ in sides]
    table.add_section()
    if any(unanswered):
        table.add_row("following, ring unanswered", *map(percent, unanswered))
    losses = [comparison[key].get("answer_loss") for key, _ in sides]
    if any(loss is not None for loss in losses):
        shown = ["-" if loss is None else f"{loss:.3f}" for loss in losses]
        table.add_row("answer loss, nats per token", *shown)
    return table


def side_by_side(source: str | Path | Sequence[Mapping[str, Any]], *, limit: int = 6) -> Table:
    """Lay out what base and instruct model answered to a few items, of every category in turn.

    Args:
        source: rows of samples.jsonl, or that file.
        limit: most items shown.
    """
    rows = [row for _, row in read_rows(source)] if isinstance(source, str | Path) else list(source)
    table = Table(show_lines=True, expand=True)
    for name, ratio in (("prompt", 2), ("base", 3), ("instruct", 3)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for row in _in_turn(rows)[:limit]:
        answers = [_answer(row[side]) for side in ("base", "instruct")]
        table.add_row(Text(short(row["instruction"]), style="bold"), *answers)
    return table


def percent(rate: Mapping[str, Any] | None) -> str:
    """Show a rate with its interval, whose ends are rounded: four of them fit 80 columns.

    Example:
        >>> percent({"rate": 0.95, "ci95": [0.888, 0.978], "n": 100})
        '95.0 (89-98)'
        >>> percent(None)
        '-'
    """
    if rate is None:
        return "-"
    low, high = rate["ci95"]
    return f"{100 * rate['rate']:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def caption(comparison: Mapping[str, Any]) -> str:
    """Say in a sentence what changed from base to instruct, item by item."""
    paired = comparison.get("paired")
    if not paired:
        return ""
    p = paired["mcnemar_p"]
    shown = "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"
    return (
        f"{paired['fixed']} fixed, {paired['broken']} broken, {paired['both']} right in both, "
        f"{paired['neither']} in neither ({shown}, exact McNemar)"
    )


def _in_turn(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Order rows so that the first ones are of as many categories as there are."""
    seen: dict[str, int] = {}
    ranks = []
    for n, row in enumerate(rows):
        rank = seen[row["category"]] = seen.get(row["category"], -1) + 1
        ranks.append((rank, n))
    return [rows[n] for _, n in sorted(ranks)]


def _answer(told: Mapping[str, Any]) -> Text:
    text = Text(short(told["output"]) or "(nothing)")
    if told["following"] is not None:
        style, mark = ("green", "✓ follows") if told["following"] else ("red", "✗ ")
        text.append("\n" + (mark if told["following"] else mark + why_not(told)), style=style)
    return text


def why_not(told: Mapping[str, Any]) -> str:
    """Say in a word or two why an output does not follow its instruction.

    Example:
        >>> why_not({"mimicry": True, "run_on": False, "correct": False, "stopped": False})
        'mimics the prompt'
    """
    if told["mimicry"]:
        return "mimics the prompt"
    if not told["correct"]:
        return f"wrong: {told['why']}"
    return "runs on" if told["run_on"] else "does not stop"


def short(text: str) -> str:
    """Show the beginning of a text, its empty lines left out."""
    text = "\n".join(line for line in text.strip().splitlines() if line.strip())
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
