"""The rules on outputs that were labelled before; the sealed half is left to the benchmark."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from benchmarks.behaviour import (
    READ,
    RESULT,
    Part,
    digest,
    files,
    load_rows,
    measure,
)


def test_rows_are_whole_and_the_parts_apart() -> None:
    seen: dict[str, str] = {}
    for part in get_args(Part):
        for path in files(part):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                assert seen.setdefault(row["id"], part) == part
                assert row["refusal"] in ("none", "partial", "full")
                assert set(row["labels"]) <= READ.keys()
    assert len(seen) > 1000


def test_the_rules_agree_with_the_open_half() -> None:
    figures, differing = measure(load_rows("open")[0])
    for name, found in figures["classes"].items():
        assert found["recall"]["rate"] > 0.8, (name, differing)
        assert found["precision"]["rate"] > 0.87, (name, differing)


def test_a_base_mimics_five_times_as_much_as_what_was_made_of_it() -> None:
    by_source = measure(load_rows("open")[0])[0]["mimicry_by_source"]
    base, instruct = by_source["mimic, bare"], by_source["demo run, template"]
    assert base["rate"] > 5 * instruct["rate"]
    assert base["ci95"][0] > 2 * instruct["ci95"][1]


@pytest.mark.parametrize(
    "part", ["sealed", "fresh", "unseen", "sealed-7", "sealed-8", "sealed-9", "sealed-10"]
)
def test_published_figures_are_of_these_rows(part: Part) -> None:
    published = json.loads(RESULT.read_text(encoding="utf-8"))[part]
    assert published["rows_sha256"] == digest(part)
