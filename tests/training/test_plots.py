import io

import pytest
from matplotlib.image import imread

from biddable.config_training import TrainingConfig
from biddable.training import finetune, plots
from biddable.training.plots import draw_losses
from biddable.training.trainer import TrainingLog, train
from tests.tiny import tiny_model
from tests.training.rows import random_examples


@pytest.fixture(scope="module")
def log():
    examples = random_examples(6)
    return train(
        tiny_model(),
        examples,
        settings=TrainingConfig(epochs=2, batch_size=2),
        held_out=examples,
    )


def colours(picture):
    pixels = imread(io.BytesIO(picture), format="png")[..., :3]
    assert pixels.shape == (576, 960, 3)
    return {tuple(round(255 * float(value)) for value in pixel) for pixel in pixels.reshape(-1, 3)}


def rgb(name):
    return tuple(int(name[n : n + 2], 16) for n in (1, 3, 5))


def test_the_picture_shows_the_losses_and_the_rate(log):
    seen = colours(draw_losses(log.records))
    assert {rgb(c) for c in (plots._TRAIN, plots._HELD, plots._RATE)} < seen
    without = [record for record in log.records if record["event"] == "step"]
    assert rgb(plots._HELD) not in colours(draw_losses(without))


def test_steps_are_whole_numbers(log, monkeypatch):
    drawn = []

    class Seen(plots.Figure):
        def savefig(self, *given, **named):
            drawn.extend(self.axes)
            super().savefig(*given, **named)

    monkeypatch.setattr(plots, "Figure", Seen)
    draw_losses([log.records[1] | {"step": step} for step in range(1, 21)])
    ticks = drawn[1].get_xticks()
    assert len(ticks) > 3
    assert all(tick == round(tick) for tick in ticks)


def test_no_run_is_lost_to_its_picture(log, monkeypatch):
    assert set(finetune._draw(log, print)) == {"loss.png"}
    told = []
    assert finetune._draw(TrainingLog(), told.append) == {}
    assert "the losses were not drawn" in told[0]["text"]
