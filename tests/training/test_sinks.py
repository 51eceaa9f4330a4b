import builtins
import sys
import types

import pytest

from biddable.config import parse_config
from biddable.config_training import TrainingConfig
from biddable.config_watch import WatchConfig
from biddable.errors import ConfigError
from biddable.training import sinks
from biddable.training.finetune import run_training
from biddable.training.sinks import reporting
from biddable.training.trainer import train
from biddable.training.venue import Venue
from tests.tiny import tiny_model
from tests.training.rows import random_examples

CONFIG = {"model": "tiny", "training": {"epochs": 2}}


def run(tmp_path, *names, epochs=2, listen=lambda event: None):
    def samples(step, ends_epoch):
        answer = {"event": "sample", "step": step, "prompt": "Say a", "answer": f"a{step}"}
        return [answer | {"num_tokens": 1, "stopped": True}] if ends_epoch else []

    settings, examples = WatchConfig(report_to=names), random_examples(4)
    with reporting(settings, tmp_path / "runs" / "a", config=CONFIG, on_event=listen) as tell:
        return train(
            tiny_model(),
            examples,
            settings=TrainingConfig(epochs=epochs, batch_size=2),
            held_out=examples,
            on_event=tell,
            venue=Venue(samples=samples),
        )


def read_back(folder):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_what_the_log_holds(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    log = run(tmp_path, "tensorboard")
    found = read_back(tmp_path / "runs" / "tensorboard" / "a")
    steps = [r for r in log.records if r["event"] == "step"]
    for name, key in {"train/loss": "loss", "train/learning_rate": "lr"}.items():
        points = [(point.step, point.value) for point in found.Scalars(name)]
        assert [step for step, _ in points] == [1, 2, 3, 4]
        assert [value for _, value in points] == pytest.approx([r[key] for r in steps])
    held_out = [(point.step, point.value) for point in found.Scalars("held_out/loss")]
    assert [step for step, _ in held_out] == [0, 2, 4]
    assert [value for _, value in held_out] == pytest.approx(log.held_out_losses)
    assert all(point.value > 0 for point in found.Scalars("speed/tokens_per_second"))
    texts = found.Tensors("sample/Say a/text_summary")
    assert b"a4" in texts[-1].tensor_proto.string_val[0]
    settings = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert b"training.epochs: 2" in settings


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_made_anew_hides_the_older_one_of_its_name(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    run(tmp_path, "tensorboard", epochs=3)
    run(tmp_path, "tensorboard", epochs=1)
    found = read_back(tmp_path / "runs" / "tensorboard" / "a")
    assert [point.step for point in found.Scalars("train/loss")] == [1, 2]


class StandIn:
    """As much of W&B as we use: rows may only be sent in the order of their steps."""

    def __init__(self):
        self.rows, self.opened, self.finished = [], None, False
        self.module = types.ModuleType("wandb")
        self.module.init = self.init

    def init(self, **settings):
        self.opened = settings
        return self

    def log(self, row, *, step):
        assert not self.rows or step > self.rows[-1][0]
        self.rows.append((step, dict(row)))

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in.module)
    return stand_in


def test_wandb_is_sent_a_row_for_each_step(tmp_path, wandb):
    log = run(tmp_path, "wandb")
    assert wandb.opened == {"project": "biddable", "name": "a", "config": CONFIG}
    assert [step for step, _ in wandb.rows] == [0, 1, 2, 3, 4]
    assert set(wandb.rows[0][1]) == {"held_out/loss", "sample/Say a"}
    last = wandb.rows[-1][1]
    steps = [r for r in log.records if r["event"] == "step"]
    assert last["train/loss"] == steps[-1]["loss"]
    assert last["held_out/loss"] == log.held_out_losses[-1]
    assert last["sample/Say a"] == "a4"
    assert wandb.finished


def test_the_users_own_project_is_kept(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    run(tmp_path, "wandb")
    assert wandb.opened["project"] == "mine"


def test_a_sink_that_fails_on_the_way_costs_no_run(tmp_path, wandb):
    def fail(row, *, step):
        raise OSError("no space left")

    wandb.log = fail
    events = []
    log = run(tmp_path, "wandb", listen=events.append)
    assert log.num_steps == 4
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes == ["wandb failed and is given no more: OSError: no space left"]


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_a_missing_package_is_said_before_anything_is_read(name, module, monkeypatch):
    real = builtins.__import__

    def missing(wanted, *args, **kwargs):
        if wanted == module:
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(wanted, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    values = {"model": "nowhere", "data": "nothing.jsonl", "output": "run"}
    with pytest.raises(ConfigError, match=rf"pip install -c constraints.txt -e '.\[{name}\]'"):
        run_training(parse_config(values | {"watch": {"report_to": name}}))


def test_a_sink_that_cannot_start_is_said(tmp_path, wandb):
    def refuse(**settings):
        raise RuntimeError("no API key")

    wandb.module.init = refuse
    with pytest.raises(ConfigError, match="wandb cannot start: RuntimeError: no API key"):
        run(tmp_path, "wandb")


def test_an_unknown_sink_is_refused():
    values = {"model": "m", "data": "d", "output": "o", "watch": {"report_to": ["tensorbord"]}}
    with pytest.raises(ConfigError, match=r"watch\.report_to.*did you mean \"tensorboard\""):
        parse_config(values)
    assert set(sinks.SINKS) == {"tensorboard", "wandb"}
