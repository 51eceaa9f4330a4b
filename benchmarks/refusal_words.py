"""Fit the words by which refusals are found to labelled answers, and measure what that is worth.

    python benchmarks/refusal_words.py FILE                   each batch by what all others teach
    python benchmarks/refusal_words.py FILE --measure BATCH   the weights on what they never saw
    python benchmarks/refusal_words.py FILE --write           fit to all, and keep the weights
    python benchmarks/refusal_words.py FILE --open            as the first, without sealed-*.jsonl

Prints JSON: agreement on the three kinds with 95 % Wilson intervals: of the words alone, with the
forms that are looked for first, and of usual phrases; and what the words call which; ``--measure``
also by model. What ``--write`` adds is kept in results/refusal.json.

FILE holds published answers, lines {"prompt", "response"}: those that
tests/evaluation/labelled/published-refusals.jsonl names by hash and batch; absent ones are left out
and counted. The other rows are those of that folder, and the answers that come with biddable: those
to train on, and the references of its suites, which are right by definition.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from biddable.data.builtin import SPLITS, builtin_names, create_instruction_dataset
from biddable.evaluation.refusal import (
    KINDS,
    USUAL_PHRASES,
    WEIGHTS,
    Weights,
    features_of,
    final_answer,
    kind_by,
    weigh,
)
from biddable.evaluation.statistics import rate
from biddable.evaluation.words import fold

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# a script finds its neighbours by its folder
from benchmarks.behaviour import LABELLED, Row, read_labelled  # noqa: E402

STRENGTH = 0.05  # C of scikit-learn: the smaller, the less a feature may weigh
LEAST_ROWS = 3  # that a feature stands in
SMALLEST_KEPT = 0.02  # smaller ones are left out of the file
# How much a row counts: what a model really said to somebody, and lines and references that are
# plain cases and must be right; all others once.
PUBLISHED_WEIGHT = PLAIN_WEIGHT = 3.0
NUM_OF_SET = 600  # rows of each built-in set
# Never fitted to, so that they go on measuring: with the first two (a closed store of data, models
# spoilt by tuning, opinions) the others came out a percent worse, with the eighth as they were.
MEASURED_ONLY = tuple(f"published, {batch}" for batch in ("sixth", "seventh", "eighth", "ninth"))
WRITTEN_BATCHES = {
    "lines": ("open-16", "open-17", "open-18"),
    "in part": ("open-8", "unseen"),
    "to XSTest's prompts": ("open-9", "sealed-7"),
    "in voices of large models": tuple(f"open-{n}" for n in range(10, 16)),
}
PUBLISHED = LABELLED / "published-refusals.jsonl"
PUBLISHED_CHARACTERS = 900  # of a published answer, as much as was labelled
LEAST_OF_A_MODEL = 20
RESULT = ROOT / "benchmarks" / "results" / "refusal.json"


@dataclass(frozen=True)
class Answer:
    """Hold a labelled answer as it is fitted to."""

    batch: str
    model: str
    features: dict[str, float]
    kind: str
    weight: float
    by_phrases: str
    prompt: str = ""
    output: str = ""


def gather(published: Path, *, only_open: bool = False) -> tuple[list[Answer], int]:
    """Read all answers, or those of no sealed file; also how many are absent."""
    answers, num_absent = [], 0
    for path in sorted(LABELLED.glob("*.jsonl")):
        if path != PUBLISHED and not (only_open and path.stem.startswith("sealed")):
            named = (name for name, of in WRITTEN_BATCHES.items() if path.stem in of)
            rows, absent = read_labelled(path)
            answers += _answers(rows, next(named, "written first"))
            num_absent += absent
    for batch, (rows, absent) in published_rows(published).items():
        answers += _answers(rows, f"published, {batch}", PUBLISHED_WEIGHT)
        num_absent += absent
    return answers + _built_in(), num_absent


def published_hash(prompt: str, response: str, num_characters: int = PUBLISHED_CHARACTERS) -> str:
    """Name a published answer by what was labelled of it."""
    return hashlib.sha256(f"{prompt}\n\n{response[:num_characters]}".encode()).hexdigest()


def published_rows(path: Path, keys: Path = PUBLISHED) -> dict[str, tuple[list[Row], int]]:
    """Find published answers that are labelled; of each batch: rows, and how many are absent."""
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [(row["prompt"], row["response"]) for row in map(json.loads, lines)]
    labelled = [json.loads(line) for line in keys.read_text(encoding="utf-8").splitlines()]
    found = {
        published_hash(prompt, response, num_characters): (prompt, response[:num_characters])
        for num_characters in {key.get("characters", PUBLISHED_CHARACTERS) for key in labelled}
        for prompt, response in texts
    }
    batches: dict[str, tuple[list[Row], int]] = {}
    for batch in sorted({key["batch"] for key in labelled}):
        of_batch = [key for key in labelled if key["batch"] == batch]
        rows = [
            Row(
                id=key["sha256"],
                source=key["model"],
                prompt=found[key["sha256"]][0],
                output=found[key["sha256"]][1],
                stopped=None,
                labels=frozenset(),
                refusal=key["refusal"],
                undecided=frozenset({"refusal"} if key.get("undecided") else ()),
            )
            for key in of_batch
            if key["sha256"] in found
        ]
        batches[batch] = rows, len(of_batch) - len(rows)
    return batches


def _answers(rows: Iterable[Row], batch: str, weight: float = 1.0) -> list[Answer]:
    weight = PLAIN_WEIGHT if batch == "lines" else weight
    return [
        Answer(
            batch,
            row.source,
            features_of(row.output, row.prompt),
            row.refusal,
            weight,
            by_usual_phrases(row.output),
            row.prompt,
            row.output,
        )
        for row in rows
        if row.is_decided("refusal")
    ]


def _built_in() -> list[Answer]:
    answers = []
    for split in SPLITS:
        batch, weight = ("built in", 1.0) if split == "train" else ("references", PLAIN_WEIGHT)
        for name in builtin_names(split):
            for row in create_instruction_dataset(name, split)[:NUM_OF_SET]:
                kind = "full" if row.get("kind") == "harmful" else "none"
                asked, told = str(row["instruction"]), str(row["response"])
                features, by_phrases = features_of(told, asked), by_usual_phrases(told)
                answers.append(Answer(batch, name, features, kind, weight, by_phrases, asked, told))
    return answers


def by_usual_phrases(output: str) -> str:
    """Tell whether an output refuses as a search for words would; it knows no part."""
    folded = fold(final_answer(output))
    return "full" if any(phrase in folded for phrase in USUAL_PHRASES) else "none"


def fit(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """Fit a weight of each feature for each kind, with a penalty on their squares."""
    num_rows = Counter(name for answer in answers for name in answer.features)
    kept = [
        {name: value for name, value in answer.features.items() if num_rows[name] >= LEAST_ROWS}
        for answer in answers
    ]
    columns = DictVectorizer()
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(
        columns.fit_transform(kept),
        [answer.kind for answer in answers],
        sample_weight=[answer.weight for answer in answers],
    )
    order = [list(model.classes_).index(kind) for kind in KINDS]
    weights = {"": model.intercept_[order].round(3).tolist()}
    names = columns.get_feature_names_out()
    for name, values in sorted(
        zip(names, model.coef_[order].T, strict=True), key=lambda pair: pair[0]
    ):
        if np.abs(values).max() >= SMALLEST_KEPT:
            weights[name] = values.round(3).tolist()
    return weights


def cross_validate(answers: Sequence[Answer]) -> dict[str, Any]:
    """Judge each batch by what was fitted to all the others."""
    batches = sorted({answer.batch for answer in answers})
    fitted = {
        batch: fit([answer for answer in to_fit(answers) if answer.batch != batch])
        for batch in batches
        if batch not in MEASURED_ONLY
    }
    all_of_it = fit(to_fit(answers))
    return {
        batch: measure(
            [answer for answer in answers if answer.batch == batch], fitted.get(batch, all_of_it)
        )
        for batch in batches
    }


def to_fit(answers: Sequence[Answer]) -> list[Answer]:
    """Leave out what only measures."""
    return [answer for answer in answers if answer.batch not in MEASURED_ONLY]


def measure(answers: Sequence[Answer], weights: Weights) -> dict[str, Any]:
    """Count how often the weights, and usual phrases, agree with the labels."""
    pairs = Counter((answer.kind, weigh(answer.features, weights)) for answer in answers)
    agreed = sum(n for (one, other), n in pairs.items() if one == other)
    by_phrases = sum(answer.kind == answer.by_phrases for answer in answers)
    with_forms = sum(
        answer.kind == kind_by(weights, answer=answer.output, instruction=answer.prompt)
        for answer in answers
    )
    return {
        "agreement": rate(agreed, len(answers)),
        "agreement_with_forms": rate(with_forms, len(answers)),
        "agreement_of_usual_phrases": rate(by_phrases, len(answers)),
        "counts": {f"{one}, judged {other}": n for (one, other), n in sorted(pairs.items())},
    }


def measure_as_they_are(answers: Sequence[Answer], batches: Sequence[str]) -> dict[str, Any]:
    """Judge batches by the weights that there are: all, each, and each model of enough answers."""
    weights: Weights = json.loads(WEIGHTS.read_text(encoding="utf-8"))["weights"]
    held = [answer for answer in answers if answer.batch in batches]
    models = Counter(answer.model for answer in held)
    return {
        "all": measure(held, weights),
        "batches": {
            name: measure([answer for answer in held if answer.batch == name], weights)
            for name in batches
        },
        "models": {
            name: measure([answer for answer in held if answer.model == name], weights)
            for name, n in models.most_common()
            if n >= LEAST_OF_A_MODEL
        },
    }


def write(answers: Sequence[Answer]) -> int:
    """Fit to all answers, and keep the weights, a line for each feature; give their number."""
    answers = to_fit(answers)
    weights = fit(answers)
    batches = Counter(answer.batch for answer in answers)
    kinds = Counter(answer.kind for answer in answers)
    head = json.dumps(
        {"kinds": KINDS, "num_answers": kinds, "fitted_to": dict(sorted(batches.items()))}
    )
    lines = ",\n".join(f"{json.dumps(name)}: {values}" for name, values in weights.items())
    WEIGHTS.write_text(f'{head[:-1]}, "weights": {{\n{lines}\n}}}}\n', encoding="utf-8")
    return len(weights)


def _digest() -> str:
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]


def main() -> None:
    """Measure, and fit if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("published", type=Path, metavar="FILE", help="JSONL of published answers")
    parser.add_argument("--measure", nargs="+", metavar="BATCH", help='such as "published, sixth"')
    parser.add_argument("--write", action="store_true", help=f"keep what is new in {RESULT.name}")
    parser.add_argument("--open", action="store_true", help="leave sealed files out")
    options = parser.parse_args()
    if options.open and options.write:
        parser.error("--write fits to all answers, and --open leaves some out: give one of them")
    answers, num_absent = gather(options.published, only_open=options.open)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    if options.measure:
        batches = {answer.batch for answer in answers}
        if unknown := sorted(set(options.measure) - batches):
            parser.error(f"no batch {unknown}; known: {', '.join(sorted(batches))}")
        fitted = json.loads(WEIGHTS.read_text(encoding="utf-8"))["fitted_to"]
        if seen := sorted(set(options.measure) & set(fitted)):
            parser.error(f"the weights were fitted to {seen}: that would prove nothing")
        shown = {_digest(): measure_as_they_are(answers, options.measure)}
        result = {"measured": known.get("measured", {}) | shown}
    else:
        result = {"num_answers": len(answers), "num_absent": num_absent}
        result["by_the_other_batches"] = cross_validate(answers)
        if options.write:
            result |= {"num_weights": write(answers), "weights_sha256": _digest()}
        shown = result
    print(json.dumps(shown, indent=1))
    if options.write:
        RESULT.write_text(json.dumps(known | result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
