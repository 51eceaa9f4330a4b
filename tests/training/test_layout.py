"""How rows are laid out, and how many ids a pass has."""

from __future__ import annotations

from typing import Literal, get_args

import pytest
import torch
from transformers import PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.data.batching import collate
from biddable.models.freezing import freeze_layers
from biddable.models.head import Body
from biddable.models.lora import apply_lora
from biddable.training.layout import Layout
from biddable.training.trainer import train
from tests.models.test_head import Elsewhere, ReadsIds, made_up, whole_loss
from tests.tiny import in_exact_doubles, tiny_model, tiny_opt
from tests.training.rows import random_examples

Rows = Literal["tree", "padded"]


def test_a_pass_has_more_ids_where_lower_layers_keep_nothing() -> None:
    settings = TrainingConfig()
    whole = Layout.choose(tiny_model(), settings).max_tokens
    half, adapted = tiny_model(), tiny_model()
    freeze_layers(half, 1)  # of two
    apply_lora(adapted, rank=2)
    assert Layout.choose(half, settings).max_tokens == 2 * whole
    assert Layout.choose(adapted, settings).max_tokens == whole


def test_a_model_with_its_layers_in_no_list_has_the_usual_passes() -> None:
    model = tiny_model()
    model.config.num_hidden_layers = 7
    assert Layout.choose(model, TrainingConfig(layout="padded")).max_tokens > 0


@pytest.mark.parametrize("rows_are", get_args(Rows))
@pytest.mark.parametrize("kind", ["opt", "reads ids"])
def test_a_run_learns_by_the_models_own_loss_and_says_if_it_is_whole(
    kind: str, rows_are: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_exact_doubles(monkeypatch)
    model: PreTrainedModel = tiny_opt(dtype=torch.float64) if kind == "opt" else made_up(ReadsIds)
    rows, events = random_examples(8), []
    batch = collate(rows)
    num_loss_tokens = sum(sum(row.loss_mask[1:]) for row in rows)
    before = whole_loss(model, batch)[0] / num_loss_tokens
    settings = TrainingConfig(epochs=2, batch_size=8, layout=rows_are)
    log = train(model, rows, settings=settings, held_out=rows, on_event=events.append)
    after = whole_loss(model, batch)[0] / num_loss_tokens
    losses = [record["loss"] for record in log.records if record["event"] == "step"]
    assert losses[0] == pytest.approx(before, abs=1e-10)
    assert log.held_out_losses[0] == pytest.approx(before, abs=1e-10)
    assert log.held_out_losses[-1] == pytest.approx(after, abs=1e-10)
    assert events[0]["is_tree"] == (rows_are == "tree")
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert len(notes) == (kind == "reads ids")
    assert all(note.startswith("ReadsIds is run whole, its head at all pl") for note in notes)


def test_why_a_model_is_run_whole_stays_with_its_layout() -> None:
    model = made_up(Elsewhere)
    for rows_are in get_args(Rows):
        layout = Layout.choose(model, TrainingConfig(layout=rows_are))
        assert layout.note == Body(model).why_whole != ""
    assert Layout.choose(tiny_model(), TrainingConfig()).note == ""
