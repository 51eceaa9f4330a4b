"""Thirty steps of the trainer on a tiny model, as losses that are stored.

A change of what is trained shows here, however small. After a wanted one, rewrite the file
(``UPDATE_GOLDEN=1 pytest tests/golden``) and say in the commit why the losses moved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.models.freezing import freeze_layers
from biddable.models.lora import apply_lora
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import random_examples

FILE = Path(__file__).parent / "loss_curve.json"
RATES = {"full": 3e-3, "freeze": 3e-3, "lora": 3e-2}


def losses(method: str) -> list[float]:
    model = tiny_model()
    if method == "freeze":
        freeze_layers(model, 1)
    elif method == "lora":
        torch.manual_seed(0)
        apply_lora(model, rank=4)
    settings = TrainingConfig(epochs=3, batch_size=8, learning_rate=RATES[method], weight_decay=0.1)
    log = train(model, random_examples(77), settings=settings, seed=1)
    return [record["loss"] for record in log.records]


@pytest.mark.parametrize("method", RATES)
def test_the_loss_curve_is_the_stored_one(method: str) -> None:
    found = losses(method)
    if "UPDATE_GOLDEN" in os.environ:
        stored = json.loads(FILE.read_text()) if FILE.exists() else {}
        stored[method] = [round(loss, 6) for loss in found]
        FILE.write_text(json.dumps(stored, indent=1) + "\n")
    expected = json.loads(FILE.read_text())[method]
    assert len(expected) == 30
    assert expected[-1] < expected[0] - 0.1
    assert found == pytest.approx(expected, abs=1e-4)
