"""The verdicts are those of the official program, as lm-evaluation-harness carries it.

It runs in a process of its own: it reads NLTK's tables from a folder that has to be named before
NLTK is imported, and seeds langdetect for the whole process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from biddable.evaluation.ifeval.instructions import INSTRUCTIONS
from biddable.evaluation.ifeval.judging import instructions_problem, judge_response
from biddable.evaluation.ifeval.linguistics import write_punkt_tables
from tests.evaluation.ifeval.mutated import responses

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-eval is not installed"),
]

_OFFICIAL = """
import json, logging, random, string, sys
import langdetect
langdetect.DetectorFactory.seed = 0
logging.disable(logging.CRITICAL)
from lm_eval.tasks.ifeval import instructions, utils
draw = random.choice
def judge(row, text):
    doc = utils.InputExample(row["key"], row["instruction_id_list"], row["prompt"], row["kwargs"])
    strict = utils.test_instruction_following_strict(doc, text).follow_instruction_list
    return strict, utils.test_instruction_following_loose(doc, text).follow_instruction_list
def majority(row, text):
    found = []
    for letter in string.ascii_lowercase:
        instructions.random.choice = lambda options: letter
        found.append(judge(row, text))
    return [[sum(bool(case[n][k]) for case in found) > 13 for k in range(len(found[0][0]))]
            for n in (0, 1)]
with open(sys.argv[1]) as asked, open(sys.argv[2], "w") as told:
    for line in asked:
        row, text = json.loads(line)
        is_sign = any((k.get("letter") or "a") in "#!" for k in row["kwargs"])
        verdicts = majority(row, text) if is_sign else judge(row, text)
        told.write(json.dumps([[bool(v) for v in part] for part in verdicts]) + "\\n")
"""


def official_verdicts(cases: list[tuple[dict[str, Any], str]], folder: Path) -> list[Any]:
    write_punkt_tables(folder / "nltk")
    asked, told = folder / "asked.jsonl", folder / "told.jsonl"
    asked.write_text("".join(json.dumps(case) + "\n" for case in cases))
    environment = os.environ | {"NLTK_DATA": str(folder / "nltk"), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _OFFICIAL, str(asked), str(told)],
        check=True,
        env=environment,
        capture_output=True,
    )
    return [json.loads(line) for line in told.read_text().splitlines()]


def instructions_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    pairs = zip(row["instruction_id_list"], row["kwargs"], strict=True)
    return [{"id": kind, "kwargs": kwargs} for kind, kwargs in pairs]


def compare(rows: list[dict[str, Any]], folder: Path, *, each: int, seed: int) -> Counter[Any]:
    """Judge so many responses a row both ways; count verdicts, and fail where they differ."""
    cases = [(row, text) for row in rows for text in responses(row, seed, each)]
    differences, seen = [], Counter[Any]()
    for (row, text), told in zip(cases, official_verdicts(cases, folder), strict=True):
        ours = judge_response(text, instructions_of(row))
        for n, kind in enumerate(row["instruction_id_list"]):
            for mode, verdicts in zip(("strict", "loose"), told, strict=True):
                seen[kind, mode, verdicts[n]] += 1
                if ours[mode][n] != verdicts[n]:
                    differences.append((kind, row["kwargs"][n], mode, verdicts[n], text))
    assert not differences, f"{len(differences)} of {seen.total()} differ: {differences[:3]}"
    return seen


@pytest.fixture
def rows(test_data: Callable[[str], Path]) -> list[dict[str, Any]]:
    path = test_data("ifeval/input_data.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def one_of_each_kind(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    kept: dict[int, dict[str, Any]] = {}
    for kind in INSTRUCTIONS:
        of_kind = [row for row in rows if kind in row["instruction_id_list"]]
        kept |= {row["key"]: row for row in of_kind[:count]}
    return list(kept.values())


def test_every_prompt_of_the_data_set_can_be_judged(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == 541
    assert [p for row in rows if (p := instructions_problem(instructions_of(row)))] == []
    assert {kind for row in rows for kind in row["instruction_id_list"]} == set(INSTRUCTIONS)


def test_some_hundred_responses_get_the_official_verdicts(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    seen = compare(one_of_each_kind(rows, 3), tmp_path, each=8, seed=1)
    assert {kind for kind, _, _ in seen} == set(INSTRUCTIONS)


@pytest.mark.slow
def test_eleven_thousand_responses_get_the_official_verdicts(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    seen = compare(rows, tmp_path, each=int(os.environ.get("IFEVAL_EACH", "21")), seed=2)
    missing = {
        (kind, mode, verdict)
        for kind in INSTRUCTIONS
        for mode in ("strict", "loose")
        for verdict in (True, False)
        if not seen[kind, mode, verdict]
    }
    assert missing == set()


def test_nulls_as_the_hub_writes_them_count_as_not_given(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    names = {name for kind in INSTRUCTIONS.values() for name in kind.arguments}
    padded = [
        row | {"kwargs": [dict.fromkeys(names) | kwargs for kwargs in row["kwargs"]]}
        for row in one_of_each_kind(rows, 1)
    ]
    compare(padded, tmp_path, each=2, seed=3)
