"""What `biddable evaluate` says before, while and after it judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biddable.evaluation import scoring
from tests.cli.conftest import Cli, Config
from tests.evaluation.items import contains

CODE = {"kind": "python", "reference": "def f(n):\n    return 2 * n", "tests": [["f(4)", "8"]]}
NOT_RUN = "ask for Python, which is not run"
READY = ("evaluate", "--responses", "r.jsonl", "--suite", "items.jsonl", "--out", "judged")


def write(name: str, *rows: dict[str, Any]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_items(**checks: dict[str, Any]) -> None:
    items = [{"instruction": asked, "response": "a", "check": c} for asked, c in checks.items()]
    write("items.jsonl", *items)


def scores() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("judged/scores.json").read_text())["scores"]
    return found


@pytest.fixture
def code() -> None:
    """Four items, three of them of Python, and responses to three; one is right if it is run."""
    both = {"kind": "all", "checks": [{"kind": "contains", "none": ["x"]}, CODE]}
    write_items(first=CODE, second=both, third=contains("a"), fourth=CODE)
    other = "def f(n):\n    return n + n"
    answers = {"first": other, "second": CODE["reference"], "third": "a"}
    write("r.jsonl", *({"prompt": key, "response": text} for key, text in answers.items()))


@pytest.mark.usefixtures("code")
def test_code_that_is_not_run_is_told_once_before_anything_is_judged(cli: Cli) -> None:
    ran = cli(*READY)
    assert ran.code == 0
    told = ran.err.splitlines()
    assert told[0].startswith(f"biddable: 2 of 3 items {NOT_RUN}")
    assert "--run-code" in told[0]
    assert ran.err.count("--run-code") == 1
    rate = scores()["answer_correct"]
    assert (rate["rate"], rate["n"]) == (2 / 3, 3)
    ran = cli(*READY, "--replace", "--run-code")
    assert "Python" not in ran.err
    assert scores()["answer_correct"]["rate"] == 1


@pytest.mark.usefixtures("code")
def test_compare_tells_of_code_that_is_not_run(cli: Cli) -> None:
    write("all.jsonl", *({"prompt": f"{n}", "response": "a"} for n in ("first", "second")))
    write_items(first=CODE, second=CODE)
    given = ("compare", "all.jsonl", "all.jsonl", "--suite", "items.jsonl", "--no-forgetting")
    ran = cli(*given, "--show", 0)
    assert ran.code == 0, ran.err
    assert ran.err.startswith(f"biddable: 2 of 2 items {NOT_RUN}")
    assert ran.err.count("--run-code") == 1
    assert "Python" not in cli(*given, "--replace", "--run-code").err


@pytest.mark.usefixtures("code")
def test_progress_counts_what_is_judged(cli: Cli) -> None:
    assert cli(*READY).err.splitlines()[1:] == [
        "biddable: judge, 3 items",
        "biddable: 1 item has no response, left out: items.jsonl:4",
    ]


def test_what_seldom_occurs_is_printed_where_it_does(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_items(first=contains("red"), second=contains("blue"))
    write(
        "r.jsonl",
        {"prompt": "first", "response": "red " * 30},
        {"prompt": "second", "response": ""},
    )
    ran = cli(*READY)
    shares = scores()
    for figure, label in (("repetition", "repetition"), ("empty", "empty answers")):
        assert shares[figure]["rate"] == 0.5
        assert f"│ {label} " in ran.out
    assert "│ refusals in part" not in ran.out
    assert "none: refusals in part, wrong language" in " ".join(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80


@pytest.mark.parametrize("there", ["scores.json", "samples.jsonl"])
def test_a_folder_in_use_is_refused_before_responses_are_read(cli: Cli, there: str) -> None:
    write_items(first=contains("a"))
    Path("r.jsonl").write_text("no JSON\n")
    Path("judged").mkdir()
    Path("judged", there).write_text("{}")
    ran = cli(*READY)
    assert ran.code == 1
    assert ran.err == (
        f"biddable: judged: already holds {there}; choose another --out, or add --replace.\n"
    )


def test_a_link_to_nothing_is_refused_before_responses_are_read(cli: Cli) -> None:
    write_items(first=contains("a"))
    Path("r.jsonl").write_text("no JSON\n")
    Path("judged").symlink_to("nowhere")
    ran = cli(*READY)
    assert ran.code == 1
    assert ran.err == "biddable: judged: cannot be made: judged is a link to nothing.\n"


def test_an_evaluation_that_was_stopped_goes_on_in_its_folder(
    cli: Cli, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_items(first=contains("a"), second=contains("b"))
    asked = ("--suite", "items.jsonl", "--max-new-tokens", 4, "--prompt-form", "bare")
    given = ("evaluate", base, *asked, "--out", "judged")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scoring, "scores", stop)
        assert cli(*given).code != 0
    ran = cli(*given)
    assert ran.code == 0
    assert "4 of 4 answers and losses were there already" in ran.err


def test_an_adapter_is_asked_as_it_was_taught(cli: Cli, config: Config) -> None:
    assert cli("train", config(method="lora")).code == 0
    write_items(first=contains("a"), second=contains("b"))
    ran = cli("evaluate", "runs/tiny", "--suite", "items.jsonl", "--out", "judged")
    assert ran.code == 0, ran.err
    told = json.loads(Path("judged/scores.json").read_text())
    assert (told["prompt_form"], told["n"]) == ("template", 2)
    assert "adapter_model.safetensors" in told["measured"]["models"]["model"]["files"]
