import errno
import json
import os
import subprocess

import pytest
import torch

from biddable.config_checkpoints import CheckpointConfig
from biddable.errors import CheckpointError
from biddable.training import checkpoints as module
from biddable.training.checkpoints import Checkpoints, Snapshot

IDENTITY = {"config: seed": "0", "base": "abc"}


def snapshot(step):
    tensors = {"trained": {"w": torch.full((4, 4), float(step))}, "state": {"a/b": torch.ones(3)}}
    return Snapshot(step, tensors, {"num_worse": step}, [{"event": "step", "loss": 0.1 * step}])


def checkpoints_in(folder, **settings):
    found = Checkpoints(folder / "run", CheckpointConfig(**settings))
    found.begin(IDENTITY, then={})
    return found


def saved_steps(folder):
    return sorted(path.name for path in (folder / "run.checkpoints").iterdir())


def find(folder):
    told = []
    found = checkpoints_in(folder)
    assert found.find(told.append) == IDENTITY
    return found.found, [event["summary"] for event in told]


def test_what_is_saved_is_found_again_bit_for_bit(tmp_path):
    saved = snapshot(7)
    path = checkpoints_in(tmp_path).save(saved)
    found, told = find(tmp_path)
    assert (found.step, found.progress, found.log, told) == (7, saved.progress, saved.log, [])
    for name, tensors in saved.tensors.items():
        assert tensors.keys() == found.tensors[name].keys()
        assert all(torch.equal(value, found.tensors[name][key]) for key, value in tensors.items())
    names = {"checkpoint.json", "log.jsonl", "state.safetensors", "trained.safetensors"}
    assert {file.name for file in path.iterdir()} == names  # and nothing that is pickled


def test_the_newest_are_kept_and_no_future_that_was_given_up(tmp_path):
    checkpoints = checkpoints_in(tmp_path, keep=2)
    for step in (1, 2, 30):
        checkpoints.save(snapshot(step))
    assert saved_steps(tmp_path) == ["step-00000002", "step-00000030"]
    (tmp_path / "run.checkpoints" / "step-00000099.partial").mkdir()
    checkpoints_in(tmp_path, keep=2).save(snapshot(3))
    assert saved_steps(tmp_path) == ["step-00000002", "step-00000003"]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, os.unlink, empty])
@pytest.mark.parametrize(
    "name", ["trained.safetensors", "state.safetensors", "log.jsonl", "checkpoint.json"]
)
def test_a_damaged_one_is_passed_over_and_said(tmp_path, damage, name):
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(snapshot(1))
    path = checkpoints.save(snapshot(2))
    damage(path / name)
    found, (told,) = find(tmp_path)
    assert found.step == 1
    assert found.tensors["trained"]["w"][0, 0] == 1
    assert told.startswith(f"passed over: {path}")
    checkpoints_in(tmp_path).save(snapshot(2))  # in its place
    assert find(tmp_path)[0].step == 2


def test_where_none_is_whole_nothing_is_begun_or_deleted(tmp_path):
    path = checkpoints_in(tmp_path).save(snapshot(1))
    flip(path / "checkpoint.json")
    with pytest.raises(CheckpointError, match=r"no checkpoint in it is whole.*damaged.*Delete"):
        checkpoints_in(tmp_path).find(lambda event: None)
    with pytest.raises(CheckpointError, match="saved at step 1"):
        checkpoints_in(tmp_path).require_none()
    assert path.exists()


def test_one_of_another_version_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SCHEMA", 99)
    checkpoints_in(tmp_path).save(snapshot(1))
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="has schema 99, and this version reads 1 and 2"):
        checkpoints_in(tmp_path).find(lambda event: None)


def test_no_checkpoint_is_nothing_to_find(tmp_path):
    checkpoints = checkpoints_in(tmp_path)
    assert checkpoints.find(lambda event: None) is None
    checkpoints.require_none()
    assert list(tmp_path.glob("run*")) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_older_ones(tmp_path, monkeypatch, code, call):
    checkpoints = checkpoints_in(tmp_path)
    checkpoints.save(snapshot(1))

    def refuse(*args, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(CheckpointError, match=rf"{os.strerror(code)}.*Free some space"):
        checkpoints.save(snapshot(2))
    monkeypatch.undo()
    assert saved_steps(tmp_path) == ["step-00000001"]
    assert find(tmp_path)[0].step == 1
    checkpoints.save(snapshot(2))
    assert find(tmp_path)[0].step == 2


def test_a_disk_that_refuses_the_first_leaves_no_folder(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "save_file", refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoints_in(tmp_path).save(snapshot(1))
    assert list(tmp_path.glob("run*")) == []


def test_a_disk_that_is_really_full(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        checkpoints = checkpoints_in(tmp_path)
        checkpoints.save(snapshot(1))
        large = Snapshot(2, {"trained": {"w": torch.ones(100_000)}}, {}, [])
        with pytest.raises(CheckpointError, match="No space left"):
            checkpoints.save(large)
        assert saved_steps(tmp_path) == ["step-00000001"]
        assert find(tmp_path)[0].step == 1
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_it_is_due_by_steps_by_time_and_once(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    checkpoints = checkpoints_in(tmp_path, every_steps=4, every_minutes=2.0)
    assert [step for step in range(1, 9) if checkpoints.is_due(step)] == [4, 8]
    now[0] += 119
    assert not checkpoints.is_due(5)
    assert checkpoints.is_due(5, is_last=True)  # more than a minute of work
    now[0] += 1
    assert checkpoints.is_due(5)
    checkpoints.save(snapshot(5))
    assert not checkpoints.is_due(5)
    assert not checkpoints.is_due(6, is_last=True)
    assert not checkpoints_in(tmp_path, keep=0, every_steps=1).is_due(1)


def test_other_runs_are_refused_and_all_that_differs_is_named(tmp_path):
    checkpoints = checkpoints_in(tmp_path)
    now = {"config: seed": "1", "base": "other", "config: new": "2"}
    with pytest.raises(CheckpointError) as refused:
        checkpoints.begin(now, then=IDENTITY)
    told = str(refused.value)
    assert "seed was 0, and is 1; the weights of the model before training are others" in told
    assert "new was not there, and is 2. Set that back" in told


@pytest.mark.parametrize(("when_done", "stays"), [("remove", False), ("keep", True)])
def test_they_go_when_the_run_is_whole_unless_they_are_to_stay(tmp_path, when_done, stays):
    checkpoints = checkpoints_in(tmp_path, when_done=when_done)
    checkpoints.save(snapshot(1))
    checkpoints.remove()
    assert checkpoints.folder.exists() == stays


def test_the_index_is_readable_by_anyone(tmp_path):
    path = checkpoints_in(tmp_path).save(snapshot(1))
    index = json.loads((path / "checkpoint.json").read_text())
    assert index["step"] == 1
    assert index["files"]["log.jsonl"]["size"] == (path / "log.jsonl").stat().st_size
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in path.iterdir())
