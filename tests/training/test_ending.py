"""Lose rank 0 or a whole node, and see who says so and which exit codes are left."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from torch.distributed import HashStore

from biddable.config_checkpoints import CheckpointConfig
from biddable.errors import CheckpointError, ConfigError, RunStopped, TrainingError
from biddable.training import ending
from biddable.training.checkpoints import Checkpoints
from biddable.training.distributed import ALONE, Processes
from biddable.training.ending import assisting, leading, wait_until_whole
from tests.training.test_distributed import (
    TIMEOUT_S,
    children_of,
    free_port,
    start,
    wait_for_step_10,
    write_run,
)


class LostStore:
    """Behave as a store whose machine is gone."""

    def __getattr__(self, name):
        def fail(*_):
            raise RuntimeError("Connection was likely closed.")

        return fail


def worlds(store=None, *, size=2, per_machine=8):
    store = store or HashStore()
    return [Processes(store, rank=r, size=size, local_rank=r % per_machine) for r in range(size)]


def checkpoints_in(folder, *, num_saved=0):
    for step in range(1, num_saved + 1):
        (folder / f"run.checkpoints/step-{step:08d}").mkdir(parents=True)
    return Checkpoints(folder / "run", CheckpointConfig())


def error_of(world, checkpoints, error=None):
    """Take part in a run that ends with an error, or is over but for rank 0."""
    try:
        with assisting(world, checkpoints):
            if error is not None:
                raise error
            wait_until_whole(world)
    except (RunStopped, TrainingError, CheckpointError) as raised:
        return raised
    raise AssertionError("it ended well")


def leave(world):
    """Be rank 0 in a process that ends without a last word."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    world.store.set("biddable/place", f"{ended.pid} {ending._machine()}")


@pytest.mark.parametrize(
    "error", [TrainingError("lost"), CheckpointError("full"), RunStopped("asked", exit_code=143)]
)
def test_what_ended_all_is_said_by_rank_0_and_is_an_error_everywhere(tmp_path, error):
    first, second = worlds()
    with pytest.raises(type(error)), leading(first):
        raise type(error)(*error.args, **vars(error))
    found = error_of(second, checkpoints_in(tmp_path), error)
    assert found is error
    assert found.is_told


def test_a_process_waits_until_rank_0_has_saved(tmp_path):
    first, second = worlds()
    told = []

    def save():
        with suppress(TrainingError), leading(first):
            time.sleep(0.3)
            told.append("saved")
            raise TrainingError

    main = threading.Thread(target=save)
    main.start()
    assert error_of(second, checkpoints_in(tmp_path), TrainingError("lost")).is_told
    assert told == ["saved"]
    main.join()


@pytest.mark.parametrize("wait", [Processes.wait_for_turn, Processes.hear_main])
def test_a_process_that_waits_for_rows_ends_if_rank_0_refuses_the_run(tmp_path, wait):
    first, second = worlds()
    found = []

    def assist():
        with pytest.raises(TrainingError) as raised, assisting(second, checkpoints_in(tmp_path)):
            wait(second)
        found.append(raised.value)

    other = threading.Thread(target=assist, daemon=True)
    other.start()
    with pytest.raises(ConfigError), leading(first):
        raise ConfigError("data: no rows")
    other.join(timeout=TIMEOUT_S)
    assert [error.is_told for error in found] == [True]


def test_a_run_folder_that_rank_0_could_not_write_is_an_error_of_all(tmp_path):
    first, second = worlds()
    with pytest.raises(OSError, match="No space"), leading(first):
        raise OSError("No space left on device")
    assert error_of(second, checkpoints_in(tmp_path)).is_told


def test_a_run_that_is_whole_ends_well_on_all_and_rank_0_waits_until_they_know(tmp_path):
    first, second, third = worlds(size=3)
    done = []

    def assist(world):
        with assisting(world, checkpoints_in(tmp_path)):
            wait_until_whole(world)
        done.append(world.rank)

    others = [threading.Thread(target=assist, args=(world,)) for world in (second, third)]
    for other in others:
        other.start()
    with leading(first):
        assert done == []
    assert first.store.add("biddable/heard", 0) == 2
    for other in others:
        other.join()
    assert sorted(done) == [1, 2]
    with leading(ALONE), assisting(ALONE, checkpoints_in(tmp_path)):
        wait_until_whole(ALONE)


@pytest.mark.parametrize("error", [None, TrainingError("lost"), RunStopped("", exit_code=143)])
@pytest.mark.parametrize("num_saved", [0, 2])
def test_one_of_those_that_are_left_says_that_rank_0_is_gone(tmp_path, error, num_saved):
    first, *others = worlds(size=3)
    leave(first)
    checkpoints = checkpoints_in(tmp_path, num_saved=num_saved)
    found = [error_of(world, checkpoints, error) for world in others]
    assert [e.is_told for e in found] == [False, True]
    for lost in found:
        assert type(lost) is TrainingError
        assert str(lost).startswith("rank 0 of 3 has ended or cannot be reached")
        assert str(lost).endswith("It is saved at step 2.") == lost.is_resumable == bool(num_saved)


def test_without_the_store_the_first_of_each_machine_says_it(tmp_path):
    _, *others = worlds(LostStore(), size=6, per_machine=2)
    found = [error_of(w, checkpoints_in(tmp_path), TrainingError("lost")) for w in others]
    assert [world.rank for world, e in zip(others, found, strict=True) if not e.is_told] == [
        1,
        2,
        4,
    ]


def test_rank_0_of_another_machine_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "_SAVING_S", 0.2)
    first, second = worlds()
    first.store.set("biddable/place", "1 elsewhere")
    assert not error_of(second, checkpoints_in(tmp_path), TrainingError("lost")).is_told


@pytest.fixture
def nodes(tmp_path):
    """Start torchrun twice, as on two machines; end what is left of both."""
    write_run(tmp_path)
    started = []

    def begin(*arguments):
        port = free_port()
        started.extend(
            start("two.yaml", *arguments, processes=1, port=port, node=node) for node in (0, 1)
        )
        return started[-2:]

    yield begin
    for node in started:
        if node.poll() is None:
            for worker in children_of(node.pid).values():
                os.kill(worker, signal.SIGKILL)
            node.kill()
            node.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("number", "codes", "teller", "line"),
    [
        (signal.SIGKILL, [-signal.SIGKILL, 1], 1, "rank 0 of 2 has ended or cannot be reached"),
        (signal.SIGTERM, [1, 1], 0, "stopped by SIGTERM, and saved at step"),
    ],
)
def test_both_nodes_fail_if_the_first_is_lost_and_go_on(nodes, number, codes, teller, line):
    running = nodes()
    wait_for_step_10(running[0])
    if number == signal.SIGKILL:  # a machine's end leaves none of its processes
        os.kill(children_of(running[0].pid)[0], number)
    os.kill(running[0].pid, number)
    told = [node.communicate(timeout=TIMEOUT_S)[1] for node in running]
    assert [node.returncode for node in running] == codes
    said = [(n, text) for n in (0, 1) for text in told[n].splitlines() if "Go on: " in text]
    assert [node for node, _ in said] == [teller]
    assert line in said[0][1]
    assert said[0][1].endswith("torchrun ... -m biddable train two.yaml --resume")
    assert not Path("two").exists()

    again = nodes("--resume")
    told = [node.communicate(timeout=TIMEOUT_S)[1] for node in again]
    assert [node.returncode for node in again] == [0, 0], told
    assert "resumed at step" in told[0]
    assert Path("two/manifest.json").exists()
