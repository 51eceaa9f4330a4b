"""Kill the real process at any moment, resume, and compare with the run that was never killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from biddable.errors import RunStopped, TrainingError
from tests.cli.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
TRAINING = {"epochs": 3, "batch_size": 3, "micro_batch_size": 2, "keep": "best"}
METHODS = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "num_frozen_layers": 1},
    "lora": {"name": "lora", "rank": 2, "dropout": 0.1},
}


@dataclass
class Running:
    pid: int
    wait: Callable[[], int]


Start = Callable[..., Running]


@pytest.fixture(scope="module")
def maker() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("process_maker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )
    assert process.stdout
    assert process.stdout.readline() == "0\n"
    yield process
    process.communicate(timeout=60)


@pytest.fixture
def start(maker: subprocess.Popen[str]) -> Start:
    """Start `biddable train` in a process that is a copy of one that has imported all."""

    assert maker.stdin
    assert maker.stdout

    def wait() -> int:
        print(file=maker.stdin, flush=True)
        return int(maker.stdout.readline())

    def begin(*arguments: str, point: int | None = None) -> Running:
        Path("told.2").write_text("")
        wish = {"folder": str(Path.cwd()), "arguments": ["train", "run.yaml", *arguments]}
        print(
            json.dumps({**wish, "point": point, "within": "/runs/"}), file=maker.stdin, flush=True
        )
        return Running(int(maker.stdout.readline()), wait)

    return begin


def start_anew(*arguments: str) -> Running:
    """Start `python -m biddable train` as a user does."""
    with Path("told.2").open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "biddable", "train", "run.yaml", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=told,
            env={**os.environ, **ENVIRONMENT},
        )
    return Running(process.pid, process.wait)


@pytest.fixture
def write_config(base: Path, rows: Path) -> Callable[..., None]:
    def write(method: str, **changes: Any) -> None:
        values: dict[str, Any] = {
            "model": str(base),
            "data": {"train": str(rows), "held_out_rows": 2},
            "method": METHODS[method],
            "training": TRAINING,
            "output": "runs/a",
            "checkpoints": {"every_steps": 1, "keep": 2},
        }
        Path("run.yaml").write_text(yaml.safe_dump(values | changes))

    return write


def outcome() -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Take weights and log of the run, without times; then make room for the next."""
    (file,) = Path("runs/a").glob("*model.safetensors")
    weights = {name: value.tobytes() for name, value in load_file(file).items()}
    log = [json.loads(line) for line in Path("runs/a/log.jsonl").read_text().splitlines()]
    for record in log:
        for key in ("seconds", "memory_bytes"):
            record.pop(key, None)
    assert [path.name for path in Path("runs").iterdir()] == ["a"]  # it was cleared up
    shutil.rmtree("runs")
    return weights, log


def told() -> str:
    return Path("told.2").read_text()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("full", marks=pytest.mark.slow),
        pytest.param("freeze", marks=pytest.mark.slow),
        "lora",
    ],
)
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    method: str, start: Start, write_config: Callable[..., None]
) -> None:
    write_config(method)
    begun = time.monotonic()
    assert start().wait() == 0, told()
    taken = time.monotonic() - begun
    expected = outcome()
    assert len([r for r in expected[1] if r["event"] == "step"]) == 12
    kill_and_resume(start, expected, num_kills=3, longest=taken)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_thirty_kills(method: str, write_config: Callable[..., None]) -> None:
    """The same, with a process of its own each time, from its very start."""
    write_config(method, training={**TRAINING, "epochs": 30})
    assert start_anew().wait() == 0, told()
    expected = outcome()
    num_resumed = kill_and_resume(start_anew, expected, num_kills=30, longest=1.5)
    assert num_resumed > 3  # else they were all killed before a first checkpoint


def kill_and_resume(start: Start, expected: object, *, num_kills: int, longest: float) -> int:
    """Kill processes after random times, counted from when training begins; compare each run."""
    moments = random.Random(0)
    num_resumed = 0
    while num_kills:
        running = start("--resume")
        wait_for("learning rate", running)
        time.sleep(moments.uniform(0, longest))
        os.kill(running.pid, signal.SIGKILL)
        code = running.wait()
        num_resumed += "resumed at step" in told()
        if code == 0:
            assert outcome() == expected
        else:
            assert code == -signal.SIGKILL, told()
            num_kills -= 1
    assert start("--resume").wait() == 0, told()
    assert outcome() == expected
    return num_resumed


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_call_of_a_save(
    stride: int, start: Start, write_config: Callable[..., None]
) -> None:
    """Each process resumes and is killed some calls later in its saves than the one before."""
    write_config("lora")
    assert start().wait() == 0, told()
    expected = outcome()
    code, point, found = -1, 0, set()
    while code != 0:
        code = start("--resume", point=point).wait()
        assert code in (0, -signal.SIGKILL), told()
        found |= {path.name for path in Path("runs").rglob("*")}
        point += stride
    assert point > 3 * 12  # through more than the twelve calls of a save, and that thrice
    assert any(name.startswith("step-") and name.endswith(".partial") for name in found)
    assert outcome() == expected


def wait_for(line: str, running: Running) -> None:
    while line not in told() and is_alive(running.pid):
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_signal_saves_first_and_says_how_to_go_on(
    number: int, name: str, code: int, start: Start, write_config: Callable[..., None]
) -> None:
    write_config("lora", checkpoints={}, training={**TRAINING, "epochs": 30})
    assert start().wait() == 0, told()
    expected = outcome()
    running = start()
    wait_for("learning rate", running)
    os.kill(running.pid, number)
    assert running.wait() == code, told()
    assert "biddable: saving, then stopping; once more ends at once" in told()
    last = told().splitlines()[-1]
    assert last.startswith(f"biddable: stopped by {name}, and saved at step ")
    assert last.endswith(" of 120. Go on: biddable train run.yaml --resume")
    (saved,) = Path("runs/a.checkpoints").iterdir()
    assert not Path("runs/a").exists()
    before = {path.name: path.stat().st_mtime_ns for path in saved.iterdir()}

    assert start().wait() == 1  # not begun anew, and nothing is deleted
    assert "runs/a.checkpoints: holds a run that was cut off, saved at step" in told()
    assert "adding --resume" in told()
    assert before == {path.name: path.stat().st_mtime_ns for path in saved.iterdir()}
    assert start("--resume").wait() == 0, told()
    assert outcome() == expected
    assert start("--resume").wait() == 0
    assert "holds nothing to resume; the run begins anew" in told()
    assert start("--resume").wait() == 0
    assert "runs/a: is whole already" in told()


@pytest.mark.parametrize(
    ("processes", "typed", "told"),
    [
        ({}, "biddable train a.yaml --events b", "biddable train a.yaml --events b --resume"),
        ({}, "biddable train a.yaml --resume", "biddable train a.yaml --resume"),
        (
            {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"},
            "biddable train a.yaml",
            "torchrun --nproc-per-node 4 -m biddable train a.yaml --resume",
        ),
        (
            {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
            "biddable train a.yaml",
            "on each machine as before, torchrun ... -m biddable train a.yaml --resume",
        ),
    ],
)
def test_how_to_go_on_is_how_it_was_started(
    *,
    processes: dict[str, str],
    typed: str,
    told: str,
    cli: Cli,
    write_config: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RunStopped("stopped.", exit_code=130)

    monkeypatch.setattr("biddable.training.finetune.run_training", stop)
    for name, value in processes.items():
        monkeypatch.setenv(name, value)
    write_config("lora")
    Path("run.yaml").rename("a.yaml")
    ran = cli(*typed.split()[1:])
    assert (ran.code, ran.err) == (130, f"biddable: stopped. Go on: {told}\n")


def test_what_another_process_says_is_not_said_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        error = TrainingError("rank 0 of 2: a loss is no number.")
        error.is_told = True
        raise error

    monkeypatch.setattr("biddable.training.finetune.run_training", fail)
    Path("a.yaml").write_text("{model: mimic, data: {train: rows.jsonl}, output: a}")
    ran = cli("train", "a.yaml")
    assert (ran.code, ran.err) == (1, "")


def test_a_second_ctrl_c_ends_at_once(start: Start, write_config: Callable[..., None]) -> None:
    """A step of the many rows of this run takes long after the first signal was noted."""
    training = {"epochs": 1, "batch_size": 10_000, "micro_batch_size": 10_000}
    Path("rows.jsonl").write_text(Path("rows.jsonl").read_text() * 200)
    write_config("full", training=training)
    running = start()
    wait_for("step 0:", running)
    time.sleep(0.2)  # until the step has begun
    os.kill(running.pid, signal.SIGINT)
    wait_for("once more ends at once", running)
    os.kill(running.pid, signal.SIGINT)
    assert running.wait() == -signal.SIGINT  # by the signal itself: nothing of ours was run
    assert "and saved at step" not in told()
