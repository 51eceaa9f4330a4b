"""Run ``data check`` and ``data split`` through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


def write(*rows: dict[str, Any], name: str = "data.jsonl") -> Path:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Path(name)


@pytest.fixture
def faulty() -> Path:
    return write(
        {"prompt": "Hi?", "response": "Hello there.", "id": 1},
        {"prompt": "Hi?", "response": "Hello there.", "id": 2},
        {"prompt": "Why?", "response": " ", "id": 3},
        {"prompt": "Where?", "response": "At mill@harbour.org\x07", "id": 4},
    )


def test_a_sound_file(cli: Cli, rows: Path, base: Path) -> None:
    ran = cli("data", "check", rows, "--model", base, "--template", "inst")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "rows.jsonl: 12 rows; 0 errors, 0 warnings"
    assert f"lengths in tokens of {base}, template inst" in ran.out
    assert "limit 256: no row is over it" in ran.out  # what the model can read


def test_findings_are_grouped_and_errors_fail(cli: Cli, faulty: Path) -> None:
    ran = cli("data", "check", faulty)
    assert ran.code == 1
    assert "error empty-text (1)\n  data.jsonl:3: " in ran.out
    assert "warning duplicate (1)\n  data.jsonl:2: says the same as line 1" in ran.out
    assert "warning email-address (1)\n  data.jsonl:4: " in ran.out
    assert "lengths in tokens of mimic, template inst" in ran.out
    assert ran.out.splitlines()[-1] == "data.jsonl: 4 rows; 1 error, 3 warnings"


def test_only_the_first_of_many_are_shown(cli: Cli) -> None:
    many = [{"messages": [{"role": f"side{n}", "content": "Hi?"}]} for n in range(9)]
    odd = {"messages": [{"role": "bot", "content": "Hi?"}]}
    ran = cli("data", "check", write(*many, odd))
    shown = [line for line in ran.out.splitlines() if "has role" in line]
    assert len(shown) == 5
    assert '"bot"' in shown[1]  # what differs in more than a number comes first
    assert "... and 5 more: --json or --html PAGE shows all" in ran.out


def test_the_same_finding_is_told_once(cli: Cli) -> None:
    ran = cli("data", "check", write(*[{"prompt": "Hi?", "response": ""}] * 9))
    assert ran.out.count("is empty") == 1
    assert "(So are 8 more rows: lines 2, 3, 4, 5, 6 and so on.)" in ran.out


def test_warnings_fail_when_strict(cli: Cli, base: Path) -> None:
    path = write({"prompt": "Hi?", "response": "TODO"})
    assert cli("data", "check", path, "--model", base, "--template", "inst").code == 0
    assert cli("data", "check", path, "--model", base, "--template", "inst", "--strict").code == 1


def test_json(cli: Cli, faulty: Path, base: Path) -> None:
    ran = cli(
        *("data", "check", faulty, "--model", base, "--template", "inst"),
        *("--max-seq-len", 9, "--json"),
    )
    told = json.loads(ran.out)
    assert ran.code == 1
    assert {"rows", "errors", "warnings", "truncation", "lengths"} <= told.keys()
    assert told["rows"] == 4
    assert {key: told["errors"][0][key] for key in ("file", "line")} == {
        "file": "data.jsonl",
        "line": 3,
    } or told["errors"][0]["code"] == "too-long"
    assert told["truncation"]["max_seq_len"] == 9
    assert told["truncation"]["rows_over"] == 3
    assert told["counts"]["too-long"] == 3


def test_leaks_and_benchmarks(cli: Cli, base: Path) -> None:
    told = "Which of the seven rivers of the old kingdom runs north?"
    train = write({"prompt": "Hi?", "response": "Yes."}, {"prompt": told, "response": "The Ard."})
    held_out = write({"prompt": "hi", "response": "No."}, name="held_out.jsonl")
    benchmark = write({"q": told}, name="bench.jsonl")
    ran = cli(
        *("data", "check", train, "--model", base, "--template", "inst", "--json"),
        *("--held-out", held_out, "--benchmark", benchmark),
    )
    found = {(error["code"], error["line"]) for error in json.loads(ran.out)["errors"]}
    assert found == {("leak", 1), ("benchmark-overlap", 2)}


def test_leaks_by_key(cli: Cli, base: Path) -> None:
    train = write({"prompt": "Hi?", "response": "Yes.", "about": "x"})
    held_out = write({"prompt": "Ho?", "response": "No.", "about": "x"}, name="held_out.jsonl")
    options = ("--model", base, "--template", "inst", "--held-out", held_out)
    assert cli("data", "check", train, *options).code == 0
    assert "error entity-leak" in cli("data", "check", train, *options, "--entity-key", "about").out


def test_fix_writes_what_is_safe_and_tells_each_change(cli: Cli, faulty: Path) -> None:
    before = faulty.read_text(encoding="utf-8")
    ran = cli("data", "check", faulty, "--fix", "fixed.jsonl")
    fixed = [json.loads(line) for line in Path("fixed.jsonl").read_text("utf-8").splitlines()]
    assert fixed == [
        {"prompt": "Hi?", "response": "Hello there.", "id": 1},
        {"prompt": "Where?", "response": "At mill@harbour.org", "id": 4},
    ]
    assert "data.jsonl:2: dropped: it says the same as line 1." in ran.err
    assert "data.jsonl:3: dropped: it has no prompt or no answer." in ran.err
    assert 'data.jsonl:4: control characters removed in "response".' in ran.err
    assert ran.err.splitlines()[-1].startswith("biddable: fixed.jsonl: 2 rows written, 2 dropped")
    assert faulty.read_text(encoding="utf-8") == before
    assert ran.code == 1  # the file that was checked is still faulty


def test_fix_writes_over_nothing(cli: Cli, faulty: Path) -> None:
    ran = cli("data", "check", faulty, "--fix", faulty)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "biddable: data.jsonl: is there already; choose another name, or delete it.\n"
    )


def test_a_file_that_cannot_be_read_whole_is_not_fixed(cli: Cli) -> None:
    Path("data.jsonl").write_text('{"prompt": "Hi?", "response": "a"}\n{oops\n', encoding="utf-8")
    ran = cli("data", "check", "data.jsonl", "--fix", "fixed.jsonl")
    assert ran.code == 1
    assert "data.jsonl:2: not JSON" in ran.out
    assert ran.err.splitlines()[-1].startswith("biddable: fixed.jsonl: not written, for data.jsonl")
    assert not Path("fixed.jsonl").exists()


def test_the_page(cli: Cli, faulty: Path) -> None:
    for _ in range(2):  # a page is a report: the next one replaces it
        ran = cli("data", "check", faulty, "--html", "page.html")
    assert ran.out.splitlines()[-1] == "page.html"
    assert "email-address" in Path("page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--max-seq-len", 1), "--max-seq-len"),
        (("--entity-key", "about"), "--entity-key"),
        (("--held-out", "missing.jsonl"), "missing.jsonl: no such file"),
        (("--benchmark", "missing.jsonl"), "missing.jsonl: no such file"),
        (("--model", "mimik"), "mimic"),
        (("--template", "chatlm"), "chatml"),
    ],
)
def test_bad_options_cost_one_line(
    cli: Cli, rows: Path, options: tuple[object, ...], told: str
) -> None:
    ran = cli("data", "check", rows, *options)
    assert ran.code in (1, 2)
    assert told in ran.err
    assert (ran.out, len(ran.err.splitlines())) == ("", 1)


def test_a_large_file_is_measured_without_a_guess(
    cli: Cli, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biddable.cli_data.MANY_ROWS", 10)
    monkeypatch.setattr("biddable.cli_data.MAX_PROCESSES", 2)
    ran = cli("data", "check", rows)
    assert ran.code == 0
    assert "lengths in characters" in ran.out


def test_a_limit_is_taken_without_a_model(cli: Cli, rows: Path) -> None:
    told = json.loads(cli("data", "check", rows, "--max-seq-len", 5, "--json").out)
    assert told["lengths"]["measured_in"] == "tokens of mimic, template inst"
    assert told["truncation"]["rows_over"] == 12


def test_format_and_roles_can_be_told(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        '{"conversations": [{"from": "customer", "value": "Hi"},'
        ' {"from": "gpt", "value": "Yes."}]}\n'
        '{"instruction": "Who?", "response": "Me, of course."}\n'
    )
    assert (
        "(--role customer=user)"
        in cli("data", "check", path, "--from", "mixed").err
        + cli("data", "check", path, "--from", "mixed").out
    )
    told = ("--from", "mixed", "--role", "customer=user")
    assert json.loads(cli("data", "check", path, *told, "--json").out)["rows"] == 2
    assert "2 of 2 rows shown" in cli("data", "show", path, *told).out
    assert cli("data", "show", path, "--role", "customer=nobody").code == 1


def test_built_in_rows_can_be_checked(cli: Cli) -> None:
    ran = cli("data", "check", "mimic", "--json")
    told = json.loads(ran.out)
    assert ran.code == 0
    assert told["counts"].keys() <= {"near-duplicate", "duplicate", "several-answers"}


def test_split(cli: Cli, rows: Path) -> None:
    ran = cli("data", "split", rows, "--held-out", 0.3, "--out", "parts")
    counts = [int(line.split()[1]) for line in ran.out.splitlines()]
    assert ran.code == 0
    assert sum(counts) == 12
    assert ran.out.startswith(f"parts/train.jsonl: {counts[0]} rows\nparts/held_out.jsonl: ")
    again = cli("data", "split", rows, "--out", "parts")
    assert (again.code, again.out) == (1, "")
    assert "is there already" in again.err


def test_split_by_key_as_json(cli: Cli) -> None:
    path = write(*({"prompt": f"{n}?", "response": ".", "about": n % 5} for n in range(30)))
    ran = cli("data", "split", path, "--held-out", 0.4, "--by", "about", "--out", "p", "--json")
    told = json.loads(ran.out)
    assert (told["by"], told["groups"], told["train"] + told["held_out"]) == ("about", 5, 30)


@pytest.mark.parametrize("share", [0, 1, -0.5, "half"])
def test_a_share_that_is_none(cli: Cli, rows: Path, share: object) -> None:
    ran = cli("data", "split", rows, "--held-out", share, "--out", "parts")
    assert ran.code == 2
    assert "held-out" in ran.err


def test_check_loads_no_torch_for_a_large_file() -> None:
    """Its first answer should not wait for the models' libraries."""
    code = (
        "import sys; import biddable.data.check, biddable.data.check_report,"
        " biddable.data.check_page, biddable.data.check_fix, biddable.data.split_file;"
        "print(sorted({'torch', 'transformers', 'datasketch', 'fasttext'} & set(sys.modules)))"
    )
    source = Path(__file__).resolve().parents[2] / "src"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(source)},
    )
    assert ran.stdout.strip() == "[]"


def test_an_empty_file_has_no_lengths(cli: Cli) -> None:
    Path("empty.jsonl").write_text("")
    ran = cli("data", "check", "empty.jsonl")
    assert ran.code == 1
    assert "unreadable" in ran.out
    assert "p50" not in ran.out
    assert "limit" not in ran.out
