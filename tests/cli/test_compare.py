"""The gates of ``biddable compare`` on finished evaluations, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli, Ran


def test_gates_on_finished_evaluations_set_the_exit_code(cli: Cli, base: Path) -> None:
    row = {"instruction": "Say hi.", "response": "hi", "check": {"kind": "contains", "all": ["hi"]}}
    Path("items.jsonl").write_text(json.dumps(row) + "\n")
    given = ("--suite", "items.jsonl", "--max-new-tokens", 2, "--prompt-form", "bare")
    given = (*given, "--training-data", "items.jsonl")
    for name in ("runs/a", "runs/b"):
        assert cli("evaluate", base, *given, "--out", name).code == 0
    scores = json.loads(Path("runs/a/scores.json").read_text())
    assert scores["memorisation"]["references"]["exact_copies"]["rate"] == 1
    passed = cli("compare", "runs/a", "runs/b", "--fail-if", "instruct.stopped > 1")
    assert (passed.code, "no difference could be significant" in " ".join(passed.out.split())) == (
        0, True,
    )  # fmt: skip
    failed = cli("compare", "runs/a", "runs/b", "--replace", "--fail-if", "paired.broken < 1")
    assert failed.code == 1
    assert failed.err == 'biddable: failed, as asked by --fail-if "paired.broken < 1": it is 0.\n'
    told = cli("compare", "runs/a", "runs/b", "--replace", "--training-data", "items.jsonl")
    assert "1 training answer of items.jsonl" in " ".join(told.out.split()), told.err
    assert "forgetting was not measured: finished evaluations" in " ".join(told.out.split())
    gone = cli("compare", "runs/a", "runs/b", "--replace", "--training-data", "gone.jsonl")
    assert (gone.code, "gone.jsonl" in gone.err) == (1, True)
    mixed = cli("compare", "runs/a", base, "--replace")
    assert (mixed.code, "a finished evaluation, and" in mixed.err) == (1, True)
    settled = cli("compare", "runs/a", "runs/b", "--suite", "mimic", "--replace")
    assert (settled.code, "leave --suite" in settled.err) == (2, True)


def write(name: str, *rows: dict[str, object]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_significant_loss_against_the_baseline_sets_the_exit_code(cli: Cli) -> None:
    check = {"kind": "contains", "all": ["hi"]}
    asked = [f"Say hi to {n}." for n in range(12)]
    write(
        "items.jsonl", *({"instruction": text, "response": "hi", "check": check} for text in asked)
    )
    for name, answer in (("right", "hi"), ("wrong", "no")):
        write(f"{name}.jsonl", *({"prompt": text, "response": answer} for text in asked))

    def compare(instruct: str, *given: str) -> Ran:
        suite = ("--suite", "items.jsonl", "--no-forgetting", "--show", "0", "--replace")
        return cli("compare", "wrong.jsonl", instruct, *suite, *given)

    assert compare("right.jsonl", "--out", "old").code == 0
    same = compare("right.jsonl", "--baseline", "old/comparison.json")
    assert (same.code, "no significant loss against old/comparison.json" in same.err) == (0, True)
    lost = compare("wrong.jsonl", "--baseline", "old/comparison.json")
    assert (lost.code, "12 items" in lost.err) == (1, True), lost.err
    gone = compare("right.jsonl", "--baseline", "none/comparison.json")
    assert (gone.code, "none/comparison.json" in gone.err) == (1, True)


def test_a_baseline_of_another_suite_is_refused_before_anything_is_written(
    cli: Cli, base: Path
) -> None:
    row = {"instruction": "Say hi.", "response": "hi", "check": {"kind": "contains", "all": ["hi"]}}
    write("items.jsonl", row)
    write("others.jsonl", row)
    write("ready.jsonl", {"prompt": "Say hi.", "response": "hi"})
    suite = ("--suite", "items.jsonl")
    assert cli("evaluate", "ready.jsonl", *suite, "--out", "runs/done").code == 0
    others = ("--suite", "others.jsonl", "--out", "old")
    assert cli("compare", "ready.jsonl", "ready.jsonl", *others, "--no-forgetting").code == 0
    gate = ("--baseline", "old/comparison.json", "--out", "new")
    for sides, suite_now in (
        (("runs/done", "runs/done"), "items.jsonl"),
        ((base, "mimic"), "mimic"),  # where none is named it is the model's own
    ):
        refused = cli("compare", *sides, *gate)
        assert (refused.code, refused.out, Path("new").exists()) == (1, "", False), refused.err
        assert f"suite is others.jsonl there and {suite_now} here" in refused.err
