"""Overlap with training answers, against plain search; and whose answers those are."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from biddable.config import parse_config
from biddable.data.sources import read_sources
from biddable.errors import DataError, EvaluationError
from biddable.evaluation import memorisation
from biddable.evaluation.memorisation import data_of_run, measure_memorisation, named_data
from biddable.manifest import hash_file

TEN = "one two three four five six seven eight nine ten"


def longest_by_search(output: list[str], answers: list[list[str]]) -> int:
    runs = {
        tuple(words[a:b])
        for words in answers
        for a in range(len(words))
        for b in range(a + 1, len(words) + 1)
    }
    spans = ((a, b) for a in range(len(output)) for b in range(a + 1, len(output) + 1))
    return max((b - a for a, b in spans if tuple(output[a:b]) in runs), default=0)


def test_runs_are_those_that_a_plain_search_finds() -> None:
    chance = random.Random(0)
    for _ in range(60):
        answers = [chance.choices("abc", k=chance.randint(0, 9)) for _ in range(5)]
        output = chance.choices("abcd", k=chance.randint(0, 12))
        found = measure_memorisation({"x": [" ".join(output)]}, [" ".join(a) for a in answers])
        assert found["x"]["longest_run"]["most"] == longest_by_search(output, answers)


def test_copies_and_runs_of_eight_words() -> None:
    outputs = ["One two three four five six seven eight.", f"So: {TEN}, and", "nothing like it"]
    found = measure_memorisation({"instruct": outputs}, [TEN, TEN, "other words"])
    assert found["num_training_answers"] == 2
    side = found["instruct"]
    assert side["exact_copies"]["rate"] == 0  # a part of an answer is not the answer
    assert side["num_ngrams"] == 1 + 5
    assert side["copied_ngrams"] == pytest.approx((1 + 3) / 6)
    assert side["longest_run"] == {"mean": 6.0, "median": 8.0, "most": 10}
    assert side["longest"] == TEN
    copied = measure_memorisation({"x": [TEN.upper() + "!"], "y": ["ten"]}, [TEN])
    assert copied["x"]["exact_copies"]["rate"] == 1
    assert copied["y"]["copied_ngrams"] is None


def test_a_run_does_not_go_on_in_the_next_answer() -> None:
    found = measure_memorisation({"x": ["a b c d"]}, ["a b", "c d"])
    assert found["x"]["longest_run"]["most"] == 2


def test_nothing_to_search_or_to_find() -> None:
    assert measure_memorisation({"x": ["a b"]}, [])["x"]["longest_run"]["most"] == 0
    assert measure_memorisation({"x": [""]}, ["a"])["x"]["exact_copies"] is None
    assert measure_memorisation({"x": []}, ["a"])["x"]["longest"] == ""


def manifest_of(path: Path, **data: Any) -> dict[str, Any]:
    values = {
        "model": "mimic",
        "data": {"train": [{"path": str(path), **data.pop("source", {})}], **data},
    }
    config = parse_config({**values, "output": "runs/x", "seed": 3}, source="test")
    (source,) = read_sources(config.data)
    return {
        "config": config.model_dump(mode="json"),
        "data": {"train": {"files": source.describe()}},
    }


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"instruction": f"Q{n}", "output": f"A{n}"}) + "\n" for n in range(6))
    )
    return path


def test_answers_are_those_that_were_learned(rows: Path) -> None:
    assert data_of_run(manifest_of(rows)).answers == [f"A{n}" for n in range(6)]
    held = data_of_run(manifest_of(rows, held_out_rows=2)).answers
    assert held == ["A0", "A1", "A2", "A3"]
    assert data_of_run(manifest_of(rows, train_rows=2)).answers == ["A0", "A1"]
    assert len(data_of_run(manifest_of(rows, source={"weight": 0.5})).answers) == 3
    turns = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "no", "learn": False},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "yes"},
    ]  # fmt: skip
    rows.write_text(json.dumps({"messages": turns}) + "\n")
    assert data_of_run(manifest_of(rows)).answers == ["yes"]


def test_answers_that_cannot_be_known_are_told_of(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluationError, match="no manifest"):
        data_of_run(None)
    manifest = manifest_of(rows)
    monkeypatch.setattr(memorisation, "MAX_BYTES", 1)
    with pytest.raises(EvaluationError, match="are not searched"):
        data_of_run(manifest)
    monkeypatch.undo()
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(EvaluationError, match="has changed since the run"):
        data_of_run(manifest)
    rows.unlink()
    with pytest.raises(EvaluationError, match="not on this machine"):
        data_of_run(manifest)


def test_data_that_is_named_is_read_whole(rows: Path, tmp_path: Path) -> None:
    assert named_data(()) is None
    other = tmp_path / "more"
    other.mkdir()
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "yes"}]
    (other / "b.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    found = named_data([rows, other])
    assert found is not None
    assert found.answers == [*(f"A{n}" for n in range(6)), "yes"]
    assert [file["file"] for file in found.files] == [str(rows), str(other / "b.jsonl")]
    assert found.files[0]["sha256"] == hash_file(rows)


def test_named_data_that_cannot_be_searched_is_refused(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        named_data([rows, "nowhere.jsonl"])
    with pytest.raises(EvaluationError, match="names nothing; give a file"):
        named_data([rows, " "])
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"text": "A page."}\n')
    with pytest.raises(EvaluationError, match=r"plain.jsonl: no row has an answer"):
        named_data([plain])
    monkeypatch.setattr(memorisation, "MAX_BYTES", 1)
    for place in (rows, rows.parent):
        with pytest.raises(EvaluationError, match="are not searched"):
            named_data([place])
