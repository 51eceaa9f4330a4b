"""Where nothing can be drawn, stages are told in plain lines, and again while one goes on."""

from __future__ import annotations

import time

import pytest

from biddable.cli_progress import told_stages


def test_a_stage_is_told_as_it_begins_and_again_while_it_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with told_stages("loading", every_s=0.05) as tell:
        tell("base (bare): generate, 12 items")
        until = time.monotonic() + 10
        told: list[str] = []
        while len(told) < 3 and time.monotonic() < until:
            time.sleep(0.02)
            told += capsys.readouterr().err.splitlines()
    assert told[0] == "biddable: base (bare): generate, 12 items"
    assert told[1] == "biddable: base (bare): generate, 12 items: 0 s so far"


def test_a_short_stage_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with told_stages("loading"):
        pass
    assert capsys.readouterr().err == ""
