"""Save divided runs in parts, damage and refuse some of them, and go on."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import multiprocessing
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from biddable.config_checkpoints import CheckpointConfig
from biddable.config_training import TrainingConfig
from biddable.errors import CheckpointError, TrainingError
from biddable.training import parts
from biddable.training.checkpoints import Checkpoints
from biddable.training.distributed import ALONE
from biddable.training.division import Division
from biddable.training.sharding import Sharding
from biddable.training.shards import own_part
from tests.tiny import in_exact_doubles
from tests.training.test_distributed import TIMEOUT_S, free_port, open_world
from tests.training.test_sharding import (
    cut_off_at,
    in_two,
    model_of,
    outcome,
    require_equal,
    saved_in,
)


def saved_steps(folder):
    return sorted(path.name for path in Path(folder, "run.checkpoints").iterdir())


def going_on_worker(rank, port, folder):
    world = open_world(rank, port)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found = {"full": outcome(world, "full"), "tied": outcome(world, "tied")}
        for name in ("for two", "for one"):
            cut_off_at(Path(folder, name), world, divides=True)
        found["resumed"] = outcome(world, "tied", checkpoints=saved_in(Path(folder, "for two")))
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


def test_a_divided_run_is_that_of_a_whole_model_and_goes_on_from_its_parts(tmp_path, monkeypatch):
    both = in_two(going_on_worker, tmp_path)
    in_exact_doubles(monkeypatch)
    wanted = {kind: outcome(ALONE, kind, divides=False) for kind in ("full", "tied")}
    for found in both:
        for kind in wanted:
            require_equal(found[kind], wanted[kind])
            assert "are divided among 2 processes" in found[kind]["notes"][0]
        unbroken, resumed = found["tied"], found["resumed"]  # as many processes: the same bits
        assert (resumed["losses"], resumed["norms"]) == (unbroken["losses"], unbroken["norms"])
        for name, weight in unbroken["weights"].items():
            assert torch.equal(resumed["weights"][name], weight)
    assert saved_steps(tmp_path / "for one") == ["step-00000002", "step-00000004"]
    files = Path(tmp_path, "for one/run.checkpoints/step-00000004").iterdir()
    kinds = {file.name.partition("-model")[0] for file in files}
    assert kinds == {"checkpoint.json", "log.jsonl", "shard-00001", "shard-00002"}  # none pickled
    as_one = outcome(ALONE, "tied", checkpoints=saved_in(tmp_path / "for one"), divides=False)
    require_equal(as_one, wanted["tied"])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def refuse(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def told_while(world, place, *, refused):
    """Run with a disk that refuses one process its second checkpoint; give what was told."""
    write, calls, told = HuggingFaceStorageWriter.write_data, [], []

    def write_or_not(*given):
        calls.append(1)
        return refuse() if world.rank == refused and len(calls) == 2 else write(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HuggingFaceStorageWriter, "write_data", write_or_not)
        outcome(world, "thin lora", checkpoints=kept_in(place), told=told)
    return [e["summary"] for e in told if e["event"] == "checkpoint"]


def kept_in(folder):
    return Checkpoints(Path(folder, "run"), CheckpointConfig(every_steps=2, keep=3))


def require_planned(kind, world):
    """Hold that a process has what the plan says of it; rows do not always divide evenly."""
    model = model_of(kind)
    planned = Division.of(model, in_bytes=True)
    Sharding.choose(model, TrainingConfig(sharding="full"), world)
    held = sum(own_part(p).nbytes for p in model.parameters())
    assert held == pytest.approx(planned.kept(2), rel=0.02)
    trained = sum(own_part(p).nbytes for p in model.parameters() if p.requires_grad)
    (both,) = world.sum(trained)
    assert both == 2 * planned.kept_trained(2)


def troubled_worker(rank, port, folder):
    """Meet, one after the other, what may go wrong with one process's part."""
    world, folder = open_world(rank, port), Path(folder)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        patch.setattr(parts, "_FILE_BYTES", 2**10)
        for kind in ("full", "thin lora"):
            require_planned(kind, world)
        found = {"whole": outcome(world, "thin lora", divides=False)}
        cut_off_at(folder / "damaged", world, divides=True, kind="thin lora")
        if rank == 0:
            *_, newest = sorted(Path(folder, "damaged").glob("*/step-00000004/shard-00002-*"))
            flip(newest)
        world.wait()
        told = []
        found["damaged"] = outcome(
            world, "thin lora", checkpoints=saved_in(folder / "damaged"), told=told
        )
        found["resumed"] = [e["summary"] for e in told if e["event"] == "resume"]
        for refused in (0, 1):
            place = folder / f"refused {refused}"
            found[place.name] = told_while(world, place, refused=refused)
        if rank == 1:
            patch.setattr(Path, "exists", lambda self: False)
        with pytest.raises(CheckpointError) as unseen:
            outcome(world, "thin lora", checkpoints=kept_in(folder / "unseen"))
        found["unseen"] = str(unseen.value)
    torch.save(found, folder / f"{rank}.pt")
    world.close()


@pytest.mark.slow
def test_what_goes_wrong_with_one_part_is_one_thing_for_all(tmp_path):
    first, second = in_two(troubled_worker, tmp_path)
    for found in (first, second):
        require_equal(found["damaged"], found["whole"])
        assert found["resumed"] == ["resumed at step 2 of 6"]  # the one before, on both
        assert found["unseen"].startswith("rank 1 of 2: ")
        assert "does not see what rank 0 writes there" in found["unseen"]
    for refused in (0, 1):
        (told,) = first[f"refused {refused}"]
        assert told.startswith("training goes on, but could not be saved: ")
        assert told.endswith(f"rank {refused}: No space left on device.")
        assert saved_steps(tmp_path / f"refused {refused}") == ["step-00000002", "step-00000006"]
    assert list((tmp_path / "unseen").iterdir()) == []


def killed_worker(rank, port, folder):
    """Save once; at the second time, one process is killed as the other writes its part."""
    world = open_world(rank, port)
    write, calls = HuggingFaceStorageWriter.write_data, []

    def write_or_die(*given):
        calls.append(1)
        if len(calls) == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*given)

    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        patch.setattr(HuggingFaceStorageWriter, "write_data", write_or_die)
        with pytest.raises(TrainingError, match=r"rank 0 of 2.*another process of this run has"):
            outcome(world, "tied", checkpoints=kept_in(folder))


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_saves_loses_nothing(tmp_path, monkeypatch):
    context, port = multiprocessing.get_context("spawn"), free_port()
    running = [context.Process(target=killed_worker, args=(r, port, tmp_path)) for r in (0, 1)]
    for process in running:
        process.start()
    for process in running:
        process.join(TIMEOUT_S)
    assert [process.exitcode for process in running] == [0, -signal.SIGKILL]
    assert saved_steps(tmp_path) == ["step-00000002"]
    in_exact_doubles(monkeypatch)
    wanted = outcome(ALONE, "tied", divides=False)
    require_equal(outcome(ALONE, "tied", checkpoints=saved_in(tmp_path), divides=False), wanted)
