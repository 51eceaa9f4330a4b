"""docs/tutorial.md can be followed: its commands run in their order, and its figures come out."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
_TYPED = "".join(text for language, text in _BLOCKS if not language)
COMMANDS = re.findall(r"^(?:echo (.*) \| )?biddable (.*)$", _TYPED, re.MULTILINE)
SLOW = ("compare", "serve")
SHOWN = [text for language, text in _BLOCKS if language == "text"]


def _run(commands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from biddable.cli import main

    for said, command in commands:
        monkeypatch.setattr("sys.stdin", io.StringIO(shlex.split(said)[0] + "\n" if said else ""))
        assert main(shlex.split(command)) == 0, command


@pytest.mark.usefixtures("few_rows")
def test_commands_run_in_the_order_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gguf")
    assert len(COMMANDS) == 10
    # the README's test compares on few rows, and the slow test below does all of it
    _run([pair for pair in COMMANDS if pair[1].split()[0] not in SLOW], monkeypatch)
    assert list(Path("runs/mimic-lora-gguf").glob("*.gguf"))
    said = capsys.readouterr().out
    assert SHOWN[0].strip() in said  # the base's own words


def _ask_the_server(command: str) -> str:
    """Start what the page starts, on a free port, send what it sends, end it; give the answer."""
    asked = shlex.split(command)
    assert asked[0] == "serve"
    started = [sys.executable, "-m", "biddable", *asked, "--port", "0"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            assert server.stdout is not None
            url = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert url is not None
            body = re.search(r"-d '(\{.*\})'", PAGE)
            assert body is not None
            request = Request(
                f"{url[0]}/v1/chat/completions",
                body[1].encode(),
                {"Content-Type": "application/json"},
            )
            with urlopen(request, timeout=60) as reply:
                said = json.load(reply)["choices"][0]["message"]["content"]
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode in (0, 128 + signal.SIGTERM)
    return str(said)


@pytest.mark.slow
def test_figures_are_those_of_the_whole_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Losses to a hundredth, rates to two points: additions in another order move them as much."""
    pytest.importorskip("gguf")
    pytest.importorskip("fastapi")
    Path("examples").symlink_to(ROOT / "examples")
    _run(COMMANDS[:-1], monkeypatch)
    printed = capsys.readouterr().out
    loss = re.compile(r"held-out loss [\d.]+ -> ([\d.]+)")
    following = re.compile(r"instruct follows ([\d.]+) %")
    for pattern, tolerance in ((loss, 0.01), (following, 2.0)):
        ours, pages = pattern.search(printed), pattern.search("".join(SHOWN))
        assert ours is not None
        assert pages is not None
        assert float(ours[1]) == pytest.approx(float(pages[1]), abs=tolerance)
    assert "The capital of Japan is Tokyo." in printed  # what chat is asked
    assert _ask_the_server(COMMANDS[-1][1]) == "The capital of Japan is Tokyo."
