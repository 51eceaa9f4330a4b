"""Fit the words by which refusals are found to labelled answers, and measure what that is worth.

    python benchmarks/refusal_words.py FILE            each batch by what was fitted to all others
    python benchmarks/refusal_words.py FILE --write    also fit to all, and keep the weights

Prints JSON: of each batch, agreement on the three kinds with 95 % Wilson intervals, beside that of
usual phrases, and what is called which. FILE holds published answers, lines {"prompt", "response"};
of those that tests/evaluation/labelled/published-refusals.jsonl names, the ones that are absent are
left out and counted. The other rows are those of that folder, and the answers that come with
biddable: those to train on, and the references of its suites, which are right by definition.

A batch of published answers is of models or sources that no other batch has. The rows that were
written by hand are grouped by when they were written, but one person wrote most of them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.behaviour import (
    LABELLED,
    PUBLISHED,
    Row,
    by_usual_phrases,
    published_rows,
    read_labelled,
)
from biddable.data.builtin import SPLITS, builtin_names, create_instruction_dataset
from biddable.evaluation.refusal import KINDS, WEIGHTS, Weights, signs_of, weigh
from biddable.evaluation.statistics import rate

STRENGTH = 0.05  # C of scikit-learn: the smaller, the less a sign may weigh
LEAST_ROWS = 3  # that a sign stands in
LEAST_WEIGHT = 0.02  # smaller ones are left out of the file
# How much a row counts: what a model really said to somebody, lines and references that are plain
# cases and must be right, and all others.
PUBLISHED_COUNTS = PLAIN_COUNTS = 3.0
NUM_OF_SET = 600  # rows of each built-in training set
PARTS_OF_FIRST, PARTS_OF_THIRD = ("open", "sealed"), ("third-open", "third-sealed")
WRITTEN_BATCHES = {
    "lines": ("open-16",),
    "in part": ("open-8", "unseen"),
    "to XSTest's prompts": ("open-9", "sealed-7"),
    "in voices of large models": tuple(f"open-{n}" for n in range(10, 16)),
}


@dataclass(frozen=True)
class Answer:
    """Hold a labelled answer as it is fitted to."""

    batch: str
    signs: dict[str, float]
    kind: str
    counts: float
    by_phrases: str


def gather(published: Path) -> tuple[list[Answer], int]:
    """Read all answers to fit to; also how many are absent."""
    answers, num_absent = [], 0
    for path in sorted(LABELLED.glob("*.jsonl")):
        if path != PUBLISHED:
            named = (name for name, of in WRITTEN_BATCHES.items() if path.stem in of)
            rows, absent = read_labelled(path)
            answers += _answers(rows, next(named, "written first"))
            num_absent += absent
    for part, (rows, absent) in published_rows(published).items():
        is_first, is_third = part in PARTS_OF_FIRST, part in PARTS_OF_THIRD
        name = "first" if is_first else "third" if is_third else part
        answers += _answers(rows, f"published, {name}", PUBLISHED_COUNTS)
        num_absent += absent
    return answers + _built_in(), num_absent


def _answers(rows: Iterable[Row], batch: str, counts: float = 1.0) -> list[Answer]:
    counts = PLAIN_COUNTS if batch == "lines" else counts
    return [
        _answer(row.prompt, row.output, row.refusal, batch, counts)
        for row in rows
        if row.is_decided("refusal")
    ]


def _built_in() -> list[Answer]:
    """Read what comes with biddable: some rows to train on, and the references of its suites."""
    answers = []
    for split in SPLITS:
        batch, counts = ("built in", 1.0) if split == "train" else ("references", PLAIN_COUNTS)
        for name in builtin_names(split):
            for row in create_instruction_dataset(name, split)[:NUM_OF_SET]:
                kind = "full" if row.get("kind") == "harmful" else "none"
                answers.append(
                    _answer(str(row["instruction"]), str(row["response"]), kind, batch, counts)
                )
    return answers


def _answer(prompt: str, output: str, kind: str, batch: str, counts: float) -> Answer:
    return Answer(batch, signs_of(output, prompt), kind, counts, by_usual_phrases(output))


def fit(answers: Sequence[Answer]) -> dict[str, list[float]]:
    """Fit a weight of each sign for each kind, with a penalty on their squares."""
    counts = Counter(sign for answer in answers for sign in answer.signs)
    kept = [
        {sign: value for sign, value in answer.signs.items() if counts[sign] >= LEAST_ROWS}
        for answer in answers
    ]
    columns = DictVectorizer()
    model = LogisticRegression(C=STRENGTH, max_iter=2000)
    model.fit(
        columns.fit_transform(kept),
        [answer.kind for answer in answers],
        sample_weight=[answer.counts for answer in answers],
    )
    order = [list(model.classes_).index(kind) for kind in KINDS]
    weights = {"": model.intercept_[order].round(3).tolist()}
    names = columns.get_feature_names_out()
    for sign, values in sorted(
        zip(names, model.coef_[order].T, strict=True), key=lambda pair: pair[0]
    ):
        if np.abs(values).max() >= LEAST_WEIGHT:
            weights[sign] = values.round(3).tolist()
    return weights


def cross_validate(answers: Sequence[Answer]) -> dict[str, Any]:
    """Judge each batch by what was fitted to all the others."""
    figures: dict[str, Any] = {}
    for batch in sorted({answer.batch for answer in answers}):
        weights = fit([answer for answer in answers if answer.batch != batch])
        figures[batch] = measure([answer for answer in answers if answer.batch == batch], weights)
    return figures


def measure(answers: Sequence[Answer], weights: Weights) -> dict[str, Any]:
    """Count how often the weights, and usual phrases, agree with the labels."""
    pairs = Counter((answer.kind, weigh(answer.signs, weights)) for answer in answers)
    agreed = sum(n for (one, other), n in pairs.items() if one == other)
    by_phrases = sum(answer.kind == answer.by_phrases for answer in answers)
    return {
        "agreement": rate(agreed, len(answers)),
        "agreement_of_usual_phrases": rate(by_phrases, len(answers)),
        "counts": {f"{one}, judged {other}": n for (one, other), n in sorted(pairs.items())},
    }


def write(answers: Sequence[Answer]) -> int:
    """Fit to all answers, and keep the weights, a line for each sign; give their number."""
    weights = fit(answers)
    head = json.dumps({"kinds": KINDS, "num_answers": Counter(answer.kind for answer in answers)})
    lines = ",\n".join(f"{json.dumps(sign)}: {values}" for sign, values in weights.items())
    WEIGHTS.write_text(f'{head[:-1]}, "weights": {{\n{lines}\n}}}}\n', encoding="utf-8")
    return len(weights)


def main() -> None:
    """Measure, and fit if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("published", type=Path, metavar="FILE", help="JSONL of published answers")
    parser.add_argument("--write", action="store_true", help=f"keep the weights in {WEIGHTS.name}")
    options = parser.parse_args()
    answers, num_absent = gather(options.published)
    told = {
        "num_answers": len(answers),
        "num_absent": num_absent,
        "batches": cross_validate(answers),
    }
    if options.write:
        told["num_weights"] = write(answers)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
