"""Lay a plan out for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from biddable.training.changes import Suggestion
from biddable.training.costs import Memory
from biddable.training.estimate import Estimate
from biddable.training.paper import PaperPlan
from biddable.training.planner import Plan

_SIGNS = {"ok": ("✓", "green"), "note": ("·", "cyan"), "warning": ("!", "yellow")}
_REFUSED = ("✗", "bold red")
_NUMBERS = {
    "float32": "float32",
    "mixed": "mixed precision: bfloat16, over weights in float32",
    "bfloat16": "all in bfloat16",
}
_WORTH_SAYING = 0.1  # of the tokens, that a setting would save
_PARTS = ("weights", "gradients", "optimizer", "activations", "logits")


def plan_table(plan: Plan, *, config: str = "CONFIG") -> RenderableType:
    """Lay a plan out for the terminal.

    Args:
        plan: of a run here.
        config: the file that the run is started with.
    """
    parts: list[RenderableType] = [Text("Readiness of the base", style="bold"), _facts(plan)]
    parts += [Text("Lengths in tokens, and what the limit takes", style="bold"), _lengths(plan)]
    parts += [Text("The training", style="bold"), _training(plan)]
    if plan.estimate is not None:
        parts += [Text("What it takes", style="bold"), _cost(plan.estimate)]
    if plan.refusals:
        shown = {str(problem) for problem in plan.readiness.problems}
        rest = [reason for reason in plan.refusals if reason not in shown]
        why = ":" if rest else ", for what is marked ✗ above."
        parts.append(Text(f"This run would be refused{why}", style=_REFUSED[1]))
        parts += [Padding(Text(reason), (0, 0, 0, 2)) for reason in rest]
    elif plan.in_the_way is not None:
        parts.append(
            Text("A new run of this config would be refused as things lie:", style="bold yellow")
        )
        parts.append(Padding(Text(plan.in_the_way), (0, 0, 0, 2)))
    elif plan.estimate is not None and not plan.estimate.fits:
        parts.append(
            Text(
                "This run can start, but memory does not suffice for it as it is planned",
                style="bold yellow",
            )
        )
    else:
        parts.append(Text(f"This run can start: biddable train {config}", style="bold green"))
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
    return Padding(Group(table, Padding(Text(told, style="dim"), (0, 0, 0, 2))), (0, 0, 1, 0))


def _training(plan: Plan) -> RenderableType:
    share = 100 * plan.num_loss_tokens / max(plan.num_tokens, 1)
    rate, reason = f"{plan.learning_rate:g}", plan.learning_rate_reason
    lines = {
        "what trains": plan.method,
        "template": f"{plan.readiness.template}, ends with {plan.readiness.stop_text}",
        "trained tokens": f"{plan.num_loss_tokens:,} of {plan.num_tokens:,} ({share:.1f} %)",
        "stop learned": f"in {plan.num_stopped:,} of {plan.num_kept:,} rows",
        "steps": f"{plan.num_steps:,}, over {plan.num_step_tokens:,} tokens,"
        f" {plan.num_step_loss_tokens:,} of them learned",
        "layout": _layout(plan),
        "learning rate": reason if reason.startswith(rate) else f"{rate} ({reason})",
    }
    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(f"  {name}", Text(text))
    return Padding(table, (0, 0, 1, 0))


def _layout(plan: Plan) -> str:
    num_unique, num_together = plan.num_step_unique_tokens, plan.num_step_together_tokens
    is_shared = num_unique < plan.num_step_tokens
    told = plan.layout + (f": {num_unique:,} tokens" if is_shared else "")
    saved = 1 - num_together / num_unique if num_unique else 0
    if saved >= _WORTH_SAYING:
        told += f"; {100 * saved:.0f} % fewer with training.keep_together: true"
    return told


def _cost(estimate: Estimate) -> RenderableType:
    """Show memory in its parts, and time."""
    memory = estimate.memory
    peak, available = size_text(memory.needed), size_text(estimate.available)
    where = "memory" if estimate.device == "cpu" else f"memory of {estimate.device}"
    verdict = "" if estimate.fits else ": does not fit"
    told = Text(f"{peak} at the peak, of {available} {where}{verdict}")
    told.stylize("" if estimate.fits else "bold red", len(told) - len(verdict))
    lines = {"memory": told, "": memory_text(memory)}
    if estimate.num_processes > 1:
        how = "divide the model" if estimate.is_divided else "hold the whole model each"
        told = Text(f"{estimate.num_processes}, which {how}; the memory is of one of them")
        if estimate.is_divided:
            host = size_text(estimate.host)
            told.append(f"; rank 0 has the whole base in the CPU's memory first, {host}")
        lines = {"processes": told, **lines}
    largest = f"{estimate.num_tokens:,} tokens of {estimate.num_rows:,} rows"
    how = "counted" if estimate.is_counted else "by the formula of a Llama-type model"
    lines["largest pass"] = Text(f"{largest}; its activations are {how}")
    lines |= _time_lines(estimate)
    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(f"  {name}", text)
    parts: list[RenderableType] = [table]
    if estimate.suggestions:
        parts += [Text("\nWhat would help", style="bold")]
        parts.append(suggestions_table(estimate.suggestions))
    return Padding(Group(*parts), (0, 0, 1, 0))


def _time_lines(estimate: Estimate) -> dict[str, Text]:
    pace, measured = estimate.pace, estimate.measured
    if pace is None or measured is None:
        of_several = "not said for several processes"
        return {"time": Text(of_several if estimate.num_processes > 1 else "not measured")}
    total, epoch, step = map(duration_text, (pace.total, pace.per_epoch, pace.per_step))
    lines = {"time": Text(f"{total} in all, {epoch} an epoch, {step} a step")}
    apart = {"the held-out loss": pace.held_out, "states of frozen layers": pace.kept_states}
    parts = [f"{what} {duration_text(seconds)}" for what, seconds in apart.items() if seconds]
    passes = f"from {len(measured.samples)} passes, measured in {duration_text(measured.seconds)}"
    lines[" "] = Text("; ".join([*parts, passes]), style="dim")
    return lines


def memory_text(memory: Memory) -> Text:
    """Name the parts of some memory, those that are nothing left out."""
    words = {"cache": "states of frozen layers, mapped", "program": "program and rows"}
    sizes = [(words.get(name, name), getattr(memory, name)) for name in memory.__slots__]
    return Text(", ".join(f"{what} {size_text(size)}" for what, size in sizes if size), style="dim")


def suggestions_table(suggestions: Sequence[Suggestion]) -> RenderableType:
    """List changes with what each saves."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("  ")
    table.add_column("saves", justify="right")
    table.add_column("peak", justify="right")
    table.add_column("change")
    for suggestion in suggestions:
        sign, style = _SIGNS["ok"] if suggestion.fits else _SIGNS["note"]
        sizes = (size_text(suggestion.saves), size_text(suggestion.needed))
        table.add_row(Text(f"  {sign}", style=style), *sizes, Text(suggestion.change))
    told = "✓ is enough"
    if not any(suggestion.fits for suggestion in suggestions):
        least = size_text(min(suggestion.needed for suggestion in suggestions))
        told = f"nothing is enough, alone or together: {least} are needed at the least"
    return Group(table, Text(f"  {told}", style="dim"))


def size_text(size: float) -> str:
    """Say bytes in units of 10**9, or 10**6.

    Example:
        >>> size_text(3_456_000_000), size_text(12_300_000)
        ('3.46 GB', '12 MB')
    """
    if abs(size) >= 1e10:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e9:.2f} GB" if abs(size) >= 1e9 else f"{size / 1e6:.0f} MB"


def duration_text(seconds: float) -> str:
    """Say a time as one reads it.

    Example:
        >>> [duration_text(s) for s in (0.25, 48, 300, 7_500, 200_000)]
        ['0.25 s', '48 s', '5 min', '2 h 5 min', '2 d 7 h']
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def paper_table(plan: PaperPlan) -> RenderableType:
    """Lay a plan on paper out for the terminal."""
    hardware, load = plan.hardware, plan.load
    gpus = f"{hardware.num_gpus} GPU{'s' if hardware.num_gpus > 1 else ''}"
    numbers = _NUMBERS[load.precision]
    recompute = ", layers computed again" if load.recompute else ""
    lines = {
        "model": f"{plan.architecture}, {plan.num_parameters:,} parameters",
        "what trains": f"{plan.method}; {plan.num_trained:,} parameters",
        "hardware": f"{gpus} of {size_text(hardware.gpu_memory)},"
        f" {size_text(plan.usable)} of each usable",
        "each pass": f"{load.micro_tokens:,} tokens on a GPU, {numbers}{recompute}",
    }
    if plan.tokens_per_s is None:
        lines["time"] = "not said: give --gpu-tflops, what a GPU reaches in training"
    else:
        lines["time"] = f"{plan.tokens_per_s:,.0f} tokens/s if each reaches"
        lines["time"] += f" {hardware.gpu_tflops:g} TFLOP/s"
    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(f"  {name}", Text(text))
    parts: list[RenderableType] = [Text("On paper", style="bold"), Padding(table, (0, 0, 1, 0))]
    parts += [Text("On each GPU, at the peak", style="bold"), _spreads(plan)]
    if plan.suggestions:
        parts += [Text("What would help", style="bold"), suggestions_table(plan.suggestions)]
    return Group(*parts)


def _spreads(plan: PaperPlan) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("  ")
    for spread in plan.spreads:
        sign, style = _SIGNS["ok"] if spread.fits else _REFUSED
        name = spread.name if spread.is_asked_for else f"({spread.name})"
        table.add_column(Text.assemble((sign, style), f" {name}"), justify="right")
    for name in (*_PARTS, "peak"):
        sizes = [size_text(getattr(spread.memory, name)) for spread in plan.spreads]
        table.add_row(f"  {name}", *sizes, style="bold" if name == "peak" else "")
    most = [spread.largest_micro_tokens for spread in plan.spreads]
    table.add_row("  largest pass that fits", *(f"{n:,} tokens" if n else "none" for n in most))
    told = "formulas: docs/plan.md"
    if any(hosts := [spread.host for spread in plan.spreads]):
        sizes = [size_text(host) if host else "-" for host in hosts]
        if any(spread.name == "FSDP2" for spread in plan.spreads):
            whose, does = (
                "rank 0's",
                "rank 0 loads the base into the CPU's memory and hands each GPU its part",
            )
        else:
            whose, does = (
                "each process's",
                "a base is loaded into the CPU's memory and made small on the GPU, layer by layer",
            )
        table.add_row(f"  {whose} CPU memory", *sizes)
        told = f"{does}\n{told}"
    if not all(spread.is_asked_for for spread in plan.spreads):
        told += "; in brackets: not what the config's training.sharding asks for"
    return Padding(Group(table, Padding(Text(told, style="dim"), (0, 0, 0, 2))), (0, 0, 1, 0))
