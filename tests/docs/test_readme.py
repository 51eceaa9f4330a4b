"""Run what the README tells a newcomer to run, on a few rows of the built-in data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(README) if name == language]


def _commands() -> Iterator[list[str]]:
    for line in "".join(_blocks("")).splitlines():
        if line.startswith("biddable "):
            yield shlex.split(line, comments=True)[1:]


def test_commands_run_in_the_order_given(
    few_rows: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from biddable.cli import main

    commands = list(_commands())
    assert len(commands) == 6
    for arguments in commands:
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)
    assert Path("runs/demo/report.html").exists()
    assert Path("runs/mimic-lora/adapter_model.safetensors").exists()


def test_python_runs(few_rows: None) -> None:
    (source,) = _blocks("python")
    exec(compile(source, "README.md", "exec"), {})


def test_mask_shown_is_the_mask_made(capsys: pytest.CaptureFixture[str]) -> None:
    from biddable.cli import main

    drawn = next(line for line in README.splitlines() if line.startswith("<|endoftext|>[INST]"))
    Path("row.jsonl").write_text(
        '{"instruction": "What is the capital of France?", '
        '"response": "The capital of France is Paris."}\n',
        encoding="utf-8",
    )
    arguments = ["data", "show", "row.jsonl", "--template", "inst"]
    assert main(arguments) == 0
    assert drawn in capsys.readouterr().out
