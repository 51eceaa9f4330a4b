"""Draw the loss curve that a run folder holds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from biddable.curves import curves_of, smooth

LOSS_PICTURE = "loss.png"

_INK, _FAINT, _TRAIN, _HELD, _RATE = "#333333", "#dddddd", "#3b6fb6", "#d1603d", "#5a8f5a"


def draw_losses(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the training loss, the held-out loss and the learning rate over the steps.

    Args:
        records: the log of a run, with at least one step.

    Returns:
        A PNG picture.
    """
    curves = curves_of(records)
    with rc_context({"font.size": 10, "axes.edgecolor": _INK, "text.color": _INK}):
        figure = Figure(figsize=(8, 4.8), dpi=120, layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        train, smoother = curves["train"], smooth(curves["train"])
        upper.plot(*_columns(train), color=_TRAIN, linewidth=0.7, alpha=0.4)
        upper.plot(
            *_columns(smoother), color=_TRAIN, linewidth=2, label=f"training {smoother[-1][1]:.3f}"
        )
        held_out = curves.get("held_out")
        if held_out:
            label = f"held out {held_out[-1][1]:.3f}"
            upper.plot(*_columns(held_out), color=_HELD, marker="o", linestyle=":", label=label)
        upper.set_ylim(bottom=0)
        upper.set_ylabel("loss (nats per learned token)")
        upper.legend(frameon=False)
        lower.plot(*_columns(curves.get("lr", [])), color=_RATE, linewidth=1.5)
        lower.set_ylim(bottom=0)
        lower.set_ylabel("learning\nrate")
        lower.set_xlabel("step")
        lower.locator_params(axis="x", integer=True)
        lower.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        for axes in (upper, lower):
            axes.grid(axis="y", color=_FAINT, linewidth=0.8)
            axes.tick_params(colors=_INK, length=0)
            axes.spines[["top", "right"]].set_visible(False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [step for step, _ in points], [value for _, value in points]
