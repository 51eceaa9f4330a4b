"""Hold a conversation through the command, on a tiny run."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Cli

CTRL_C = "\x03"
SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def piped(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    def run(lines: str, *arguments: object) -> object:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return cli("chat", *arguments)

    return run


def test_a_run_answers_line_by_line_and_what_is_saved_is_trained_on(
    cli: Cli, piped: Callable[..., object], config: Callable[..., Path]
) -> None:
    assert cli("train", config()).code == 0
    ran = piped("Say 1.\nSay 2.\n", "runs/tiny", "--max-new-tokens", 4, "--json")
    answers = [json.loads(line) for line in ran.out.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["Say 1.", "Say 2."]
    one = cli("generate", "runs/tiny", "Say 1.", "--max-new-tokens", 4, "--json")
    assert answers[0]["text"] == json.loads(one.out)["text"]
    ran = piped("Say 1.\n", "runs/tiny", "--max-new-tokens", 4, "--base")
    assert ran.code == 0
    base = yaml.safe_load(Path("run.yaml").read_text())["model"]
    assert ran.out.startswith("runs/tiny: ")
    assert f"\n{base}: " in ran.out


def test_a_base_is_given_bare_text_and_that_is_said(
    piped: Callable[..., object], base: Path
) -> None:
    ran = piped("Say 1.\n", base, "--max-new-tokens", 3)
    assert ran.code == 0
    assert "was taught no template: each line is bare text by itself" in ran.err
    assert "cut after 3 tokens" in ran.err
    ran = piped("Say 1.\n", base, "--base")
    assert (ran.code, ran.out) == (1, "")
    assert "does not say what it was made from; name it with --base-model" in ran.err
    ran = piped("", base, "--system", "Be brief.")
    assert ran.code == 1
    assert "bare text, where a system prompt has no place" in ran.err


def test_saved_conversations_are_trained_on(
    cli: Cli, piped: Callable[..., object], config: Callable[..., Path], base: Path
) -> None:
    from biddable.models.loading import load
    from biddable.serving.chat import Chat
    from tests.serving.speakers import Scripted

    assert load(str(base)).template is None
    chat = Chat(Scripted("One.", "Two."))
    for question in ("Say 1.", "Say 2."):
        with chat.ask(question) as writing:
            list(writing)
    chat.save(Path("talks.jsonl"))
    ran = cli("train", config(data="talks.jsonl", output="runs/talks"))
    assert ran.code == 0
    assert "talks.jsonl: 1 row, recognised as messages" in ran.err
    assert "1 of 1 row kept" in ran.err


@pytest.fixture
def typed(base: Path) -> Iterator[Callable[[str, str], str]]:
    """A chat in a terminal of its own: type something, and read on until something is shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "biddable", "chat", str(base), "--template", "inst"]
    env = os.environ | {"PYTHONPATH": str(SOURCE), "TERM": "xterm"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)

    def turn(text: str, until: str) -> str:
        if text == CTRL_C:  # the terminal is not one that controls the process
            process.send_signal(signal.SIGINT)
        else:
            os.write(ours, text.encode())
        seen, end = "", time.monotonic() + 60
        while until not in seen and time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(ours, 4096).decode(errors="replace")
                except OSError:  # it has left
                    break
            seen = re.sub(r"\x1b\[\?2004[hl]", "", seen)  # readline's marks around what is pasted
        return seen

    yield turn
    process.kill()
    process.wait()
    os.close(ours)


@pytest.mark.slow
def test_a_terminal_is_shown_notes_and_leaves_at_ctrl_d(
    typed: Callable[[str, str], str],
) -> None:
    assert "/help lists the commands" in typed("", "\n> ")
    assert "/save FILE.jsonl" in typed("/help\n", "\n> ")
    assert "temperature 0.5\r\n" in typed("/set temperature 0.5\n", "\n> ")
    assert "Ctrl-C once more leaves" in typed(CTRL_C, "\n> ")
    typed("\x04", "it leaves")
    history = Path(os.environ["XDG_CACHE_HOME"], "biddable", "chat_history")
    assert "/set temperature 0.5" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
