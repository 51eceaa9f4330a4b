"""Read the log of a run as curves: points of (step, value), and a smoother line through them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

Curve = list[tuple[float, float]]

LOG = "log.jsonl"

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


def read_losses(run_folder: str | Path) -> dict[str, list[list[float]]]:
    """Read the loss curves of a run from its log, thinned; empty if it left none.

    Returns:
        ``train`` and ``held_out``, each of [step, nats a learned token].
    """
    path = Path(run_folder) / LOG
    if not str(run_folder) or not path.is_file():
        return {}
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a log cut short still has its start
            records.append(json.loads(line))
    curves = curves_of(record for record in records if isinstance(record, dict))
    return {
        name: [list(point) for point in thin([p for p in points if math.isfinite(p[1])])]
        for name, points in curves.items()
        if name != "lr"
    }


def thin(points: Sequence[tuple[float, float]], most: int = 400) -> Curve:
    """Keep so few points that the curve can be carried around: means of neighbours, in order.

    Args:
        points: of (step, value).
        most: how many are kept; fewer points are kept as they are.

    Example:
        >>> thin([(1, 4.0), (2, 2.0), (3, 1.0), (4, 3.0)], 2)
        [(2, 3.0), (4, 2.0)]
    """
    if len(points) <= most:
        return list(points)
    cuts = [n * len(points) // most for n in range(most + 1)]
    groups = [points[start:end] for start, end in pairwise(cuts)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


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
