"""Early stopping, the best weights, and how often the held-out loss is measured."""

import pytest
import torch

from biddable.config import parse_config
from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError
from biddable.training import trainer
from biddable.training.held_out import held_out_loss
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples

ROWS, HELD_OUT = random_examples(12), random_examples(6, seed=9)


def run(**settings):
    model = tiny_model()
    config = TrainingConfig(**{"epochs": 8, "batch_size": 6, "learning_rate": 0.01, **settings})
    return model, train(model, ROWS, settings=config, held_out=HELD_OUT)


def measured_at(log):
    return [record["step"] for record in log.records if record["event"] == "held_out"]


@pytest.mark.parametrize(
    ("every", "expected"), [(None, [0, 2, 4, 6]), (1, list(range(7))), (4, [0, 4, 6])]
)
def test_the_held_out_loss_is_measured_as_often_as_asked(every, expected):
    _, log = run(epochs=3, held_out_every=every)
    assert measured_at(log) == expected


def test_the_best_weights_are_left_and_are_those_of_their_step():
    model, log = run(keep="best")
    losses = dict(zip(measured_at(log), log.held_out_losses, strict=True))
    del losses[0]  # the untrained base is no candidate
    best = min(losses, key=losses.get)
    assert 0 < best < max(losses)  # random rows cannot be held on to for long
    assert log.kept_step == best
    assert log.kept_held_out_loss == losses[best]
    assert losses[best] == pytest.approx(held_out_loss(model, HELD_OUT)[0], rel=1e-5)
    assert log.records[-1]["event"] == "keep"


def test_the_last_weights_are_left_if_they_are_asked_for():
    model, log = run()
    assert log.kept_step == 16
    last = held_out_loss(model, HELD_OUT)[0]
    assert log.held_out_losses[-1] == pytest.approx(last, rel=1e-5)
    *rest, note = log.records
    assert {record["event"] for record in rest} == {"step", "held_out"}
    losses = dict(zip(measured_at(log), log.held_out_losses, strict=True))
    best = min(list(losses)[1:], key=losses.get)
    assert (
        f"was least after step {best}, {losses[best]:.4f}, and rose to {last:.4f}" in note["text"]
    )
    assert "training.keep: best would have kept" in note["text"]


@pytest.mark.parametrize("last", [3.0, 3.00001])
def test_a_held_out_loss_that_is_least_at_the_end_is_no_rise(last, monkeypatch):
    losses = iter([9.0, 5.0, 3.0, last])
    monkeypatch.setattr(trainer, "held_out_loss", lambda *_, **__: (next(losses), 10))
    _, log = run(epochs=3)
    assert {record["event"] for record in log.records} == {"step", "held_out"}


@pytest.mark.parametrize("keep", ["last", "best"])
def test_weights_worse_than_the_base_are_told(keep, monkeypatch):
    losses = iter([2.0, 5.0, 2.5, 3.0])
    monkeypatch.setattr(trainer, "held_out_loss", lambda *_, **__: (next(losses), 10))
    _, log = run(epochs=3, keep=keep)
    left = {"last": "3.0000", "best": "2.5000"}[keep]
    told = log.records[-1].get("text") or log.records[-1]["summary"]
    assert f"weights that are left, {left}, is above the base's, 2.0000" in told
    assert "learning_rate (now 0.01)" in told


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_out_of_patience_stops_and_says_so(patience, monkeypatch):
    losses = iter([9.0, 5.0, 4.0, 4.0, 6.0, 4.5, 3.0, 2.0, 1.0])
    monkeypatch.setattr(trainer, "held_out_loss", lambda *_, **__: (next(losses), 10))
    _, log = run(patience=patience)
    stopped_at = {1: 6, 3: 10}[patience]  # the second measurement was the best
    assert log.num_steps == stopped_at
    (record,) = [record for record in log.records if record["event"] == "early_stop"]
    assert record["step"] == stopped_at
    times = "1 measurement" if patience == 1 else f"{patience} measurements"
    told = f"stopped at step {stopped_at}: {times} without a lower held-out loss"
    assert record["summary"] == f"{told} than 4.0000, of step 4"


def test_the_untrained_base_is_never_kept(monkeypatch):
    losses = iter([0.1, 5.0, 6.0])
    monkeypatch.setattr(trainer, "held_out_loss", lambda *_, **__: (next(losses), 10))
    model, log = run(epochs=2, keep="best")
    assert log.kept_step == 2
    assert not torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)


@pytest.mark.parametrize("setting", [{"keep": "best"}, {"patience": 2}, {"held_out_every": 5}])
def test_what_needs_held_out_rows_is_refused_without(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=f"training.{name}: it needs a held-out loss; set data.h"):
        train(tiny_model(), ROWS, settings=TrainingConfig(**setting))
    values = {"model": "mimic", "data": "a.json", "output": "run", "training": setting}
    with pytest.raises(ConfigError, match=f"training.{name}: found .* it needs a held-out loss"):
        parse_config(values)
    for data in ({"held_out": "b.json"}, {"held_out_rows": 2}):
        parse_config({**values, "data": {"train": "a.json", **data}})
