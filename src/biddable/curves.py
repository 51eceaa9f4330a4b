"""Read the log of a run as curves: points of (step, value), and a smoother line through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Curve = list[tuple[float, float]]

# which number of which event each curve is made of
_SOURCES = {"train": ("step", "loss"), "held_out": ("held_out", "loss"), "lr": ("step", "lr")}


def curves_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Take the curves out of a log.

    Args:
        records: of a run, in any order; those that hold no number of a curve are passed over.

    Returns:
        ``train`` and ``held_out`` in nats a learned token, and ``lr``; without the empty ones.

    Example:
        >>> curves_of([{"event": "step", "step": 1, "loss": 2.5}, {"event": "note"}])
        {'train': [(1.0, 2.5)]}
    """
    curves: dict[str, Curve] = {name: [] for name in _SOURCES}
    for record in records:
        for name, (event, key) in _SOURCES.items():
            step, value = record.get("step"), record.get(key)
            is_point = isinstance(step, int | float) and isinstance(value, int | float)
            if record.get("event") == event and is_point:
                curves[name].append((float(record["step"]), float(record[key])))
    return {name: points for name, points in curves.items() if points}


def smooth(points: Sequence[tuple[float, float]]) -> Curve:
    """Average each value with its neighbours within a fortieth of the run.

    Example:
        >>> smooth([(1, 4.0), (2, 1.0), (3, 1.0)])
        [(1, 2.5), (2, 2.0), (3, 1.0)]
    """
    reach = max(1, len(points) // 40)
    values = [value for _, value in points]
    smoothed = []
    for n, (step, _) in enumerate(points):
        near = values[max(0, n - reach) : n + reach + 1]
        smoothed.append((step, sum(near) / len(near)))
    return smoothed
