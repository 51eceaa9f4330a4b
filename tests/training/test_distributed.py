"""Train with two processes on this machine, and compare with one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError, TrainingError
from biddable.models.lora import apply_lora
from biddable.training.distributed import Processes, find_world
from biddable.training.trainer import train
from biddable.training.venue import Venue
from tests.tiny import in_exact_doubles, tiny_model, tiny_tokenizer
from tests.training.rows import random_examples

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def losses_of(world, *, method, micro_batch_size):
    """Train a tiny model; the last step has one row."""
    model = tiny_model(dtype=torch.float64)
    if method == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            apply_lora(model, rank=2)
        model.to(torch.float64)
    settings = TrainingConfig(
        epochs=1, batch_size=4, learning_rate=1e-3, micro_batch_size=micro_batch_size
    )
    rows = random_examples(9)
    log = train(model, rows, settings=settings, held_out=rows[:3], venue=Venue(world=world))
    keys = ("loss", "grad_norm", "num_loss_tokens", "rows")
    return [{k: r[k] for k in keys if k in r} for r in log.records]


CASES = [("full", None), ("full", 1), ("lora", None)]


def open_world(rank, port, *, size=2):
    """Be one of some processes, as torchrun would start them."""
    torch.set_num_threads(1)
    for name, value in {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }.items():  # fmt: skip
        os.environ[name] = str(value)
    world = find_world()
    assert isinstance(world, Processes)
    world.open(torch.device("cpu"))
    return world


def worker(rank, port, folder):
    world = open_world(rank, port)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found = [losses_of(world, method=m, micro_batch_size=size) for m, size in CASES]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    world.close()


def test_two_processes_come_to_the_losses_of_one(tmp_path, monkeypatch):
    running = multiprocessing.spawn(worker, (free_port(), str(tmp_path)), nprocs=2, join=False)
    in_exact_doubles(monkeypatch)
    expected = [losses_of(find_world(), method=m, micro_batch_size=size) for m, size in CASES]
    assert running.join(timeout=TIMEOUT_S) or running.join(timeout=TIMEOUT_S)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for case, wanted in zip(found, expected, strict=True):
            assert [r.get("rows") for r in case] == [r.get("rows") for r in wanted]
            for key in ("loss", "grad_norm", "num_loss_tokens"):
                values = [r[key] for r in wanted if key in r]
                assert [r[key] for r in case if key in r] == pytest.approx(values, rel=1e-10)


def test_each_row_is_of_one_process():
    groups, lengths = [(4, 0, 2), (1,), (3,)], [5, 9, 1, 30, 2]
    shares = [
        Processes(None, rank=r, size=3, local_rank=r).share(groups, lengths) for r in range(3)
    ]
    assert sorted(row for share in shares for group in share for row in group) == [0, 1, 2, 3, 4]
    one_row = [Processes(None, rank=r, size=3, local_rank=r).share([(2,)], lengths) for r in (0, 1)]
    assert one_row == [[], [(2,)]]


def test_a_group_on_gpus_is_opened_on_the_one_that_the_model_lies_on(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: done.append(str(device)))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **_: done.append(backend)
    )
    Processes(None, rank=1, size=2, local_rank=1).open(torch.device("cuda:1"))
    assert done == ["cuda:1", "nccl"]


def test_what_rank_0_says_is_heard_in_order_whatever_its_length():
    store = torch.distributed.HashStore()
    first, second = (Processes(store, rank=r, size=2, local_rank=r) for r in (0, 1))
    said = [bytes(range(256)) * 40_000, b"", b"model.norm.weight"]  # the first in three parts
    assert [first.hear_main(text) for text in said] == said
    assert [second.hear_main() for _ in said] == said


def bereft_worker(rank, port, folder):
    """Lose the last of four, and stay until the others have noticed it, too."""
    world = open_world(rank, port, size=4)
    world.sum(1)
    if rank == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        while True:
            world.sum(1)
    except TrainingError:  # and whoever holds the error holds the group
        world.close()
        Path(folder, str(rank)).touch()
        until = time.monotonic() + TIMEOUT_S / 4
        while len(list(Path(folder).iterdir())) < 3:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.slow
def test_a_process_that_stays_after_a_loss_keeps_no_other_from_noticing_it(tmp_path):
    context, port, folder = multiprocessing.get_context("spawn"), free_port(), tmp_path / "noticed"
    folder.mkdir()
    running = [context.Process(target=bereft_worker, args=(r, port, str(folder))) for r in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(TIMEOUT_S)
        process.kill()
    assert [process.exitcode for process in running] == [0, 0, 0, -signal.SIGKILL]


def write_run(folder):
    tiny_model().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    rows = [{"instruction": f"Say {n}", "response": str(n)} for n in range(20)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(
            "model: base\ntemplate: inst\ndata: {train: rows.jsonl, held_out_rows: 4}\n"
            "training: {epochs: 40, batch_size: 4, learning_rate: 1.0e-3}\n"
            f"checkpoints: {{every_steps: 5}}\noutput: {name}\n"
        )


def start(*arguments, processes, port=None, node=None):
    """Start torchrun, be it for one of two nodes that meet at a port of this machine."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port or free_port())]
    torchrun += ["--nnodes", "2", "--node-rank", str(node)] if node is not None else []
    command = [sys.executable, *torchrun, "-m", "biddable", "train", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(running):
    _, told = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0, told


def children_of(pid):
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    by_rank = {}
    for child in listed:
        values = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [v for v in values if v.startswith(b"RANK=")]
        if ranks:
            by_rank[int(ranks[0][5:])] = int(child)
    return by_rank


def wait_for_step_10(running):
    while not Path("two.checkpoints/step-00000010").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)


def cut_off(number, *, processes, rank=1):
    """Run with some processes, and send one a signal at the 10th step or later."""
    running = start("two.yaml", processes=processes)
    wait_for_step_10(running)
    os.kill(children_of(running.pid)[rank], number)
    _, told = running.communicate(timeout=TIMEOUT_S)
    assert running.returncode != 0
    return told


def steps_of(folder):
    records = [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"]) for r in records if r["event"] in ("step", "held_out")]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("number", "rank", "line", "processes"),
    [
        (signal.SIGKILL, 0, "rank 0 of 2 has ended or cannot be reached", (2, 2)),
        (signal.SIGKILL, 1, "another process of this run has ended or cannot be reached", (2, 2)),
        (signal.SIGTERM, 1, "stopped by SIGTERM, and saved at step", (2, 1)),
        (signal.SIGTERM, 0, "stopped by SIGTERM, and saved at step", (1, 2)),
    ],
)
def test_a_run_that_was_cut_off_is_saved_and_goes_on(tmp_path, number, rank, line, processes):
    write_run(tmp_path)
    before, after = processes
    told = cut_off(number, processes=before, rank=rank)
    (shown,) = [text for text in told.splitlines() if line in text]
    torchrun = "torchrun --nproc-per-node 2 -m " if before == 2 else ""
    assert shown.endswith(f"Go on: {torchrun}biddable train two.yaml --resume")
    finish(start("two.yaml", "--resume", processes=after))
    finish(start("one.yaml", processes=1))
    found, wanted = steps_of("two"), steps_of("one")
    assert [step for step, _ in found] == [step for step, _ in wanted]
    assert [v for _, v in found] == pytest.approx([v for _, v in wanted], rel=1e-3)


def test_processes_that_torchrun_starts_again_are_refused(monkeypatch):
    names = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(ConfigError, match="--max-restarts 0"):
        find_world()


def test_who_waits_for_rank_0_hears_that_a_process_has_failed():
    store = torch.distributed.HashStore()
    store.set("biddable/failure", "rank 0 of 2: no room")
    world = Processes(store, rank=1, size=2, local_rank=1)
    with pytest.raises(TrainingError, match=r"^rank 0 of 2: no room"), world.together():
        world.hear_main()
    assert world.is_broken
