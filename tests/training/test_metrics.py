import json

import pytest

from biddable.config import TrainingConfig
from biddable.errors import CheckpointError
from biddable.training.metrics import Figures, JsonlWriter
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples


def step(number, seconds, *, epoch=1, loss=1.0, num_tokens=100):
    return {
        "event": "step",
        "step": number,
        "epoch": epoch,
        "seconds": seconds,
        "loss": loss,
        "lr": 1e-3,
        "grad_norm": 0.5,
        "num_tokens": num_tokens,
        "num_loss_tokens": 40,
        "memory_bytes": 7,
    }


def held_out(epoch, seconds):
    number = 10 * epoch
    return {"event": "held_out", "epoch": epoch, "step": number, "loss": 2.0, "seconds": seconds}


def figures_after(*events, num_steps=20, num_epochs=2):
    figures = Figures()
    figures({"event": "start", "num_steps": num_steps, "num_epochs": num_epochs})
    for event in events:
        figures(event)
    return figures


def test_measuring_counts_in_the_time_left_and_not_in_the_speed():
    steps = [step(n, 3 + 2 * n) for n in range(1, 6)]
    figures = figures_after(held_out(0, 3.0), *steps)
    assert figures.tokens_per_second == pytest.approx(50)
    assert figures.loss_tokens_per_second == pytest.approx(20)
    # 15 steps of 2 s and two more measurements of 3 s
    assert figures.seconds_left == pytest.approx(36)
    rest = [step(n, 3 + 2 * n) for n in range(6, 11)]
    figures = figures_after(held_out(0, 3.0), *steps, *rest, held_out(1, 26.0))
    assert figures.seconds_left == pytest.approx(20 + 3)
    assert (figures.held_out, figures.epoch, figures.memory_bytes) == (2.0, 1, 7)


def test_a_run_that_goes_on_is_not_timed_by_what_was_before():
    figures = figures_after(step(7, 500.0))
    assert (figures.tokens_per_second, figures.seconds_left) == (0.0, None)
    figures(step(8, 502.0))
    assert figures.tokens_per_second == pytest.approx(50)
    assert figures.seconds_left == pytest.approx(24)


def test_a_note_within_a_step_takes_none_of_its_time():
    note = {"event": "note", "text": "smaller", "seconds": 9.0}
    assert figures_after(note, step(1, 10.0)).tokens_per_second == pytest.approx(10)


def test_the_loss_is_smoothed_and_does_not_lean_to_the_first():
    assert figures_after(step(1, 1.0, loss=4.0)).losses == pytest.approx([4.0])
    figures = figures_after(*(step(n, n, loss=4.0 if n == 1 else 1.0) for n in range(1, 31)))
    assert figures.losses == sorted(figures.losses, reverse=True)
    assert 1.0 < figures.losses[-1] < 1.05


def test_the_records_of_a_run_hold_all_that_is_shown():
    figures = Figures()
    settings = TrainingConfig(epochs=2, batch_size=2)
    examples = random_examples(4)
    log = train(tiny_model(), examples, settings=settings, held_out=examples, on_event=figures)
    assert (figures.step, figures.num_steps, figures.epoch, figures.num_epochs) == (4, 4, 2, 2)
    assert figures.held_out == log.held_out_losses[-1]
    assert figures.loss_tokens_per_second < figures.tokens_per_second
    assert figures.memory_bytes > 50e6  # torch alone takes more
    seconds = [record["seconds"] for record in log.records]
    assert seconds == sorted(seconds)
    assert figures.seconds_left == 0


def test_lines_of_json(tmp_path):
    path = tmp_path / "log.jsonl"
    write = JsonlWriter(path)
    log = train(tiny_model(), random_examples(2), settings=TrainingConfig(epochs=1), on_event=write)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert events[2:-1] == log.records


def test_a_full_disk_is_said():
    write = JsonlWriter("/dev/full")
    with pytest.raises(CheckpointError, match=r"/dev/full: cannot be written"):
        write({"event": "end"})
