"""The scripts in examples/ run as they stand, on a few rows of the built-in data."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRINTED = {  # what each must have come to
    "api.py": ["4 steps", "[INST]", "Write a haiku about AI"],
    "items_of_your_own.py": ["both are the base", "mimic, the bare prompt: 0% of 2 right"],
    "lora_by_hand.py": ["28 layers with an adapter", "2 steps in"],
}


def test_every_script_is_run() -> None:
    assert set(PRINTED) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize("name", PRINTED)
def test_a_script_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    for words in PRINTED[name]:
        assert words in printed
