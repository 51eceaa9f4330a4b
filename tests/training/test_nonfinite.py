"""Steps that come to no number, left out by policy."""

import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.errors import TrainingError
from biddable.training import passes, trainer
from biddable.training.nonfinite import MAX_SKIPPED_IN_ROW
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples


def run(monkeypatch, bad_steps, *, what="loss", steps=8):
    """Train with a loss or gradient that is no number in some steps, counted from 1."""
    model, accumulate, seen = tiny_model(), passes.accumulate_gradient, []

    def spoiled(*args, **options):
        seen.append(args)
        loss = accumulate(*args, **options)
        if len(seen) in bad_steps and what == "gradient":
            model.lm_head.weight.grad[3, 3] = float("nan")
        is_bad_loss = len(seen) in bad_steps and what == "loss"
        return loss * float("inf" if is_bad_loss else 1)

    monkeypatch.setattr(passes, "accumulate_gradient", spoiled)
    settings = TrainingConfig(
        epochs=1, batch_size=1, learning_rate=1e-2, schedule="constant", on_nonfinite="skip"
    )
    log = train(model, random_examples(steps), settings=settings)
    return model, log


@pytest.mark.parametrize(("what", "value"), [("loss", "inf"), ("gradient", "nan")])
def test_a_step_is_left_out_counted_and_named(what, value, monkeypatch):
    _, log = run(monkeypatch, {2, 5}, what=what)
    skipped = [record for record in log.records if record["event"] == "skip"]
    assert [record["step"] for record in skipped] == [2, 5]
    assert (log.num_skipped, log.num_steps) == (2, 6)
    assert log.num_tokens == sum(r["num_tokens"] for r in log.records if r["event"] == "step")
    (name,) = skipped[0]["names"]
    assert skipped[0]["summary"] == f"step 2: the {what} is {value}; left out, with {name}"
    assert name.startswith("rows.jsonl:")


def test_a_step_that_is_left_out_touches_neither_weights_nor_moments(monkeypatch):
    """A run of which only the last step is bad is the run that ends before it."""
    built = []
    build = trainer.build_optimizer

    def keep(*args, **options):
        built.append(build(*args, **options))
        return built[-1]

    monkeypatch.setattr(trainer, "build_optimizer", keep)
    weights = []

    def state_before_last(event):
        if event["event"] == "step":
            weights.append([p.detach().clone() for p in model.parameters()])
            moments.append([v.clone() for s in built[-1].state.values() for v in s.values()])

    model, moments, seen = tiny_model(), [], []
    accumulate = passes.accumulate_gradient

    def last_is_bad(*args, **options):
        seen.append(args)
        return accumulate(*args, **options) * float("nan" if len(seen) == 6 else 1)

    monkeypatch.setattr(passes, "accumulate_gradient", last_is_bad)
    settings = TrainingConfig(epochs=1, batch_size=1, learning_rate=1e-2, on_nonfinite="skip")
    train(model, random_examples(6), settings=settings, on_event=state_before_last)
    assert len(weights) == 5
    pairs = zip(model.parameters(), weights[-1], strict=True)
    assert all(torch.equal(found, expected) for found, expected in pairs)
    found = [v for s in built[-1].state.values() for v in s.values()]
    assert all(torch.equal(a, b) for a, b in zip(found, moments[-1], strict=True))


def test_too_many_in_a_row_end_the_run(monkeypatch):
    run(monkeypatch, set(range(1, MAX_SKIPPED_IN_ROW + 1)))
    with pytest.raises(TrainingError, match=r"step 7: .*5 steps in a row were left out before it"):
        run(monkeypatch, set(range(2, MAX_SKIPPED_IN_ROW + 3)))


def test_good_steps_between_bad_ones_go_on(monkeypatch):
    _, log = run(monkeypatch, {1, 2, 3, 4, 5, 7, 8, 9, 10, 11}, steps=12)
    assert log.num_skipped == 10
