"""Hold that a model is judged on the very rows that its run held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import DataError, EvaluationError
from biddable.evaluation.held_out import suite_for, suite_of
from biddable.evaluation.suites import load_suite
from biddable.manifest import hash_file


def _run(data: dict[str, Any], **described: Any) -> str:
    Path("run").mkdir()
    manifest = {"config": {"data": data}, "data": described}
    Path("run/manifest.json").write_text(json.dumps(manifest))
    return "run"


def _cut_run(*, held_out_rows: int = 2) -> tuple[str, Path, list[dict[str, str]]]:
    rows = [{"instruction": f"i{n}", "input": f"x{n}", "output": "o"} for n in range(5)]
    path = Path("rows.json")
    path.write_text(json.dumps(rows))
    file = {"file": str(path), "sha256": hash_file(path)}
    run = _run({"held_out_rows": held_out_rows, "shuffle_seed": None}, held_out=file)
    return run, path, rows


def test_a_named_file_and_the_built_in_items_are_taken_as_they_are() -> None:
    assert suite_of("mimic", "out") == "mimic"
    assert suite_of(_run({"held_out": "other.jsonl"}), "out") == "other.jsonl"


def test_rows_that_were_cut_off_are_written_with_all_their_keys() -> None:
    run, _, rows = _cut_run()
    suite = suite_of(run, "out")
    assert suite == "out/held_out.jsonl"
    assert [json.loads(line) for line in Path(suite).read_text().splitlines()] == rows[3:]
    assert [sample.instruction for sample in load_suite(suite)] == ["i3\n\nx3", "i4\n\nx4"]


@pytest.mark.parametrize("was", [None, "of an older comparison"])
def test_what_fails_leaves_the_folder_as_it_was(was: str | None) -> None:
    run, _, _ = _cut_run()
    target = Path("a/out/held_out.jsonl")
    if was is not None:
        target.parent.mkdir(parents=True)
        target.write_text(was)

    def fails() -> None:
        with suite_for(run, target.parent) as suite:
            assert (suite, target.read_text() == was) == (str(target), False)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (target.read_text() == was) if was else not Path("a").exists()
    with suite_for(run, target.parent, "mine.jsonl") as suite:
        assert suite == "mine.jsonl"


def test_a_file_that_changed_since_is_refused() -> None:
    run, path, _ = _cut_run()
    path.write_text('[{"prompt": "a", "response": "c"}]')
    with pytest.raises(DataError, match=r"rows\.json: has changed since the run"):
        suite_of(run, "out")


def test_rows_cut_off_several_files_are_found_again() -> None:
    files = []
    for name in ("a", "b"):
        Path(f"{name}.jsonl").write_text(
            "".join(json.dumps({"prompt": f"{name}{n}", "response": "r"}) + "\n" for n in range(3))
        )
        files.append({"file": f"{name}.jsonl", "sha256": hash_file(f"{name}.jsonl")})
    held_out = {"file": None, "sha256": None, "files": files}
    run = _run({"held_out_rows": 4, "shuffle_seed": None}, held_out=held_out)
    assert [sample.instruction for sample in load_suite(suite_of(run, "out"))] == [
        "a2",
        "b0",
        "b1",
        "b2",
    ]


def test_rows_of_the_hub_are_not_found_again() -> None:
    held_out = {"files": [{"file": "org/name", "sha256": None}]}
    run = _run({"held_out_rows": 4, "shuffle_seed": None}, held_out=held_out)
    with pytest.raises(EvaluationError, match="org/name: from the hub, where it may change"):
        suite_of(run, "out")


@pytest.mark.parametrize("model", ["run", "smollm2"])
def test_what_held_out_nothing_needs_a_suite(model: str) -> None:
    _run({"held_out_rows": None})
    with pytest.raises(EvaluationError, match="name a suite"):
        suite_of(model, "out")
