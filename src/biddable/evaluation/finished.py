"""Read what `biddable evaluate` left behind, so that finished evaluations can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from biddable.data.conversation import Message
from biddable.data.readers import read_rows
from biddable.errors import EvaluationError
from biddable.evaluation.behaviour import Behaviour
from biddable.evaluation.checks import Verdict
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.memorisation import named_data
from biddable.evaluation.runner import Outcome
from biddable.evaluation.sample import Sample
from biddable.evaluation.sides import Side, check_names, write_comparison
from biddable.evaluation.tuning_cost import cost_of_finished

SCORES, SAMPLES = "scores.json", "samples.jsonl"

_FACTS = ("model", "suite", "n", "prompt_form", "decoding", "scores")
_T = TypeVar("_T")


def read_finished(folder: str | Path) -> tuple[Side, dict[str, Any]]:
    """Read one finished evaluation.

    Args:
        folder: with scores.json and samples.jsonl.

    Returns:
        Its side, and what scores.json says.

    Raises:
        EvaluationError: a file is missing or not whole, or lacks what a comparison needs.
        DataError: samples.jsonl cannot be read.
    """
    facts = _facts_of(folder)
    rows = read_rows(Path(folder) / SAMPLES)
    outcomes = [_outcome(row, f"{Path(folder) / SAMPLES}:{line}") for line, row in rows]
    expected = facts["n"] * len(facts["decoding"].get("seeds") or (None,))
    if len(outcomes) != expected:
        raise EvaluationError(
            f"{Path(folder) / SAMPLES}: has {len(outcomes)} answers and {SCORES} tells of"
            f" {expected}; evaluate again, one of them is not whole."
        )
    identity = facts.get("measured", {}).get("models", {}).get("model")
    side = Side(facts["model"], facts["prompt_form"], facts["decoding"], outcomes, identity)
    return side, facts


def suite_of(folder: str | Path) -> str:
    """Name the suite that a finished evaluation is of.

    Raises:
        EvaluationError: its scores.json is missing or not whole.
    """
    return str(_facts_of(folder)["suite"])


def _facts_of(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / SCORES
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(
            f"{path}: cannot be read: {reason}; name a folder that `biddable evaluate` wrote."
        ) from error
    lacking = [key for key in _FACTS if not isinstance(facts, dict) or key not in facts]
    if lacking:
        raise EvaluationError(f'{path}: lacks "{lacking[0]}"; evaluate again to write it.')
    return dict(facts)


def compare_finished(
    base: str | Path,
    instruct: str | Path,
    *,
    also: Mapping[str, str | Path] | None = None,
    training_data: Sequence[str | Path] = (),
    command: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Compare evaluations that are finished; nothing is generated.

    Args:
        base: folder of `biddable evaluate`.
        instruct: likewise.
        also: further ones, by the name each is shown under; up to four.
        training_data: as in ``compare``; nothing named leaves memorisation out.
        command: what was typed; None for a call from Python.
        out: as in ``compare``.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        EvaluationError: a folder is not whole, or items or decoding differ.
        DataError: a folder's samples, or the training data, cannot be read.
    """
    check_names(also or {})
    data = named_data(training_data)
    places = {"base": base, "instruct": instruct, **(also or {})}
    found = {name: read_finished(place) for name, place in places.items()}
    sides = {name: side for name, (side, _) in found.items()}
    notes = [f"{name} is the finished evaluation {place}." for name, place in places.items()]
    suite = found["base"][1]["suite"]
    result = build_comparison(sides, suite=suite, command=command, notes=notes)
    result |= cost_of_finished(sides, data=data)
    write_comparison(result, sides, out=out)
    return result


def _outcome(row: Mapping[str, Any], place: str) -> Outcome:
    """Make an outcome of a row again; what it must have and lacks is named."""
    given = dict(row)
    for key in ("sample", "behaviour"):
        if not isinstance(given.get(key), dict):
            raise EvaluationError(f'{place}: lacks "{key}"; evaluate again to write it.')
    sample = dict(given["sample"])
    messages = sample.get("messages") or []
    sample["messages"] = tuple(_made(Message, message, place) for message in messages)
    verdict = given.get("verdict")
    given |= {
        "sample": _made(Sample, sample, place),
        "behaviour": _made(Behaviour, given["behaviour"], place),
        "verdict": None if verdict is None else _made(Verdict, verdict, place),
    }
    return _made(Outcome, given, place)


def _made(kind: type[_T], given: Mapping[str, Any], place: str) -> _T:
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    optional = {
        name
        for name, field in known.items()
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    word = kind.__name__.lower()
    for key in sorted(known.keys() - optional - given.keys()):
        raise EvaluationError(f'{place}: {word} lacks "{key}"; evaluate again to write it.')
    for key in sorted(given.keys() - known.keys()):
        raise EvaluationError(
            f'{place}: {word} has "{key}", which this version does not know; evaluate again.'
        )
    return kind(**given)
