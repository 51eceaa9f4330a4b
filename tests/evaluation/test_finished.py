"""Finished evaluations, paired as they are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import EvaluationError
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.diversity import measure_diversity
from biddable.evaluation.finished import compare_finished, read_finished
from biddable.evaluation.runner import Outcome
from biddable.evaluation.sampling import NOT_KNOWN
from biddable.evaluation.scores import scores
from biddable.evaluation.sides import Side
from tests.evaluation.items import base_outcomes, instruct_outcomes

DECODING = {"method": "greedy", "temperature": 0.0, "max_new_tokens": 8}


def evaluated(folder: Path, outcomes: list[Outcome], **changes: Any) -> Path:
    """Write what `biddable evaluate` does."""
    folder.mkdir()
    facts = {
        "schema": 1, "model": folder.name, "suite": "s.jsonl", "n": len(outcomes),
        "prompt_form": "bare", "decoding": DECODING, "scores": scores(outcomes),
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps(facts | changes))
    rows = [json.dumps(asdict(outcome)) + "\n" for outcome in outcomes]
    (folder / "samples.jsonl").write_text("".join(rows))
    return folder


def test_finished_evaluations_compare_as_fresh_ones_do(tmp_path: Path) -> None:
    a, b = (
        evaluated(tmp_path / "a", base_outcomes()),
        evaluated(tmp_path / "b", instruct_outcomes()),
    )
    found = compare_finished(a, b, also={"again": b}, out=tmp_path / "out")
    fresh = build_comparison(
        {
            "base": Side("a", "bare", DECODING, base_outcomes()),
            "instruct": Side("b", "bare", DECODING, instruct_outcomes()),
        },
        suite="s.jsonl",
    )
    for key in ("base", "instruct", "paired", "statistics", "n", "decoding"):
        assert found[key] == fresh[key], key
    assert found["extra_models"]["again"] == found["instruct"]
    assert found["pairs"]["again"]["base"]["paired"] == found["paired"]
    assert found["pairs"]["again"]["instruct"]["paired"]["fixed"] == 0
    assert json.loads((tmp_path / "out/comparison.json").read_text()) == found
    row = json.loads((tmp_path / "out/samples.jsonl").read_text().splitlines()[0])
    assert row["extra_models"]["again"]["output"] == row["instruct"]["output"]


def test_ready_responses_pair_with_any_decoding_but_not_with_code_that_was_run(
    tmp_path: Path,
) -> None:
    ready = {"prompt_form": None, "decoding": {**NOT_KNOWN, "run_code": False}}
    made = {"decoding": {**DECODING, "run_code": False}}
    a = evaluated(tmp_path / "a", base_outcomes(), **ready)
    b = evaluated(tmp_path / "b", instruct_outcomes(), **made)
    assert compare_finished(a, b)["decoding"] == made["decoding"]
    assert compare_finished(b, a)["decoding"] == made["decoding"]
    run = {"prompt_form": None, "decoding": {**NOT_KNOWN, "run_code": True}}
    c = evaluated(tmp_path / "c", base_outcomes(), **run)
    with pytest.raises(EvaluationError, match=r"instruct was decoded with .* and base with"):
        compare_finished(c, b)


def test_answers_that_are_there_tell_what_tuning_cost(tmp_path: Path) -> None:
    a = evaluated(tmp_path / "a", base_outcomes())
    b = evaluated(tmp_path / "b", instruct_outcomes())
    outputs = {
        "base": [o.output for o in base_outcomes()],
        "instruct": [o.output for o in instruct_outcomes()],
    }
    found = compare_finished(a, b, out=tmp_path / "out")
    assert found["diversity"] == measure_diversity(outputs)
    assert (found["forgetting"], found["memorisation"]) == (None, None)
    assert [note.split(" was not measured")[0] for note in found["cost_notes"]] == [
        "forgetting", "memorisation",
    ]  # fmt: skip
    assert "--training-data" in found["cost_notes"][1]
    assert "distinct-2, same length" in (tmp_path / "out/report.md").read_text()
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "Capital?", "output": "Paris is."}) + "\n")
    found = compare_finished(a, b, training_data=[rows])
    assert found["memorisation"]["instruct"]["exact_copies"]["rate"] == 0.2
    assert found["memorisation"]["base"]["exact_copies"]["rate"] == 0
    assert len(found["cost_notes"]) == 1


def test_evaluations_of_other_items_or_decoding_are_refused(tmp_path: Path) -> None:
    a = evaluated(tmp_path / "a", base_outcomes())
    longer = evaluated(tmp_path / "b", base_outcomes(), decoding=DECODING | {"max_new_tokens": 9})
    with pytest.raises(EvaluationError, match="evaluate both in the same way"):
        compare_finished(a, longer)
    fewer = evaluated(tmp_path / "c", instruct_outcomes()[:4])
    with pytest.raises(EvaluationError, match="put the same items to both"):
        compare_finished(a, fewer)


@pytest.mark.parametrize("key", ["model", "suite", "prompt_form", "decoding", "n"])
def test_scores_that_lack_a_fact_are_refused(tmp_path: Path, key: str) -> None:
    folder = evaluated(tmp_path / "a", base_outcomes())
    facts = json.loads((folder / "scores.json").read_text())
    del facts[key]
    (folder / "scores.json").write_text(json.dumps(facts))
    with pytest.raises(EvaluationError, match=f'scores.json: lacks "{key}"'):
        read_finished(folder)


def test_samples_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = evaluated(tmp_path / "a", base_outcomes())
    lines = (folder / "samples.jsonl").read_text().splitlines()
    (folder / "samples.jsonl").write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(EvaluationError, match=r"has 3 answers and scores.json tells of 5"):
        read_finished(folder)
    row = json.loads(lines[1])
    for change, told in (
        (lambda r: r.pop("following"), r'samples.jsonl:2: outcome lacks "following"'),
        (lambda r: r.pop("sample"), r'samples.jsonl:2: lacks "sample"'),
        (lambda r: r["sample"].pop("instruction"), r'sample lacks "instruction"'),
        (lambda r: r["behaviour"].update(mood=1), r'behaviour has "mood", which this version'),
    ):
        wrong = json.loads(json.dumps(row))
        change(wrong)
        (folder / "samples.jsonl").write_text(lines[0] + "\n" + json.dumps(wrong) + "\n")
        with pytest.raises(EvaluationError, match=told):
            read_finished(folder)


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"scores.json: cannot be read"):
        read_finished(tmp_path)
