"""Hold that a check gathers every look, on planted faults and on real data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.check import _write_rows as write_rows
from benchmarks.check import compare, generate
from biddable.data.check import (
    Against,
    CheckReport,
    Rows,
    Ruler,
    check,
    read_benchmark,
    read_for_check,
)
from biddable.data.conversation import Conversation, Message
from biddable.data.templates import get_template
from biddable.errors import DataError
from tests.tiny import END, tiny_tokenizer

TestData = Callable[[str], Path]


def write(name: str, *rows: dict[str, Any]) -> Path:
    write_rows(Path(name), list(rows))
    return Path(name)


def codes(report: CheckReport) -> Counter[str]:
    return Counter(problem.code for problem in report.problems)


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, CheckReport, str]:
    folder = tmp_path_factory.mktemp("planted")
    planted = generate(1500, seed=3, each=8)
    planted.lines.pop("too-long")  # no limit is given here
    for name in ("rows", "held_out", "benchmark"):
        write_rows(folder / f"{name}.jsonl", getattr(planted, name))
    against = Against(
        held_out=read_for_check(folder / "held_out.jsonl"),
        benchmark=read_benchmark(folder / "benchmark.jsonl"),
    )
    path = folder / "rows.jsonl"
    return planted, check(read_for_check(path), against=against), str(path)


def test_every_planted_fault_is_found_and_no_other_row_is_named(planted_report: Any) -> None:
    planted, report, path = planted_report
    counts = compare(report.problems, planted.lines, path)
    assert counts.keys() == planted.lines.keys()
    for code, found in counts.items():
        assert found == {"planted": 8, "found": 8, "others": 0}, code


def test_several_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biddable.data.check._CHUNK", 40)
    path = write("a.jsonl", *generate(300, each=4).rows)
    rows = read_for_check(path)
    assert check(rows, processes=2).as_dict() == check(rows).as_dict()


def test_errors_come_first_and_by_line(planted_report: Any) -> None:
    _, report, _ = planted_report
    places = [(problem.severity, problem.line or 0) for problem in report.problems]
    assert places == sorted(places)
    assert len(report.errors) + len(report.warnings) == len(report.problems)


def test_the_report_as_plain_values() -> None:
    path = write(
        "a.jsonl",
        {"prompt": "Hi?", "response": "Yes.", "category": "talk"},
        {"prompt": "Hi?", "response": " ", "category": "talk"},
        {"prompt": "Why?", "response": "TODO", "category": "math"},
    )
    told = json.loads(json.dumps(check(read_for_check(path)).as_dict()))
    assert told["rows"] == 3
    [error] = told["errors"]
    assert error["file"] == "a.jsonl"
    assert error["line"] == 2
    assert "is empty" in error["message"]
    [warning] = told["warnings"]
    assert warning == {
        "file": "a.jsonl",
        "line": 3,
        "code": "placeholder",
        "message": 'the answer is "TODO"; write an answer, or delete the row.',
    }
    assert told["truncation"]["max_seq_len"] is None
    assert told["lengths"]["measured_in"] == "characters"
    assert told["lengths"]["answer"]["max"] == 4
    assert told["categories"] == {"talk": 1, "math": 1}


def test_lengths_in_tokens_say_whose_they_are() -> None:
    tokenizer = tiny_tokenizer()
    ruler = Ruler("tiny, template inst", get_template("inst", tokenizer), tokenizer, 12)
    path = write(
        "a.jsonl",
        {"prompt": "Hi?", "response": "Yes."},
        {"prompt": f"Say {END}.", "response": "The capital of France is Paris."},
    )
    report = check(read_for_check(path), ruler=ruler)
    assert report.lengths["measured_in"] == "tokens of tiny, template inst"
    assert report.truncation.rows_over == 2
    assert codes(report) == {"too-long": 2, "control-token": 1}
    [spelled] = report.warnings
    assert END in spelled.message


def test_a_file_that_is_not_json_is_an_error_of_its_line() -> None:
    Path("a.jsonl").write_text('{"prompt": "Hi?", "response": "Yes."}\n{oops\n', encoding="utf-8")
    report = check(read_for_check("a.jsonl"))
    [problem] = report.problems
    assert (problem.line, problem.severity) == (2, "error")
    assert str(problem).startswith("a.jsonl:2: not JSON")


def test_no_file_is_refused() -> None:
    with pytest.raises(DataError, match="no such file"):
        read_for_check("missing.jsonl")


def test_a_file_of_bad_rows_only_is_reported() -> None:
    report = check(read_for_check(write("a.jsonl", {"x": 1}, {"x": 2})))
    assert (report.num_rows, codes(report)) == (2, {"wrong-keys": 2})
    assert report.lengths["learned_share"] is None


def test_no_rows_at_all() -> None:
    assert check(Rows("a", 0, ())).problems == []


def test_entities_are_read_from_any_key() -> None:
    train = write("t.jsonl", {"prompt": "Who?", "response": "He.", "about": {"id": 7}})
    held_out = write("h.jsonl", {"prompt": "Why?", "response": "So.", "about": {"id": 7}})
    against = Against(held_out=read_for_check(held_out), entity_key="about")
    assert codes(check(read_for_check(train), against=against)) == {"entity-leak": 1}


def test_what_is_wrong_with_the_held_out_rows_is_told_too() -> None:
    train = write("t.jsonl", {"prompt": "Who?", "response": "He."})
    held_out = write(
        "h.jsonl", {"prompt": "Why?", "response": "So."}, {"prompt": "What?", "response": ""}
    )
    against = Against(held_out=read_for_check(held_out))
    [problem] = check(read_for_check(train), against=against).problems
    assert (problem.path, problem.line) == ("h.jsonl", 2)


def test_learned_all_alone_is_plain_text() -> None:
    texts = [Conversation((), "a.jsonl", n, text=f"Text {n}.") for n in (1, 2)]
    assert check(Rows("a.jsonl", 2, texts)).problems == []


def test_nothing_learned_is_told() -> None:
    shown = Message("assistant", "Fine.", learn=False)
    row = Conversation((Message("user", "Well?"), shown), "a.jsonl", 1)
    assert codes(check(Rows("a.jsonl", 1, [row]))) == {"nothing-learned": 1}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.jsonl", '{"q": "How do I kill a Python process?", "n": 1}\n'),
        ("b.csv", 'id,prompt\n1,"How do I kill a Python process?"\n'),
        ("b.txt", "\nHow do I kill a Python process?\n"),
    ],
)
def test_benchmarks_of_any_kind(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")
    [(place, words)] = read_benchmark(name)
    assert place == f"{name}:{1 if name == 'b.jsonl' else 2}"
    assert words[-1] == "process"


@pytest.mark.parametrize("name", ["b.csv", "b.jsonl"])
def test_a_benchmark_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=name):
        read_benchmark(name)
    Path(name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=name):
        read_benchmark(name)


def test_a_benchmark_without_texts_is_refused() -> None:
    with pytest.raises(DataError, match="no text of five words"):
        read_benchmark(write("b.jsonl", {"q": "Yes?"}))


def real(path: Path) -> tuple[CheckReport, Counter[str]]:
    report = check(read_for_check(path))
    assert report.errors == []
    return report, codes(report)


def test_public_alpaca_rows(test_data: TestData) -> None:
    report, found = real(test_data("rasbt_instructions/instruction-data.json"))
    assert report.num_rows == 1100
    assert found.keys() <= {"contradicting-answers", "several-answers", "near-duplicate"}
    assert found["several-answers"] == 21
    # two that contradict are two answers to one sentiment, the like of which a user wants to see
    assert found["contradicting-answers"] <= 3
    assert found["near-duplicate"] <= 2


def test_public_rows_that_were_rendered_before(test_data: TestData) -> None:
    _, found = real(test_data("dolly_small/dolly_hhrlhf_train_small.jsonl"))
    assert found["control-token"] == 1000  # each prompt holds Alpaca's template
    assert found["replacement-character"] == 1
    assert found["boilerplate"] == 3
    assert found["refusal"] == 1
    assert found.keys().isdisjoint({"secret", "phone-number", "other-language", "mojibake"})
    assert sum(found.values()) - found["control-token"] < 25


def test_public_conversations(test_data: TestData) -> None:
    report, found = real(test_data("oasst/messages.jsonl"))
    assert report.languages.keys() == {"en"}
    assert 8 <= found["boilerplate"] <= 12
    assert found["refusal"] == 2
    assert found.keys().isdisjoint({"secret", "email-address", "control-token", "role-order"})


def test_public_rows_with_addresses(test_data: TestData) -> None:
    """They are rows of an input each, which this makes of them."""
    rows = [
        {"instruction": task["instruction"], **instance}
        for name in ("seed_tasks", "user_oriented_instructions")
        for task in map(
            json.loads, test_data(f"self_instruct/{name}.jsonl").read_text("utf-8").splitlines()
        )
        for instance in task["instances"]
    ]
    _, found = real(write("self_instruct.jsonl", *rows))
    assert found["email-address"] == 5
    assert found["phone-number"] == 3
    assert found["unfinished-answer"] <= 4  # of 427, which end without a full stop
    others = {"email-address", "phone-number", "length-outlier", "unfinished-answer"}
    assert found.keys() <= others


def test_a_benchmark_against_itself(test_data: TestData) -> None:
    place = test_data("gsm8k/test.jsonl")
    lines = [json.loads(line) for line in place.read_text("utf-8").splitlines()[:200]]
    rows = write("t.jsonl", *({"prompt": q["question"], "response": q["answer"]} for q in lines))
    report = check(read_for_check(rows), against=Against(benchmark=read_benchmark(place)))
    assert codes(report)["benchmark-overlap"] == 200
    other = test_data("rasbt_instructions/instruction-data.json")
    report = check(read_for_check(other), against=Against(benchmark=read_benchmark(place)))
    assert codes(report)["benchmark-overlap"] == 0


def test_rows_longer_than_the_measuring_model_reads_are_noted() -> None:
    tokenizer = tiny_tokenizer()
    ruler = Ruler("tiny, template inst", get_template("inst", tokenizer), tokenizer)
    rows = read_for_check(write("a.jsonl", {"prompt": "Hi?", "response": "one two " * 600}))
    [note] = check(rows, ruler=replace(ruler, reads=1024)).notes
    assert note.startswith("1 row has more than 1,024 tokens, all that tiny reads, and training")
    assert not check(rows, ruler=ruler).notes
