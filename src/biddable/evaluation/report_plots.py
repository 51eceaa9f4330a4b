"""Draw the figures of the report as SVG that fits any width and takes the page's colours.

Places along the axis are percentages, so that a figure shrinks with the page while its marks and
lines keep their size. Sides differ by shape as well as by colour.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

from biddable.curves import smooth

NUM_BINS = 24
_TRACK = 15  # pixels between the marks of two sides
_BAR_HEIGHT = 56
# the first is hollow: what was; the second is filled: what is
_SHAPES = (
    '<circle r="5"/>',
    '<circle r="5.5"/>',
    '<path d="M-5-5h10v10h-10z"/>',
    '<path d="M0-6.5 6.5 0 0 6.5-6.5 0z"/>',
    '<path d="M0-6 6 5h-12z"/>',
    '<path d="M0 6 6-5h-12z"/>',
    '<path d="M-5-5h10v10h-10z" class="hollow"/>',
    '<path d="M0-6.5 6.5 0 0 6.5-6.5 0z" class="hollow"/>',
)
_HEIGHT = re.compile(r' height="[^"]*pt"')
# Colours that the page replaces by its own, which follow the reader's light or dark mode.
_INK, _FAINT, _TRAIN, _HELD = "#010101", "#020202", "#030303", "#040404"
_COLOURS = {_INK: "ink", _FAINT: "line", _TRAIN: "s0", _HELD: "s1"}


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold one side's figure.

    Attributes:
        side: place of the side in the page's order, which sets shape and colour.
        label: what is read out.
        value: along the axis, from 0 to 1.
        interval: its ends, if it has one.
    """

    side: int
    label: str
    value: float
    interval: tuple[float, float] | None = None


def draw_marks(name: str, marks: Sequence[Mark]) -> str:
    """Draw one figure of several sides: a dot each, a line for its interval, before to after."""
    if not marks:
        return ""
    parts = []
    if len(marks) > 1:
        ends = [(_at(mark.value), _TRACK * n + 8) for n, mark in enumerate(marks[:2])]
        (x1, y1), (x2, y2) = ends
        parts.append(f'<line class="go" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
    for n, mark in enumerate(marks):
        y = _TRACK * n + 8
        if mark.interval:
            low, high = map(_at, mark.interval)
            parts.append(f'<line class="s{mark.side}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>')
        shape = _SHAPES[mark.side % len(_SHAPES)]
        parts.append(f'<svg x="{_at(mark.value)}" y="{y}" class="m s{mark.side}">{shape}</svg>')
    told = "; ".join(mark.label for mark in marks)
    height = _TRACK * len(marks) + 1
    return (
        f'<svg class="marks" width="100%" height="{height}" role="img"'
        f' aria-label="{escape(name)}: {escape(told)}">{"".join(parts)}</svg>'
    )


def draw_key(side: int) -> str:
    """Draw a side's mark for the legend."""
    shape = _SHAPES[side % len(_SHAPES)]
    return (
        '<svg class="key-mark" width="16" height="16" aria-hidden="true">'
        f'<svg x="8" y="8" class="m s{side}">{shape}</svg></svg>'
    )


def bin_edges(values: Sequence[Sequence[int]]) -> list[int]:
    """Choose the bins of histograms that are to be compared: of equal width, the last one open.

    Example:
        >>> bin_edges([[1, 2, 3], [50]])[:3]
        [0, 3, 6]
        >>> bin_edges([[]])
        [0, 1]
    """
    every = sorted(value for side in values for value in side)
    if not every:
        return [0, 1]
    longest = max(1, every[min(len(every) - 1, int(0.99 * len(every)))])
    width = max(1, -(-(longest + 1) // NUM_BINS))
    return list(range(0, width * (-(-(longest + 1) // width)) + 1, width))


def count_bins(values: Sequence[int], edges: Sequence[int]) -> list[int]:
    """Count values by bin; the last one takes all that are longer.

    Example:
        >>> count_bins([0, 1, 2, 99], [0, 2, 4])
        [2, 2]
    """
    width, counts = edges[1] - edges[0], [0] * (len(edges) - 1)
    for value in values:
        counts[min(value // width, len(counts) - 1)] += 1
    return counts


def draw_histogram(
    name: str, values: Sequence[int], *, side: int, edges: Sequence[int], most: float
) -> str:
    """Draw how many words answers have.

    Args:
        name: of the side.
        values: one an answer.
        side: place of the side, which sets the colour.
        edges: of ``bin_edges``.
        most: share of answers that the height stands for.
    """
    counts, num = count_bins(values, edges), max(1, len(values))
    step = 100 / len(counts)
    bars = []
    for n, count in enumerate(counts):
        if count:
            height = max(1.0, _BAR_HEIGHT * count / num / most)
            to = "and more" if n == len(counts) - 1 else f"to {edges[n + 1] - 1}"
            bars.append(
                f'<rect class="s{side}" x="{step * n:.2f}%" width="{0.86 * step:.2f}%"'
                f' y="{_BAR_HEIGHT - height:.1f}" height="{height:.1f}">'
                f"<title>{edges[n]} {to} words: {count} of {num}</title></rect>"
            )
    middle = sorted(values)[len(values) // 2] if values else 0
    return (
        f'<svg class="bars" width="100%" height="{_BAR_HEIGHT}" role="img" aria-label="'
        f'{escape(name)}: words an answer, median {middle}">{"".join(bars)}</svg>'
    )


def round_up(value: float) -> float:
    """Choose where an axis from 0 ends: the next number whose quarters are short to write.

    Example:
        >>> round_up(2.04), round_up(0.31), round_up(0.0)
        (2.4, 0.4, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 6.0, 8.0, 10.0)
    return round(next(s for s in steps if s * power >= value * (1 - 1e-9)) * power, 12)


def draw_losses(losses: Mapping[str, Sequence[Sequence[float]]], *, width: float = 8.4) -> str:
    """Draw the loss curves as an SVG whose colours are the page's.

    Args:
        losses: curves by name (``train``, ``held_out``), each of (step, nats per token).
        width: inches; the page shows a narrow one on a phone, where a wide one cannot be read.
    """
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"biddable{width}", "font.size": 11}):
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.subplots()
        train = [(step, value) for step, value in losses.get("train", ())]
        if train:
            axes.plot(*zip(*train, strict=True), color=_TRAIN, linewidth=0.8, alpha=0.4)
            axes.plot(*zip(*smooth(train), strict=True), color=_TRAIN, label="training")
        if losses.get("held_out"):
            points = list(zip(*losses["held_out"], strict=True))
            axes.plot(*points, color=_HELD, marker="o", markersize=5, label="held out")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step", color=_INK)
        axes.set_ylabel("nats per answer token", color=_INK)
        axes.tick_params(colors=_INK, length=0)
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.legend(frameon=False, labelcolor=_INK)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, name in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    # two figures on a page must not share ids
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>w{round(10 * width)}", svg)
    return re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", _HEIGHT.sub("", svg, count=1))


def _at(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"
