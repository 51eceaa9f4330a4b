import io
import json

import pytest
from rich.console import Console

from biddable.config_training import TrainingConfig
from biddable.errors import CheckpointError
from biddable.training.metrics import JsonlWriter, ProgressBar
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples


def test_the_bar_shows_loss_speed_and_what_is_trained():
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    examples = random_examples(4)
    with ProgressBar(console) as bar:
        bar({"event": "data", "part": "train", "summary": ""})
        settings = TrainingConfig(epochs=1, batch_size=2)
        train(tiny_model(), examples, settings=settings, held_out=examples, on_event=bar)
    text = out.getvalue()
    for part in ("2/2", "loss ", "tok/s", "held-out ", "learning rate 0.001", "4 examples"):
        assert part in text


def test_the_bar_goes_to_stderr(capsys):
    with ProgressBar() as bar:
        bar({"event": "held_out", "epoch": 1, "loss": 1.5})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "held-out loss 1.5" in captured.err


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
