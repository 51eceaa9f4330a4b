"""How rows are laid out, and how many ids a pass has."""

from __future__ import annotations

from biddable.config_training import TrainingConfig
from biddable.models.freezing import freeze_layers
from biddable.models.lora import apply_lora
from biddable.training.layout import Layout
from tests.tiny import tiny_model


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
