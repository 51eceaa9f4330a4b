"""Hold conditions under which a comparison fails, for builds that must not get worse.

A condition is three words: a figure's path in comparison.json, an operator and a number. Nothing
is evaluated as code.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biddable.counting import counted
from biddable.data.readers import read_rows
from biddable.errors import EvaluationError, join_problems, nearest
from biddable.evaluation.pairing import (
    FOLLOWING,
    JUDGED_BY,
    Pair,
    add_up,
    count_changes,
    describe_pairs,
)
from biddable.evaluation.statistics import ALPHA
from biddable.evaluation.suites import HEADLINE_RINGS

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_FORM = re.compile(r"\s*(\S+?)\s*(<=|>=|==|!=|<|>)\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*")
_SAME = ("suite", "n", "decoding", "prompt_form")


@dataclass(frozen=True, slots=True)
class Condition:
    """Hold one condition.

    Attributes:
        text: as the user wrote it.
        path: keys joined by dots; a number where a list is.
        operator: as in Python.
        limit: what the figure is held against.
    """

    text: str
    path: str
    operator: str
    limit: float


def read_condition(text: str) -> Condition:
    """Read a condition such as ``instruct.instruction_following < 0.9``.

    Args:
        text: path, operator, number.

    Raises:
        EvaluationError: it has another form.

    Example:
        >>> read_condition("paired.broken > 3")
        Condition(text='paired.broken > 3', path='paired.broken', operator='>', limit=3.0)
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise EvaluationError(
            f'--fail-if "{text}": is no condition; expected PATH OPERATOR NUMBER with one of '
            f'{" ".join(_OPERATORS)}, as in "instruct.instruction_following < 0.9".'
        )
    return Condition(text, found[1], found[2], float(found[3]))


def read_all(
    texts: Sequence[str], *, baseline: str | None, suite: str | None = None
) -> list[Condition]:
    """Read all that a comparison is held against, before minutes are spent on it.

    Args:
        texts: conditions.
        baseline: an older comparison.json; None for none.
        suite: what is asked now; None where that is settled later.

    Raises:
        EvaluationError: one cannot be read, or is of another suite.
    """
    require_suite(suite, baseline)
    return [read_condition(text) for text in texts]


def require_suite(suite: str | None, baseline: str | None) -> None:
    """Refuse an older comparison of another suite.

    Args:
        suite: what is asked now; None where that is settled later.
        baseline: the older comparison.json; None for none.

    Raises:
        EvaluationError: it is of another suite, or cannot be read.
    """
    if baseline:
        older = read_comparison(baseline)
        if suite is not None:
            _require_same("suite", {"suite": suite}, older, baseline)


def failed(
    result: Mapping[str, Any],
    conditions: Sequence[Condition],
    samples: str | Path,
    *,
    baseline: str | Path | None,
) -> list[str]:
    """Tell all that a comparison fails by; see ``failed_conditions`` and ``failed_baseline``."""
    found = failed_conditions(result, conditions)
    return found + (failed_baseline(result, samples, baseline=baseline) if baseline else [])


def failed_conditions(result: Mapping[str, Any], conditions: Sequence[Condition]) -> list[str]:
    """Tell which conditions hold, so that the comparison fails.

    Args:
        result: as comparison.json has it.
        conditions: each tells when it fails; a path to a rate means its ``rate``.

    Returns:
        A line for each that holds.

    Raises:
        EvaluationError: a path leads nowhere, or to no number; all such are named.
    """
    problems, held = [], []
    for condition in conditions:
        try:
            value = _number_at(result, condition.path)
        except EvaluationError as error:
            problems.append(f'--fail-if "{condition.text}": {error}')
            continue
        if _OPERATORS[condition.operator](value, condition.limit):
            held.append(f'failed, as asked by --fail-if "{condition.text}": it is {value:g}.')
    if problems:
        raise EvaluationError(join_problems(problems))
    return held


def failed_baseline(
    result: Mapping[str, Any], samples: str | Path, *, baseline: str | Path
) -> list[str]:
    """Tell what the instruct model does significantly worse than that of an older comparison.

    Args:
        result: as comparison.json has it.
        samples: its samples.jsonl.
        baseline: the older comparison.json, its samples.jsonl beside it.

    Returns:
        A line for the whole suite and one for each category that lost, where the exact test over
        items and that over clusters both say so; categories corrected by Holm's method.

    Raises:
        EvaluationError: the older comparison is not whole, or of other items or decoding.
        DataError: its samples cannot be read.
    """
    pairs = pairs_with_baseline(result, samples, baseline=baseline)
    counts, block = count_changes(pairs), describe_pairs(pairs)
    if counts is None or block is None:
        raise EvaluationError(
            f"{baseline}: no item of it has a check, or is of a kind that calls for a refusal, so "
            "nothing tells a loss; leave --baseline out, or name a suite with checks."
        )
    lost, p = [], max(block["p"], block["clusters"]["p"])
    if counts["broken"] > counts["fixed"] and p <= ALPHA:
        told = f"{counted(counts['broken'], 'item')} lost and {counts['fixed']} gained"
        lost.append(f"failed against {baseline}: {told} (p = {p:.2g}).")
    for name, found in block["holm"].items():
        if found["broken"] > found["fixed"] and found["is_significant"]:
            told = f"{counted(found['broken'], 'item')} lost and {found['fixed']} gained"
            lost.append(
                f"failed against {baseline} in {name}: {told} (Holm p = {found['p_holm']:.2g})."
            )
    return lost


def pairs_with_baseline(
    result: Mapping[str, Any], samples: str | Path, *, baseline: str | Path
) -> list[Pair]:
    """Pair the instruct model of an older comparison with that of a new one, item by item.

    Raises:
        EvaluationError: the older comparison is not whole, or of other items or decoding.
        DataError: its samples cannot be read.
    """
    older = read_comparison(baseline)
    rows = [row for _, row in read_rows(samples)]
    for key in _SAME:
        _require_same(key, result, older, baseline)
    old_rows = [row for _, row in read_rows(Path(baseline).parent / "samples.jsonl")]
    try:
        by_draw = {_draw_of(row): row for row in old_rows}
        if by_draw.keys() != {_draw_of(row) for row in rows}:
            raise EvaluationError(f"{baseline}: its items are others; evaluate the same.")
        figure = (result.get("statistics") or {}).get("figure", FOLLOWING)
        return add_up(_pair_rows(rows, by_draw, baseline, judged_by=JUDGED_BY[figure]))
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"{Path(baseline).parent / 'samples.jsonl'}: lacks {error}; compare again to write it."
        ) from error


def _require_same(
    key: str, result: Mapping[str, Any], older: Mapping[str, Any], baseline: str | Path
) -> None:
    ours, theirs = _comparable(result, key), _comparable(older, key)
    if ours != theirs:
        raise EvaluationError(
            f"{baseline}: {key} is {theirs} there and {ours} here; compare with a baseline "
            "of the same items, decoding and prompt form."
        )


def read_comparison(path: str | Path) -> dict[str, Any]:
    """Read a comparison.json.

    Raises:
        EvaluationError: it is not there, or is something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(
            f"{path}: cannot be read: {reason}; name a comparison.json that `compare` wrote."
        ) from error
    if not isinstance(found, dict) or found.get("schema") != 1 or "instruct" not in found:
        raise EvaluationError(f"{path}: is no comparison; name a comparison.json.")
    return found


def _draw_of(row: Mapping[str, Any]) -> tuple[str, int | None]:
    return row["id"], row.get("seed")


def _pair_rows(
    rows: Sequence[Mapping[str, Any]],
    older: Mapping[tuple[str, int | None], Mapping[str, Any]],
    name: str | Path,
    *,
    judged_by: str,
) -> Iterator[Pair]:
    for row in rows:
        old = older[_draw_of(row)]
        if any(old[key] != row[key] for key in ("instruction", "reference")):
            raise EvaluationError(f'{name}: item "{row["id"]}" asks something else there.')
        before, after = old["instruct"][judged_by], row["instruct"][judged_by]
        if before is None or after is None or row["ring"] not in HEADLINE_RINGS:
            continue
        cluster = row.get("cluster") or row["id"]
        yield Pair(row["id"], row["category"], cluster, int(before), int(after))


def _comparable(result: Mapping[str, Any], key: str) -> object:
    """Leave out of a fact what may differ: a folder's place, a base's way of being asked."""
    value = result.get(key)
    if key == "suite":
        return Path(str(value)).name
    return value.get("instruct") if key == "prompt_form" and isinstance(value, dict) else value


def _number_at(result: Mapping[str, Any], path: str) -> float:
    value: Any = result
    walked: list[str] = []
    for key in path.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        elif value is None:
            raise EvaluationError(
                f"{'.'.join(walked)} is null: nothing told it in this comparison."
            )
        else:
            known = _names_in(value)
            place = ".".join(walked) or "comparison.json"
            told = f"it holds {', '.join(known)}" if known else "it is a single figure"
            raise EvaluationError(f'{place} has no "{key}"; {told}.{nearest(key, known)}')
        walked.append(key)
    if isinstance(value, Mapping) and "rate" in value:
        value = value["rate"]
    if value is None:
        raise EvaluationError(f"{path} is null: nothing told it in this comparison.")
    if isinstance(value, bool) or not isinstance(value, int | float):
        inside = ", ".join(_names_in(value)) or "nothing"
        raise EvaluationError(f"{path} is no number; it holds {inside}. Name a figure.")
    return float(value)


def _names_in(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [str(key) for key in value]
    return [str(k) for k in range(len(value))] if isinstance(value, list) else []
