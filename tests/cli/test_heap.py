"""The heap of a training process: set as it starts, its number kept, never against the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from biddable import cli_heap

pytestmark = pytest.mark.skipif(not cli_heap._is_glibc(), reason="the C library is not glibc")
SHOW = """
import os, sys
from biddable.cli_heap import keep_holes_small
keep_holes_small()
print(os.getpid(), os.environ["GLIBC_TUNABLES"], *sys.argv[1:], sep="|")
"""


def start(*command: str, tunables: str | None) -> subprocess.Popen[str]:
    given = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    given |= {} if tunables is None else {"GLIBC_TUNABLES": tunables}
    return subprocess.Popen(
        [sys.executable, *command],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_process_keeps_its_number_and_its_arguments() -> None:
    process = start("-c", SHOW, "one", "two words", tunables=None)
    told, _ = process.communicate(timeout=60)
    set_up = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
    assert told.strip() == f"{process.pid}|{set_up}|one|two words"


def test_what_the_user_set_stays() -> None:
    process = start("-c", SHOW, tunables="glibc.malloc.arena_max=1")
    told, _ = process.communicate(timeout=60)
    assert told.strip() == f"{process.pid}|glibc.malloc.arena_max=1|"[:-1]


def test_train_and_plan_start_so_and_other_verbs_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from biddable import cli

    started: list[bool] = []
    monkeypatch.setattr(cli, "keep_holes_small", lambda: started.append(True))
    monkeypatch.chdir(tmp_path)
    for words in (["doctor", "--help"], ["train", "missing.yaml"], ["plan", "missing.yaml"]):
        monkeypatch.setattr(sys, "argv", ["biddable", *words])
        cli.main()
    assert started == [True, True]
    cli.main(["train", "missing.yaml"])  # called from Python: nothing is started again
    assert started == [True, True]
