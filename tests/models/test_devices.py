"""A GPU is used where there is one, each process its own, and nowhere else is anything changed."""

from __future__ import annotations

import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError
from biddable.models.compiling import CompiledLayers
from biddable.models.devices import choose_device
from biddable.models.loading import load
from biddable.training.precision import is_mixed
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples


def gpus(monkeypatch: pytest.MonkeyPatch, number: int, *, rank: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    if rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", rank)


def test_the_first_gpu_is_used_and_without_one_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert choose_device() == torch.device("cpu")
    assert load("mimic").model.device.type == "cpu"
    gpus(monkeypatch, 2)
    assert choose_device() == torch.device("cuda", 0)


def test_each_process_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2, rank="1")
    assert choose_device() == torch.device("cuda", 1)
    gpus(monkeypatch, 2, rank="2")
    with pytest.raises(ConfigError, match="process 3 of this machine has no GPU of its own"):
        choose_device()
    gpus(monkeypatch, 0, rank="7")
    assert choose_device() == torch.device("cpu")


def test_a_device_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 1)
    assert load("mimic", device="cpu").model.device.type == "cpu"


def test_mixed_passes_are_refused_without_a_gpu_before_a_weight_moves() -> None:
    model = tiny_model()
    before = model.lm_head.weight.clone()
    settings = TrainingConfig(epochs=1, batch_size=2, precision="mixed")
    with pytest.raises(ConfigError, match=r'training.precision: "mixed" needs a GPU.* on cpu; '):
        train(model, random_examples(4), settings=settings)
    assert torch.equal(model.lm_head.weight, before)
    assert not is_mixed(model, TrainingConfig())


def test_layers_on_a_cpu_are_not_compiled() -> None:
    model = tiny_model()
    layers = CompiledLayers(model, is_asked_for=True)
    assert not layers.is_on
    with layers.applied():
        assert "forward" not in model.model.layers[0].__dict__


def test_a_compiler_that_fails_is_done_without() -> None:
    model = tiny_model()
    layers = CompiledLayers(model, is_asked_for=False)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C compiler\nwas found")

    for error, reason in (
        (fail, "RuntimeError: no C compiler"),
        (lambda: (_ for _ in ()).throw(torch.OutOfMemoryError()), ""),
    ):
        layers._compiled, layers.is_on = [(model.model.layers[0], fail)], True
        assert layers.try_out(error) == reason
        assert layers.is_on == (not reason)
        assert "forward" not in model.model.layers[0].__dict__
