"""Break a run off between and within its steps, and hold the resumed one against the unbroken."""

import copy
import errno
import os

import pytest
import torch

from biddable.config_checkpoints import CheckpointConfig
from biddable.config_training import TrainingConfig
from biddable.errors import CheckpointError, RunStopped, TrainingError
from biddable.models.freezing import freeze_layers
from biddable.models.lora import apply_lora
from biddable.training import checkpoints as files
from biddable.training import passes, safekeeping
from biddable.training.checkpoints import Checkpoints
from biddable.training.layout import Layout
from biddable.training.trainer import train
from biddable.training.venue import Venue
from tests.tiny import tiny_model
from tests.training.rows import random_examples

SETTINGS = TrainingConfig(
    epochs=3, batch_size=3, micro_batch_size=2, keep="best", held_out_every=2, learning_rate=0.02
)
ROWS, HELD_OUT = random_examples(8), random_examples(4, seed=5)
NUM_STEPS = 9


def fresh(method):
    model = tiny_model(num_layers=2)
    if method == "freeze":
        freeze_layers(model, 1)
    elif method == "lora":
        torch.manual_seed(0)
        apply_lora(model, rank=2, dropout=0.2)
    return model


def saving(folder, *, resume=False, **settings):
    checkpoints = Checkpoints(folder / "run", CheckpointConfig(**settings))
    then = checkpoints.find(lambda event: None) if resume else {}
    checkpoints.begin({"base": "a"}, then=then)
    return checkpoints


def run(method, checkpoints=None, *, settings=SETTINGS, on_event=None):
    model = fresh(method)
    log = train(
        model,
        ROWS,
        settings=settings,
        held_out=HELD_OUT,
        seed=3,
        on_event=on_event,
        venue=Venue(checkpoints),
    )
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    return weights, without_times(log)


def without_times(log):
    log = copy.copy(log)
    log.records = [
        {k: v for k, v in r.items() if k not in ("seconds", "memory_bytes")} for r in log.records
    ]
    return {k: v for k, v in vars(log).items() if k not in ("seconds", "resumed_at")}


def stop_after(checkpoints, step):
    """Ask for the end as a signal does, at the last moment before the step after this one."""

    def listen(event):
        if event["event"] == "step" and event["step"] == step:
            checkpoints.signals.asked = 15

    return listen


def assert_same(found, expected):
    assert found[1] == expected[1]
    assert all(torch.equal(value, expected[0][name]) for name, value in found[0].items())


@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_a_run_stopped_at_every_step_ends_as_one_never_stopped(method, tmp_path):
    expected = run(method)
    assert expected[1]["kept_step"] not in (0, NUM_STEPS)  # the best were not the last
    for step in range(1, NUM_STEPS):
        checkpoints = saving(tmp_path, resume=step > 1)
        with pytest.raises(RunStopped, match=rf"stopped by SIGTERM, and saved at step {step} of 9"):
            run(method, checkpoints, on_event=stop_after(checkpoints, step))
    checkpoints = saving(tmp_path, resume=True)
    model = fresh(method)
    log = train(model, ROWS, settings=SETTINGS, held_out=HELD_OUT, seed=3, venue=Venue(checkpoints))
    assert log.resumed_at == list(range(1, NUM_STEPS))
    assert_same((dict(model.named_parameters()), without_times(log)), expected)


def test_checkpoints_hold_what_trains_and_no_more(tmp_path):
    checkpoints = saving(tmp_path, every_steps=9, when_done="keep")
    run("lora", checkpoints)
    (folder,) = checkpoints.folder.iterdir()
    saved = files.load_file(folder / "trained.safetensors")
    assert saved
    assert all("lora_" in name for name in saved)
    assert saved.keys() == files.load_file(folder / "best.safetensors").keys()
    inner = files.load_file(folder / "state.safetensors")
    names = {key.split("/", 2)[2] for key in inner if key.startswith("optimizer/")}
    assert names == saved.keys()


@pytest.mark.parametrize("at_batch", [1, 5, 8, 14, 15])
def test_a_signal_within_a_step_or_a_measurement_ends_it_there(at_batch, tmp_path, monkeypatch):
    """Micro-batches and batches of held-out rows are counted from the start of the run."""
    expected = run("lora")
    checkpoints = saving(tmp_path)
    lay_out, seen = Layout.batch, []

    def lay_out_and_ask(*args, **options):
        seen.append(args)
        if len(seen) == at_batch:
            checkpoints.signals.asked = 2
        return lay_out(*args, **options)

    monkeypatch.setattr(Layout, "batch", lay_out_and_ask)
    with pytest.raises(RunStopped, match="stopped by Ctrl-C") as stopped:
        run("lora", checkpoints)
    assert stopped.value.exit_code == 130
    assert len(seen) == at_batch  # not one more
    monkeypatch.undo()
    assert_same(run("lora", saving(tmp_path, resume=True)), expected)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), OSError(5, "Input/output")])
def test_what_breaks_a_step_saves_the_state_before_it(error, tmp_path, monkeypatch):
    expected = run("lora")
    accumulate, seen = passes.accumulate_gradient, []

    def fail(*args, **options):
        seen.append(args)
        loss = accumulate(*args, **options)
        if len(seen) == 10:
            raise error
        return loss

    monkeypatch.setattr(passes, "accumulate_gradient", fail)
    with pytest.raises(type(error)):
        run("lora", saving(tmp_path))
    monkeypatch.undo()
    assert_same(run("lora", saving(tmp_path, resume=True)), expected)


def test_a_gradient_that_is_no_number_stops_and_may_be_resumed_with_another_policy(
    tmp_path, monkeypatch
):
    stop = SETTINGS.model_copy(update={"layout": "padded"})
    skip = stop.model_copy(update={"on_nonfinite": "skip"})
    accumulate = passes.accumulate_gradient

    def bad_rows(model, batch, **options):
        is_bad = bool((batch.input_ids[:, 0] == ROWS[2].input_ids[0]).any())
        return accumulate(model, batch, **options) * float("nan" if is_bad else 1)

    monkeypatch.setattr(passes, "accumulate_gradient", bad_rows)
    expected = run("lora", settings=skip)
    assert expected[1]["num_skipped"] == 3
    with pytest.raises(TrainingError, match="the loss is nan"):
        run("lora", saving(tmp_path), settings=stop)
    assert_same(run("lora", saving(tmp_path, resume=True), settings=skip), expected)


def test_a_full_disk_does_not_end_a_run_and_is_told(tmp_path, monkeypatch):
    expected = run("full")

    def refuse(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "save_file", refuse)
    told = []
    found = run("full", saving(tmp_path, every_steps=4), on_event=told.append)
    assert_same(found, expected)
    failures = [event for event in told if event["event"] == "checkpoint"]
    assert [event["step"] for event in failures] == [4, 8]
    assert "training goes on, but could not be saved: " in failures[0]["summary"]
    assert "No space left on device" in failures[0]["summary"]


def test_a_full_disk_at_the_end_is_no_saved_run(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    checkpoints = saving(tmp_path)
    monkeypatch.setattr(files, "save_file", refuse)
    with pytest.raises(CheckpointError, match="No space left"):
        run("full", checkpoints, on_event=stop_after(checkpoints, 4))


def test_resuming_elsewhere_says_that_bits_may_differ(tmp_path, monkeypatch):
    checkpoints = saving(tmp_path)
    with pytest.raises(RunStopped):
        run("full", checkpoints, on_event=stop_after(checkpoints, 2))
    told = []
    here = safekeeping.describe_machine(tiny_model())
    monkeypatch.setattr(safekeeping, "describe_machine", lambda _: {**here, "threads": "96"})
    run("full", saving(tmp_path, resume=True), on_event=told.append)
    (event,) = [event for event in told if event["event"] == "resume"]
    told = f"not bit for bit as without the break: threads was {here['threads']}, and is 96"
    assert event["summary"] == f"resumed at step 2 of 9; {told}"


def test_nothing_is_saved_where_that_is_not_wanted(tmp_path):
    expected = run("full")
    checkpoints = saving(tmp_path, keep=0, every_steps=1)
    assert_same(run("full", checkpoints), expected)
    assert not checkpoints.folder.exists()


def test_a_snapshot_of_other_parameters_is_refused(tmp_path):
    checkpoints = saving(tmp_path)
    with pytest.raises(RunStopped):
        run("lora", checkpoints, on_event=stop_after(checkpoints, 2))
    with pytest.raises(CheckpointError, match=r"holds 28 trained parameters, and the model trains"):
        run("full", saving(tmp_path, resume=True))
