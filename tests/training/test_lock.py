"""Two processes, one output folder."""

import errno
import fcntl
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from biddable.config import parse_config
from biddable.errors import CheckpointError
from biddable.training.finetune import run_training
from biddable.training.lock import locked

SOURCE = Path(__file__).resolve().parents[2] / "src"
OUTPUT = Path("runs/a")
HOLDS = """
import sys
from pathlib import Path
from biddable.training.lock import locked
with locked(Path("runs/a")):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder():
    """Another process that has the lock, until it reads a line."""
    running = subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "held\n"
    yield running
    running.kill()
    running.communicate()


def take():
    with locked(OUTPUT):
        return Path("runs/a.lock").read_text()


def test_the_second_is_told_who_is_there_until_that_one_ends(holder):
    with pytest.raises(CheckpointError) as refused:
        take()
    told = str(refused.value)
    assert told.startswith(f"runs/a: process {holder.pid} on {platform.node()} has been making it")
    assert told.endswith("Wait for it, end it and go on with --resume, or choose another output.")
    holder.communicate("go\n")
    assert f'"pid": {os.getpid()}' in take()
    assert list(Path("runs").iterdir()) == []


def test_a_run_is_refused_before_anything_is_read_or_made(holder):
    config = parse_config({"model": "not there", "data": "nor this", "output": str(OUTPUT)})
    with pytest.raises(CheckpointError, match=f"process {holder.pid} on "):
        run_training(config)
    assert os.listdir("runs") == ["a.lock"]


def test_the_lock_of_a_killed_one_is_taken_over(holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert Path("runs/a.lock").exists()
    assert f'"pid": {os.getpid()}' in take()


def test_one_that_has_not_signed_is_named_without_a_number(holder):
    os.truncate("runs/a.lock", 0)
    with pytest.raises(CheckpointError, match="runs/a: another process is making it; expected one"):
        take()


def test_a_lock_that_its_holder_removes_meanwhile_is_asked_for_again(monkeypatch):
    lock, calls = fcntl.lockf, []

    def removed_before(handle, kind):
        calls.append(kind)
        if len(calls) == 1:
            Path("runs/a.lock").unlink()
        lock(handle, kind)

    monkeypatch.setattr(fcntl, "lockf", removed_before)
    assert f'"pid": {os.getpid()}' in take()
    assert len(calls) == 2


@pytest.mark.parametrize("broken", ["lockf", "open"])
def test_a_disk_without_locks_or_without_rights_is_no_reason_to_refuse(monkeypatch, broken):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(*((fcntl, "lockf") if broken == "lockf" else (os, "open")), fail)
    with locked(OUTPUT):
        pass
