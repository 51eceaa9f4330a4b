"""Show in the terminal what tuning cost: forgetting, memorisation, how answers vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from biddable.counting import counted
from biddable.evaluation.side_names import heading_of, labels_of
from biddable.evaluation.terminal import NARROW, percent

Row = tuple[str, ...]


def cost_table(comparison: Mapping[str, Any], *, width: int = 80) -> Table | None:
    """Lay out what tuning cost; None if none of it was measured.

    Args:
        comparison: as comparison.json has it.
        width: of the terminal.
    """
    rows = cost_rows(comparison)
    if not rows:
        return None
    table = Table(
        title="What tuning cost",
        caption=cost_caption(comparison),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    # rich gives way to a least width by cutting the table's other end off
    table.add_column("", min_width=None if width < NARROW else 20, overflow="fold")
    labels = labels_of(comparison)
    for side, style in (("base", ""), ("instruct", "bold")):
        table.add_column(heading_of(labels[side]), justify="right", style=style, overflow="fold")
    table.add_column("change, or\nreferences", justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def cost_rows(comparison: Mapping[str, Any]) -> list[Row]:
    """Give each figure of the table: what it is, of the base, of the instruct model, the change."""
    return [
        *_forgetting(comparison.get("forgetting")),
        *memory_rows(comparison.get("memorisation"), ("base", "instruct", "references")),
        *_diversity(comparison.get("diversity")),
    ]


def _forgetting(block: Mapping[str, Any] | None) -> Iterator[Row]:
    if block is None:
        return
    change = block["bits_per_byte_change"]
    yield (
        "plain text, bits per byte",
        f"{block['base_bits_per_byte']:.3f}",
        f"{block['instruct_bits_per_byte']:.3f}",
        _changed(change["mean"], change["ci95"]),
    )
    if block["nll_change"] is not None:
        yield (
            "plain text, nats per token",
            f"{block['base_nll']:.3f}",
            f"{block['instruct_nll']:.3f}",
            _changed(block["nll_change"]["mean"], block["nll_change"]["ci95"]),
        )
        yield "KL to the base, plain text", "0", f"{block['kl_to_base']:.3f}", ""
    for part in ("prompts", "answers"):
        if block.get(part):
            yield f"KL to the base, {part}", "0", f"{block[part]['kl_to_base']:.3f}", ""
    if block.get("answers"):
        share = block["answers"]["base_first_choice"]
        yield "answer tokens the base ranks first", "", f"{100 * share:.1f} %", ""


def memory_rows(block: Mapping[str, Any] | None, sides: Sequence[str]) -> Iterator[Row]:
    """Give each figure of memorisation: what it is, and what it is of each side.

    Args:
        block: as `memorisation_of` gives it; None gives no rows.
        sides: in it, the references among them.
    """
    if block is None:
        return
    yield (
        "exact copies of training answers, %",
        *(percent(block[side]["exact_copies"]) for side in sides),
    )
    shares = [block[side]["copied_ngrams"] for side in sides]
    told = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
    yield f"runs of {block['ngram']} words from them, %", *told
    runs = [str(block[side]["longest_run"]["most"]) for side in sides]
    yield "longest run in common, words", *runs


def _diversity(block: Mapping[str, Any] | None) -> Iterator[Row]:
    if block is None:
        return
    base, instruct = block["base"], block["instruct"]
    for key, label in (("median", "median"), ("p95", "95 % below")):
        low, high = (f"{side['words'][key]:.1f}" for side in (base, instruct))
        yield f"words an answer, {label}", low, high, ""
    for n in ("1", "2", "3"):
        sides = [side["distinct_same_length"] for side in (base, instruct)]
        told = ["-" if side is None else f"{side[n]:.3f}" for side in sides]
        yield f"distinct-{n}, same length", told[0], told[1], ""


def cost_caption(comparison: Mapping[str, Any]) -> str:
    """Say on what the figures of the table were measured."""
    parts = []
    forgetting, diversity = comparison.get("forgetting"), comparison.get("diversity")
    memory = comparison.get("memorisation") or {}
    if forgetting:
        parts.append(
            f"plain text: {forgetting['text']}, {counted(forgetting['num_pages'], 'page')},"
            f" {forgetting['num_tokens']:,} tokens"
        )
    if files := memory.get("training_data"):
        more = f" and {counted(len(files) - 1, 'other file')}" if len(files) > 1 else ""
        answers = counted(memory["num_training_answers"], "training answer")
        parts.append(f"{answers} of {files[0]['file']}{more}")
    if diversity:
        parts.append(
            "distinct-n falls with length, so it is over"
            f" {diversity['same_length_words']:,} words a side"
        )
    return "; ".join(parts)


def _changed(mean: float, interval: list[float] | None) -> str:
    between = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
    return f"{mean:+.3f}{between}"
