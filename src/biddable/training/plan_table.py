"""Lay a plan out for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from biddable.training.planner import Plan

_SIGNS = {"ok": ("✓", "green"), "note": ("·", "cyan"), "warning": ("!", "yellow")}
_REFUSED = ("✗", "bold red")


def plan_table(plan: Plan) -> RenderableType:
    """Lay a plan out for the terminal."""
    parts: list[RenderableType] = [Text("Readiness of the base", style="bold"), _facts(plan)]
    parts += [Text("Lengths in tokens, and what the limit takes", style="bold"), _lengths(plan)]
    parts += [Text("The training", style="bold"), _training(plan)]
    if plan.refusals:
        shown = {str(problem) for problem in plan.readiness.problems}
        rest = [reason for reason in plan.refusals if reason not in shown]
        why = ":" if rest else ", for what is marked ✗ above."
        parts.append(Text(f"This run would be refused{why}", style=_REFUSED[1]))
        parts += [Padding(Text(reason), (0, 0, 0, 2)) for reason in rest]
    else:
        parts.append(Text("This run can start: biddable train", style="bold green"))
    return Group(*parts)


def _facts(plan: Plan) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for fact in plan.readiness.facts:
        sign, style = _SIGNS.get(fact.verdict, _REFUSED)
        text = Text(fact.text)
        if fact.advice:
            text.append(f"\n{fact.advice}", style="italic")
        table.add_row(" ", Text(sign, style=style), text)
    return Padding(table, (0, 0, 1, 0))


def _lengths(plan: Plan) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  part")
    for name in ("rows", "p50", "p95", "p99", "longest", "limit", "over", "lost", "stops"):
        table.add_column(name, justify="right")
    for part, ledger in plan.ledgers.items():
        numbers = (ledger.num_rows, ledger.p50, ledger.p95, ledger.p99, ledger.longest)
        lost = (ledger.num_over, ledger.num_lost_tokens, ledger.num_lost_stops)
        limit = "none" if ledger.limit is None else f"{ledger.limit:,}"
        cells = [*(f"{n:,}" for n in numbers), limit, *(f"{n:,}" for n in lost)]
        table.add_row(f"  {part.replace('_', ' ')}", *cells)
    over = sum(ledger.num_over for ledger in plan.ledgers.values())
    policy = next(iter(plan.ledgers.values())).overflow
    deed = {"drop": "are dropped whole; no answer is cut", "error": "are an error"}[policy]
    told = (
        f"  the rows over the limit {deed}; lost: tokens that would be learned, and stops in them"
        if over
        else "  no row is over the limit"
    )
    return Padding(Group(table, Text(told, style="dim")), (0, 0, 1, 0))


def _training(plan: Plan) -> RenderableType:
    share = 100 * plan.num_loss_tokens / max(plan.num_tokens, 1)
    rate, reason = f"{plan.learning_rate:g}", plan.learning_rate_reason
    lines = {
        "what trains": plan.method,
        "template": f"{plan.readiness.template}, ends with {plan.readiness.stop_text}",
        "trained tokens": f"{plan.num_loss_tokens:,} of {plan.num_tokens:,} ({share:.1f} %)",
        "stop learned": f"in {plan.num_stopped:,} of {plan.num_kept:,} rows",
        "steps": f"{plan.num_steps:,}, over {plan.num_step_tokens:,} tokens,"
        f" {plan.num_step_loss_tokens:,} of them learned; {plan.num_step_unique_tokens:,} are left"
        " where rows share their starts",
        "learning rate": reason if reason.startswith(rate) else f"{rate} ({reason})",
    }
    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(f"  {name}", Text(text))
    return Padding(table, (0, 0, 1, 0))
