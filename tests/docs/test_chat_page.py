"""Hold docs/chat.md against what it tells of."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from biddable.config import parse_config
from biddable.serving.chat_commands import COMMANDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "chat.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_config_shown_is_one_and_has_a_reason_for_every_value() -> None:
    (text,) = (text for language, text in _BLOCK.findall(PAGE) if language == "yaml")
    config = parse_config(yaml.safe_load(text))
    assert (config.model, config.output) == ("smollm2", "runs/starter")
    lines = text.splitlines()
    assert len(lines) < 25
    assert all(" # " in line or line.endswith(":") for line in lines[1:])


def test_commands_told_are_those_there_are() -> None:
    told = set(re.findall(r"`(/[a-z]+)", PAGE)) - {"/etc"}
    assert told == {command.split()[0] for command in COMMANDS}


def test_options_told_are_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    from biddable.cli import main

    shown = "".join(text for language, text in _BLOCK.findall(PAGE) if not language)
    lines = re.findall(r"biddable ((?:doctor|init|chat) .*?)(?:  .*)?$", shown, re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        verb, *rest = shlex.split(line.replace("[", "").replace("]", "").replace("|", " "))
        main([verb, "--help"])
        known = capsys.readouterr().out
        assert [word for word in rest if word.startswith("--") and word not in known] == []
