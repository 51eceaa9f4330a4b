"""Say what a side of a comparison is, and write down what all sides made of the items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from biddable.errors import EvaluationError
from biddable.evaluation.asking import PromptForm
from biddable.evaluation.clusters import clusters_of
from biddable.evaluation.measured import ANSWER_TOKENS
from biddable.evaluation.pairing import JUDGED_BY, change_of, figure_of, same_counts
from biddable.evaluation.report import SAMPLES, write_reports
from biddable.evaluation.runner import Outcome
from biddable.evaluation.sample import Sample
from biddable.manifest import write_json, write_text

OWN_SIDES = ("base", "base_templated", "base_fewshot", "instruct")
MAX_MODELS = 6


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one model made of a suite.

    Attributes:
        model: its name.
        prompt_form: how it was asked; None for ready responses.
        decoding: how its answers were generated.
        outcomes: one for each item, or for each draw of an item.
        identity: of the model, by ``identity_of``; None where that was not asked.
    """

    model: str
    prompt_form: PromptForm | None
    decoding: dict[str, Any]
    outcomes: list[Outcome]
    identity: Mapping[str, Any] | None = None


def check_names(also: Iterable[str]) -> None:
    """Refuse names of further models that another side has, or too many of them.

    Raises:
        EvaluationError: so it is.
    """
    names = list(also)
    if taken := [name for name in names if name in OWN_SIDES or not name.strip()]:
        raise EvaluationError(
            f'"{taken[0]}": no name for a further model; choose one that is not'
            f" {', '.join(OWN_SIDES)}."
        )
    if len(names) > MAX_MODELS - 2:
        raise EvaluationError(
            f"{len(names) + 2} models; at most {MAX_MODELS} are set side by side. Leave some out."
        )


def common_decoding(sides: Mapping[str, Side]) -> dict[str, Any]:
    """Give the decoding of all sides; how ready responses were decoded is not known.

    Raises:
        EvaluationError: sides were decoded differently, or one judged without running code.
    """
    ready = {name for name, side in sides.items() if side.prompt_form is None}
    first = next((name for name in sides if name not in ready), next(iter(sides)))
    decoding = sides[first].decoding
    for name, side in sides.items():
        keys = ("run_code",) if name in ready else {*decoding, *side.decoding}
        if any(side.decoding.get(key) != decoding.get(key) for key in keys):
            raise EvaluationError(
                f"{first} was decoded with {decoding} and {name} with {side.decoding}; "
                "evaluate both in the same way."
            )
    return dict(decoding)


def require_same_items(base: Sequence[Outcome], other: Sequence[Outcome], name: str) -> None:
    """Refuse sides that were not asked the same items in the same order.

    Raises:
        EvaluationError: they differ; the first difference is named.
    """
    ours, theirs = ([replace(o.sample, source="") for o in side] for side in (base, other))
    if ours == theirs:
        return
    pairs = zip(ours, theirs, strict=False)
    first = next((_difference(a, b) for a, b in pairs if a != b), "their number")
    raise EvaluationError(
        f"base has {len(ours)} items and {name} {len(theirs)}, and they differ ({first}); "
        "put the same items to both."
    )


def _difference(ours: Sample, theirs: Sample) -> str:
    """Name two items; or one, and in what it differs."""
    if ours.id != theirs.id:
        return f'"{ours.id}" and "{theirs.id}"'
    names = [field.name for field in fields(ours)]
    return f'"{ours.id}" in {next(n for n in names if getattr(ours, n) != getattr(theirs, n))}'


def same_tokens(before: Side, after: Side) -> bool | None:
    """Tell whether two sides' tokenizers cut the reference answers into the same tokens.

    Where an older version kept no hash of these tokens, whether both counted as many in each
    answer; a separator that one prompt form counts and the other does not is a difference then.

    Returns:
        None where not both sides have a loss on some answer.
    """
    counted = same_counts(before.outcomes, after.outcomes)
    ours, theirs = ((side.identity or {}).get(ANSWER_TOKENS) for side in (before, after))
    return ours == theirs if counted is not None and ours and theirs else counted


def write_comparison(
    result: dict[str, Any], sides: dict[str, Side], *, out: str | Path | None
) -> None:
    """Write comparison.json, samples.jsonl and the reports of them into a folder.

    Args:
        result: of ``build_comparison``.
        sides: what it was built from.
        out: the folder, made if it is not there; None writes nothing.

    Raises:
        EvaluationError: the folder cannot be written.
        CheckpointError: likewise.
    """
    if out is None:
        return
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{folder}: cannot be made: {error.strerror}.") from error
    rows = sample_rows(sides)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(folder / SAMPLES, "".join(lines))
    write_reports(folder, result, rows)
    write_json(folder / "comparison.json", result)  # last: who finds it finds the others


def sample_rows(sides: dict[str, Side]) -> list[dict[str, Any]]:
    """Tell of each item, and each draw of it, what every side made of it, and why."""
    rows = []
    base, instruct = sides["base"].outcomes, sides["instruct"].outcomes
    judged = attrgetter(JUDGED_BY[figure_of(base, instruct)])
    clusters = clusters_of(outcome.sample for outcome in base)
    for n, outcome in enumerate(base):
        sample = outcome.sample
        row = {
            "id": sample.id,
            "seed": sample.seed,
            "category": sample.category,
            "ring": sample.ring,
            "kind": sample.kind,
            "source": sample.source,
            "instruction": sample.instruction,
            "reference": sample.response,
            "cluster": clusters[n],
            "after": sample.after,
            "change": change_of(judged(outcome), judged(instruct[n])),
        }
        told = {name: _told(side.outcomes[n]) for name, side in sides.items()}
        extras = {name: told.pop(name) for name in list(told) if name not in OWN_SIDES}
        rows.append(row | told | ({"extra_models": extras} if extras else {}))
    return rows


def _told(outcome: Outcome) -> dict[str, Any]:
    behaviour = outcome.behaviour
    return {
        "output": outcome.output,
        "answer": behaviour.answer,
        "following": outcome.following,
        "correct": outcome.correct,
        "why": outcome.verdict.reason if outcome.verdict else None,
        "mimicry": behaviour.mimicry,
        "run_on": behaviour.run_on,
        "stopped": behaviour.stopped,
        "refusal": behaviour.refusal,
        "refuses_rightly": outcome.refuses_rightly,
        "empty": behaviour.is_empty,
        "repetition": behaviour.repetition,
        "wrong_language": behaviour.wrong_language,
        "reasons": behaviour.reasons,
        "answer_loss_sum": outcome.answer_loss_sum,
        "num_loss_tokens": outcome.num_loss_tokens,
    }
