"""Run the commands of docs/evaluate.md on small files of each kind."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from biddable.data.builtin import builtin_path
from biddable.evaluation import suites

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^biddable (evaluate .*)$", PAGE, re.MULTILINE)
HARNESS, SERVER = "--lm-eval", "http://"


def write(name: str, *rows: Any) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"instruction": "Say a.", "response": "a", "check": {"kind": "contains", "all": ["a"]}}
    write("items.jsonl", item)
    write("rows.jsonl", {"instruction": "Say a.", "response": "a"})
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    write("input_data.jsonl", {"key": 1, "prompt": "Say a."} | asked)
    write("R.jsonl", {"prompt": "Say a.", "response": "a"})
    write("test.jsonl", {"question": "1+1?", "answer": "#### 2"})
    write("question.jsonl", {"question_id": 1, "turns": ["Write.", "Again."]})
    lines = builtin_path("mimic", "held_out").read_text(encoding="utf-8").splitlines()[:3]
    Path("mimic.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    find = suites._find
    monkeypatch.setattr(
        suites, "_find", lambda name: Path("mimic.jsonl") if name == "mimic" else find(name)
    )


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", [c for c in COMMANDS if HARNESS not in c and SERVER not in c])
def test_command_runs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from biddable.cli import main

    arguments = shlex.split(command)
    if "model.gguf" in arguments:
        pytest.importorskip("xllamacpp")
        from tests.tiny_gguf import write_tiny_gguf

        write_tiny_gguf(Path("model.gguf"), chat_template="{{ messages[0]['content'] }}\n")
    assert main(arguments) == 0, capsys.readouterr().err
    out = Path(arguments[arguments.index("--out") + 1])
    assert json.loads((out / "scores.json").read_text())["n"] >= 1


def test_the_others_are_few_and_tested_elsewhere() -> None:
    """A stand-in server is in test_url_model, a task of the harness in test_lm_harness."""
    assert sum(HARNESS in c or SERVER in c for c in COMMANDS) == 2
    assert len(COMMANDS) == 9


def fields(value: dict[str, Any]) -> set[str]:
    """Name what a file holds: ``a``, or ``a.b`` for what is in an object that the page opens."""
    opened = {"sample", "verdict", "behaviour", "decoding", "scores", "measured"}
    return {
        f"{key}.{inner}" if key in opened else key
        for key, held in value.items()
        for inner in (held if key in opened and held else [""])
    }


@pytest.mark.usefixtures("files")
def test_the_fields_of_both_files_are_those_of_the_tables() -> None:
    from biddable.cli import main

    samples, scores = set(), set()
    for command in (c for c in COMMANDS if "drawn" in c or "ready" in c):
        assert main(shlex.split(command)) == 0
        out = Path(command.split()[-1])
        scores |= fields(json.loads((out / "scores.json").read_text()))
        for line in (out / "samples.jsonl").read_text().splitlines():
            samples |= fields(json.loads(line))
    written = PAGE.partition("## What is written\n")[2].partition("\n## ")[0]
    told = [
        set(", ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)).split(", "))
        for table in written.split("`scores.json` counts them")
    ]
    assert {f"`{name}`" for name in samples} == told[0]
    assert {f"`{name}`" for name in scores} | {"`lm_eval`"} == told[1]
