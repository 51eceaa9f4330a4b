"""Divide models among two processes, and compare with one that holds all of them."""

import signal
from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn

from biddable.config import parse_config
from biddable.config_checkpoints import CheckpointConfig
from biddable.config_training import TrainingConfig
from biddable.errors import BiddableError, ConfigError, TrainingError
from biddable.models.freezing import freeze_layers
from biddable.models.lora import apply_lora
from biddable.training import finetune, sharding, trainer
from biddable.training.checkpoints import Checkpoints
from biddable.training.distributed import ALONE
from biddable.training.sharding import Sharding
from biddable.training.shards import whole
from biddable.training.venue import Venue
from tests.tiny import in_exact_doubles, tiny_gpt2, tiny_model, tiny_opt
from tests.training.rows import random_examples
from tests.training.test_distributed import (
    TIMEOUT_S,
    cut_off,
    finish,
    free_port,
    open_world,
    start,
    steps_of,
    write_run,
)

KINDS = (
    "full",
    "tied",
    "lora",
    "lora tied",
    "thin lora",
    "frozen",
    "gpt2",
    "gpt2 lora",
    "recomputed",
    "best",
    "grouped",
    "opt",
)


def model_of(kind):
    if "gpt2" in kind:
        model = tiny_gpt2(dtype=torch.float64)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # each process has noise of its own
    elif kind == "opt":  # the decoder is no child of the model, its head is tied
        model = tiny_opt(dtype=torch.float64)
    else:
        model = tiny_model(dtype=torch.float64, tie="tied" in kind)
    if "lora" in kind:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            apply_lora(model, rank=1 if kind == "thin lora" else 2)  # one row: the second has none
        model.to(torch.float64)
    if kind == "frozen":
        freeze_layers(model, 1)
    return model


def outcome(world, kind, *, checkpoints=None, samples=None, divides=True, told=None):
    """Train for two epochs; the last step of each has one row, so that a process has none."""
    model = model_of(kind)
    settings = TrainingConfig(
        epochs=2,
        batch_size=4,
        learning_rate=1e-2,
        weight_decay=0.1,
        max_grad_norm=0.5,
        micro_batch_size=None if kind == "grouped" else 1,
        sharding="full" if divides else "none",
        gradient_checkpointing=kind == "recomputed",
        keep="best" if kind == "best" else "last",
    )
    rows, told = random_examples(9), [] if told is None else told
    log = trainer.train(
        model,
        rows,
        settings=settings,
        held_out=rows[:3],
        on_event=told.append,
        venue=Venue(checkpoints, samples, world),
    )
    return {
        "losses": [r["loss"] for r in log.records if "loss" in r],
        "norms": [r["grad_norm"] for r in log.records if "grad_norm" in r],
        "rows": [r.get("rows") for r in log.records],
        "weights": {name: whole(p.detach()).clone() for name, p in model.named_parameters()},
        "notes": [e["text"] for e in told if e["event"] == "note"],
    }


def require_equal(found, wanted):
    assert [r for r in found["rows"] if r] == [r for r in wanted["rows"] if r]
    for key in ("losses", "norms"):
        assert found[key] == pytest.approx(wanted[key], rel=1e-10)
    for name, weight in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=1e-10, atol=1e-11)


def kinds_worker(rank, port, folder, kinds):
    world = open_world(rank, port)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        torch.save({kind: outcome(world, kind) for kind in kinds}, Path(folder, f"{rank}.pt"))
    world.close()


def in_two(worker, folder, *arguments):
    """Run a function in two processes, and give what each left."""
    return in_some(worker, folder, *arguments, num_processes=2)


def in_some(worker, folder, *arguments, num_processes):
    given = (free_port(), str(folder), *arguments)
    running = multiprocessing.spawn(worker, given, nprocs=num_processes, join=False)
    try:
        # each call waits for one more
        assert any(running.join(timeout=TIMEOUT_S) for _ in range(num_processes))
    finally:
        for process in running.processes:  # those that wait for each other
            process.kill()
    files = [folder / f"{rank}.pt" for rank in range(num_processes)]
    return [torch.load(file, weights_only=True) for file in files]


@pytest.mark.slow  # tests/training/test_parts.py has two of them in the quick tier
def test_every_method_and_tie_can_be_divided(tmp_path, monkeypatch):
    both = in_two(kinds_worker, tmp_path, KINDS)
    in_exact_doubles(monkeypatch)
    for kind in KINDS:
        wanted = outcome(ALONE, kind, divides=False)
        for found in both:
            require_equal(found[kind], wanted)
            assert "are divided among 2 processes" in found[kind]["notes"][0]


class CutOff(Exception):
    """Raised in the place of a crash."""


def cut_off_at(folder, world, *, divides, kind="tied", step=4):
    """Save every second step, and end as by a crash at a step, nothing more being saved."""

    def crash(done, _):
        if done == step:
            raise CutOff
        return []

    with pytest.raises(CutOff):
        outcome(world, kind, checkpoints=saved_in(folder), samples=crash, divides=divides)


def saved_in(folder):
    made = Checkpoints(Path(folder, "run"), CheckpointConfig(every_steps=2))
    made.find(lambda event: None)
    return made


def resuming_worker(rank, port, folder, then):
    """Begin as two and go on as two; leave another run for one, or go on with what one left."""
    world = open_world(rank, port)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found = {}
        for name in then:
            place = Path(folder, name)
            if name != "by one":
                cut_off_at(place, world, divides=True)
            if name != "for one":
                found[name] = outcome(
                    world, "tied", checkpoints=saved_in(place), divides=name != "undivided"
                )
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


@pytest.mark.slow
def test_a_run_goes_on_whatever_it_was_divided_into(tmp_path, monkeypatch):
    in_exact_doubles(monkeypatch)
    cut_off_at(tmp_path / "by one", ALONE, divides=False)
    wanted = outcome(ALONE, "tied", divides=False)
    names = ("by two", "undivided", "by one", "for one")
    for found in in_two(resuming_worker, tmp_path, names):
        for outcome_of_two in found.values():
            require_equal(outcome_of_two, wanted)
    require_equal(
        outcome(ALONE, "tied", checkpoints=saved_in(tmp_path / "for one"), divides=False), wanted
    )


def cut_off_worker(rank, port, folder, size):
    world = open_world(rank, port, size=size)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        cut_off_at(folder, world, divides=True)
    torch.save(None, Path(folder, f"{rank}.pt"))
    world.close()


def going_on_worker(rank, port, folder, size):
    world = open_world(rank, port, size=size)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found = outcome(world, "tied", checkpoints=saved_in(folder))
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 3), (3, 2)])
def test_parts_of_some_processes_are_read_by_more_or_fewer(tmp_path, monkeypatch, first, then):
    in_some(cut_off_worker, tmp_path, first, num_processes=first)
    outcomes = in_some(going_on_worker, tmp_path, then, num_processes=then)
    in_exact_doubles(monkeypatch)
    wanted = outcome(ALONE, "tied", divides=False)
    for found in outcomes:
        require_equal(found, wanted)


def not_finite_worker(rank, port, folder, policy):
    world = open_world(rank, port)
    compute, calls, found = sharding.accumulate_gradient, [], {}

    def spoilt(*given, **named):
        calls.append(1)
        loss = compute(*given, **named)
        return loss * float("nan") if rank == 1 and len(calls) == 3 else loss

    model = model_of("full")
    settings = TrainingConfig(
        epochs=1, batch_size=4, micro_batch_size=1, sharding="full", on_nonfinite=policy
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "accumulate_gradient", spoilt)
        try:
            log = trainer.train(
                model, random_examples(16), settings=settings, venue=Venue(world=world)
            )
            found["skipped"] = log.num_skipped
        except TrainingError as error:
            found["error"] = str(error)
    weights = [whole(parameter.detach()) for parameter in model.parameters()]
    found["is_finite"] = all(bool(torch.isfinite(weight).all()) for weight in weights)
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


@pytest.mark.slow
def test_a_loss_of_one_that_is_no_number_skips_the_step_of_both(tmp_path):
    for found in in_two(not_finite_worker, tmp_path, "skip"):
        assert found == {"skipped": 1, "is_finite": True}


@pytest.mark.slow
def test_a_loss_of_one_that_is_no_number_stops_both(tmp_path):
    first, second = in_two(not_finite_worker, tmp_path, "stop")
    assert first == second
    assert "row" in first["error"]
    assert first["is_finite"]


def failing_worker(rank, port, folder):
    world = open_world(rank, port)
    compute, calls = sharding.accumulate_gradient, []

    def spoilt(*given, **named):
        calls.append(1)
        if rank == 1 and len(calls) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return compute(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "accumulate_gradient", spoilt)
        with pytest.raises(TrainingError) as caught:
            outcome(world, "full")
    torch.save(str(caught.value), Path(folder, f"{rank}.pt"))
    world.close()


@pytest.mark.slow
def test_a_pass_that_breaks_off_on_one_is_told_by_both(tmp_path):
    first, second = in_two(failing_worker, tmp_path)
    assert first == second
    assert "rank 1 of 2: DefaultCPUAllocator: can't allocate memory" in first


def test_one_process_divides_nothing_and_says_so():
    model = tiny_model()
    made = Sharding.choose(model, TrainingConfig(sharding="full"), ALONE)
    assert not made.is_on
    assert made.note == "training.sharding: full: one process, so nothing is divided"
    assert all(type(p) is nn.Parameter for p in model.parameters())


def test_weights_in_few_bits_are_refused(monkeypatch):
    class Two(type(ALONE)):
        size = 2

    monkeypatch.setattr(sharding, "is_small", lambda parameter: True)
    with pytest.raises(ConfigError, match=r"found weights in few bits.*method\.quantize_base"):
        Sharding.choose(tiny_model(), TrainingConfig(sharding="full"), Two())


def test_a_base_to_be_made_small_is_refused_before_it_is_loaded(monkeypatch):
    class Two(type(ALONE)):
        size = 2

    monkeypatch.setattr(finetune, "find_world", Two)
    values = {"model": "not there", "data": "nor.jsonl", "output": "run"}
    values["method"] = {"name": "lora", "quantize_base": "int4"}
    with pytest.raises(ConfigError, match=r"few bits.*Remove training\.sharding, or method\.quant"):
        finetune.run_training(parse_config({**values, "training": {"sharding": "full"}}))
    assert list(Path().glob("run*")) == []
    with pytest.raises(BiddableError, match=r"nor\.jsonl"):  # each has all of the base
        finetune.run_training(parse_config(values))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGKILL, "another process of this run has ended"),
        (signal.SIGTERM, "stopped by SIGTERM"),
    ],
)
def test_a_divided_run_that_was_cut_off_goes_on(tmp_path, number, line):
    write_run(tmp_path)
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(
            file.read_text().replace("training: {", "training: {sharding: full, ")
            + 'watch: {prompts: ["Say 3"], every: 20, max_new_tokens: 4}\n'
        )
    told = cut_off(number, processes=2)
    shown = [text for text in told.splitlines() if line in text]
    assert len(shown) == 1, told
    assert "--resume" in shown[0]
    finish(start("two.yaml", "--resume", processes=2))
    finish(start("one.yaml", processes=1))
    found, wanted = steps_of("two"), steps_of("one")
    assert [step for step, _ in found] == [step for step, _ in wanted]
    assert [v for _, v in found] == pytest.approx([v for _, v in wanted], rel=1e-3)
