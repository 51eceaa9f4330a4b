"""Conditions on a comparison, and an older comparison as the baseline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.gates import (
    failed_baseline,
    failed_conditions,
    read_all,
    read_condition,
)
from biddable.evaluation.runner import Outcome, judge_outputs
from biddable.evaluation.sides import Side, write_comparison
from tests.evaluation.items import contains, item

DECODING = {"method": "greedy", "temperature": 0.0, "max_new_tokens": 8}
RESULT: dict[str, Any] = {
    "instruct": {
        "instruction_following": {"rate": 0.75, "ci95": [0.3, 0.95], "n": 4},
        "refusal_lookalike": None,
        "answer_loss": 2.5,
    },
    "paired": {"fixed": 3, "broken": 4},
    "suite": "s",
}


def fails(*conditions: str) -> list[str]:
    return failed_conditions(RESULT, [read_condition(text) for text in conditions])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("instruct.instruction_following < 0.9", True),
        ("instruct.instruction_following<0.75", False),
        ("instruct.instruction_following <= .75", True),
        ("instruct.instruction_following.ci95.1 > 0.94", True),
        ("instruct.instruction_following.ci95.0 >= 1e-3", True),
        ("instruct.answer_loss > 2.5", False),
        ("paired.broken > 3", True),
        ("paired.fixed == 3", True),
        ("paired.fixed != 3", False),
    ],
)
def test_a_condition_fails_the_comparison_where_it_holds(text: str, holds: bool) -> None:
    assert bool(fails(text)) is holds


def test_each_failure_has_a_line_with_the_figure() -> None:
    found = fails("paired.broken > 3", "paired.fixed > 3", "instruct.answer_loss > 2")
    assert found == [
        'failed, as asked by --fail-if "paired.broken > 3": it is 4.',
        'failed, as asked by --fail-if "instruct.answer_loss > 2": it is 2.5.',
    ]


@pytest.mark.parametrize(
    "text", ["", "instruct", "a < b", "a =< 1", "a < 1 or b > 2", "__import__('os') < 1e"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(EvaluationError, match="expected PATH OPERATOR NUMBER"):
        read_condition(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("instruct.instruction_folowing < 1", 'Did you mean "instruction_following"'),
        ("instruct.instruction_following.ci95.2 < 1", 'has no "2"; it holds 0, 1'),
        ("instruct.answer_loss.rate < 1", 'has no "rate"; it is a single figure'),
        ("instruct.refusal_lookalike > 0", "refusal_lookalike is null"),
        ("instruct.refusal_lookalike.rate > 0", "refusal_lookalike is null"),
        ("paired > 0", "paired is no number; it holds fixed, broken"),
        ("suite > 0", "suite is no number"),
    ],
)
def test_a_path_that_leads_to_no_number_is_told_of(text: str, told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        fails(text)


def test_all_wrong_paths_are_told_at_once() -> None:
    with pytest.raises(EvaluationError, match=r'(?s)"nothing < 1".*"paired.lost > 0"'):
        fails("nothing < 1", "paired.fixed > 0", "paired.lost > 0")


def answered(flags: Sequence[bool], entity: str | None = None) -> list[Outcome]:
    """Give items of two categories; the first nine are about an entity, if one is named."""
    about = [entity if n < 9 else None for n in range(len(flags))]
    items = [
        item(
            str(n), f"Say w{n}.", f"w{n}", category="ab"[n % 2], check=contains(f"w{n}"),
            entity=name,
        )
        for n, name in enumerate(about)
    ]  # fmt: skip
    outputs = [s.response if flag else "no" for s, flag in zip(items, flags, strict=True)]
    return judge_outputs(items, outputs, stopped=[True] * len(items))


def written(
    folder: Path, flags: Sequence[bool], *, entity: str | None = None, **changes: Any
) -> tuple[dict[str, Any], Path]:
    decoding = DECODING | changes
    given = {
        "base": Side("mimic", "bare", decoding, answered([False] * len(flags), entity)),
        "instruct": Side("run", "template", decoding, answered(flags, entity)),
    }
    result = build_comparison(given, suite="s.jsonl")
    write_comparison(result, given, out=folder)
    return result, folder / "comparison.json"


def test_a_significant_loss_against_the_baseline_fails(tmp_path: Path) -> None:
    _, old = written(tmp_path / "old", [True] * 40)
    same, _ = written(tmp_path / "same", [True] * 40)
    assert failed_baseline(same, tmp_path / "same/samples.jsonl", baseline=old) == []
    few, _ = written(tmp_path / "few", [False] * 5 + [True] * 35)  # p = 0.0625
    assert failed_baseline(few, tmp_path / "few/samples.jsonl", baseline=old) == []
    worse, _ = written(tmp_path / "worse", [n % 2 == 0 or n > 13 for n in range(40)])
    found = failed_baseline(worse, tmp_path / "worse/samples.jsonl", baseline=old)
    assert [line.partition(": ")[2] for line in found] == [
        "7 items lost and 0 gained (p = 0.016).",
        "7 items lost and 0 gained (Holm p = 0.031).",
    ]
    assert " in b:" in found[1]


def test_a_loss_on_items_that_belong_together_fails_no_build(tmp_path: Path) -> None:
    found = []
    for entity in ("one", None):
        folder = tmp_path / str(entity)
        _, old = written(folder / "old", [True] * 20, entity=entity)
        new, _ = written(folder / "new", [False] * 9 + [True] * 11, entity=entity)
        found.append(len(failed_baseline(new, folder / "new/samples.jsonl", baseline=old)))
    assert found[0] == 0 < found[1]


def test_a_gain_against_the_baseline_does_not_fail(tmp_path: Path) -> None:
    _, old = written(tmp_path / "old", [False] * 20)
    better, _ = written(tmp_path / "new", [True] * 20)
    assert failed_baseline(better, tmp_path / "new/samples.jsonl", baseline=old) == []


def test_a_baseline_of_other_items_or_decoding_is_refused(tmp_path: Path) -> None:
    new, _ = written(tmp_path / "new", [True] * 8)
    rows = tmp_path / "new/samples.jsonl"
    _, longer = written(tmp_path / "longer", [True] * 8, max_new_tokens=9)
    with pytest.raises(EvaluationError, match=r"decoding is .*9.* there and .*8.* here"):
        failed_baseline(new, rows, baseline=longer)
    _, fewer = written(tmp_path / "fewer", [True] * 7)
    with pytest.raises(EvaluationError, match="n is 7 there and 8 here"):
        failed_baseline(new, rows, baseline=fewer)
    _, other = written(tmp_path / "other", [True] * 8)
    text = (tmp_path / "other/samples.jsonl").read_text()
    (tmp_path / "other/samples.jsonl").write_text(text.replace("Say w3.", "Tell w3."))
    with pytest.raises(EvaluationError, match='item "3" asks something else'):
        failed_baseline(new, rows, baseline=other)
    (tmp_path / "other/samples.jsonl").write_text(text.replace('"instruct"', '"tuned"'))
    with pytest.raises(EvaluationError, match="lacks 'instruct'; compare again"):
        failed_baseline(new, rows, baseline=other)


def test_a_baseline_of_another_suite_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    result, old = written(tmp_path / "old", [True] * 8)
    assert read_all(["n < 9"], baseline=str(old), suite=f"elsewhere/{result['suite']}")
    assert read_all([], baseline=str(old)) == []
    with pytest.raises(EvaluationError, match=f"suite is {result['suite']} there and mimic here"):
        read_all([], baseline=str(old), suite="mimic")


def test_a_baseline_without_checks_is_refused(tmp_path: Path) -> None:
    outcomes = judge_outputs([item("a", "Hi.", "Hi.")], ["Hi."])
    given = {name: Side(name, "bare", DECODING, outcomes) for name in ("base", "instruct")}
    result = build_comparison(given, suite="s")
    write_comparison(result, given, out=tmp_path)
    with pytest.raises(EvaluationError, match="no item of it has a check"):
        failed_baseline(result, tmp_path / "samples.jsonl", baseline=tmp_path / "comparison.json")


@pytest.mark.parametrize("text", [None, "{", "[]", json.dumps({"schema": 1, "scores": {}})])
def test_a_file_that_is_no_comparison_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"comparison.json: (cannot be read|is no)"):
        failed_baseline(RESULT, tmp_path / "samples.jsonl", baseline=tmp_path / "comparison.json")


def test_the_cluster_of_an_item_is_what_it_is_about(tmp_path: Path) -> None:
    outcomes = answered([True, True])
    about = [replace(o, sample=replace(o.sample, entity="word:a")) for o in outcomes]
    given = {name: Side(name, "bare", DECODING, about) for name in ("base", "instruct")}
    result = build_comparison(given, suite="s")
    assert result["statistics"]["clusters"]["num"] == 1
    assert result["statistics"]["clusters"]["largest"] == 2
