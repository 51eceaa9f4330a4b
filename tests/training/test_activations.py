"""Frozen lower layers are run once, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.models.freezing import decoder_layers, freeze_layers
from biddable.models.lora import apply_lora
from biddable.models.lower_layers import num_constant_layers
from biddable.training import activations as activations_module
from biddable.training.activations import open_activations, planned_activations
from biddable.training.trainer import train
from tests.models.test_attention import EXACT, build, rows_with_common_starts
from tests.models.test_rope import DEPENDENT, switching_model
from tests.tiny import in_exact_doubles, tiny_model
from tests.training.rows import random_examples

FROZEN = 2


def trained(model: Any, *, limit_gb: float, **settings: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    config = TrainingConfig(
        epochs=3, batch_size=4, learning_rate=1e-3, activation_cache_gb=limit_gb, **settings
    )
    train(model, rows_with_common_starts(), settings=config, on_event=events.append)
    return events


def said(events: list[dict[str, Any]]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "activations"]


def count_calls(module: nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_hook(lambda module, *_: calls.append(1) if module.training else None)
    return calls


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("name", EXACT)
def test_the_trained_weights_are_the_same(
    name: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(build(name, EXACT[name]).double())
        freeze_layers(models[-1], FROZEN)
    in_exact_doubles(monkeypatch)
    plain, kept = models
    runs = [count_calls(next(decoder_layers(model)[0].children())) for model in models]
    assert said(trained(plain, limit_gb=0.0, layout=layout)) == []
    assert len(said(trained(kept, limit_gb=1.0, layout=layout))) == 1
    # one of the seven measures what a token takes; the two are for finding the cut
    assert [len(calls) for calls in runs] == [7, 2]
    for (key, expected), found in zip(plain.named_parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, msg=key)


def test_adapters_above_the_cut_start_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    models = []
    for _ in range(2):
        model = tiny_model(dtype=torch.float64, num_layers=3)
        upper = [f"layers.2.mlp.{name}_proj" for name in ("up", "down")]
        torch.manual_seed(0)
        apply_lora(model, rank=2, dropout=0.5, target_modules=upper)
        models.append(model)
    in_exact_doubles(monkeypatch)
    for model, limit_gb in zip(models, (0.0, 1.0), strict=True):
        events = trained(model, limit_gb=limit_gb)
        assert len(said(events)) == int(limit_gb)
    for expected, found in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def noisy_embeddings(model: Any) -> None:
    model.model.embed_tokens.register_forward_hook(
        lambda module, given, out: out + torch.rand_like(out) if module.training else None
    )


def dropout_in_layer(model: Any, number: int, share: float = 0.5) -> None:
    layer = model.model.layers[number]
    layer.mlp = nn.Sequential(layer.mlp, nn.Dropout(share))


def opt(**settings: Any) -> Any:
    sizes = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "num_hidden_layers": 4}
    model = build("opt", {**sizes, "num_attention_heads": 4, "vocab_size": 300, **settings})
    freeze_layers(model, 3)
    return model


@pytest.mark.parametrize(
    ("change", "num_layers"),
    [
        (lambda model: freeze_layers(model, 2), 2),
        (lambda model: freeze_layers(model, 0), 0),
        (lambda model: None, 0),
        (lambda model: apply_lora(model, rank=2), 0),
        (lambda model: (freeze_layers(model, 2), noisy_embeddings(model)), 0),
        (lambda model: (freeze_layers(model, 2), dropout_in_layer(model, 1)), 1),
        (lambda model: (freeze_layers(model, 2), dropout_in_layer(model, 1, 1e-6)), 1),
        (lambda model: (freeze_layers(model, 2), dropout_in_layer(model, 2)), 2),
    ],
    ids=[
        "frozen",
        "embeddings only",
        "full",
        "adapters below",
        "noise",
        "dropout in the second",
        "dropout that seldom shows",
        "dropout above",
    ],
)
def test_layers_are_skipped_as_far_as_they_never_change(change: Any, num_layers: int) -> None:
    model = tiny_model(num_layers=3)
    change(model)
    state = torch.get_rng_state()
    assert num_constant_layers(model) == num_layers
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_that_seldom_are_left_out_change() -> None:
    assert num_constant_layers(opt(dropout=0.0)) == 3
    assert num_constant_layers(opt(dropout=0.0, layerdrop=1e-6)) == 0


@pytest.mark.parametrize(
    ("change", "settings", "told"),
    [
        (lambda model: dropout_in_layer(model, 0, 1e-6), {}, "not kept: dropout of 1e-06 in model"),
        (lambda model: dropout_in_layer(model, 1, 1e-6), {}, "below layer 2 are run once and kept"),
        (lambda model: dropout_in_layer(model, 1, 1e-6), {}, "no more of them: dropout of 1e-06"),
        (lambda model: None, {"neftune_alpha": 5.0}, "not kept: NEFTune's noise of 5"),
    ],
)
def test_a_run_says_what_keeps_states_from_being_kept(
    change: Any, settings: dict[str, Any], told: str
) -> None:
    model = frozen_model()
    change(model)
    (text,) = said(trained(model, limit_gb=1.0, **settings))
    assert told in text
    rows = EncodedRows.of(random_examples(8))
    config = TrainingConfig(**settings)
    kept, _ = planned_activations(model, rows, settings=config, num_epochs=2)
    assert (kept is None) == ("not kept" in told)  # a plan says the same


def test_noise_in_layers_that_train_is_not_told() -> None:
    model = tiny_model(num_layers=3)
    dropout_in_layer(model, 0)
    assert said(trained(model, limit_gb=1.0)) == []


@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_that_are_turned_otherwise_are_kept_apart(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_exact_doubles(monkeypatch)
    weights = []
    for limit_gb, settings in (
        (0.0, {"layout": "padded", "micro_batch_size": 1}),
        (1.0, {"layout": "tree"}),
        (1.0, {"layout": "padded", "micro_batch_size": 3}),
    ):
        model = switching_model(name)
        freeze_layers(model, FROZEN)
        events = trained(model, limit_gb=limit_gb, **settings)
        assert len(said(events)) == int(limit_gb)
        notes = [event["text"] for event in events if event["event"] == "note"]
        assert [note for note in notes if "of up to 16 tokens share no pass" in note]
        weights.append(dict(model.named_parameters()))
    for found in weights[1:]:
        for key, expected in weights[0].items():
            torch.testing.assert_close(found[key], expected, rtol=0, atol=1e-10, msg=key)


def frozen_model() -> Any:
    model = tiny_model(num_layers=3)
    freeze_layers(model, FROZEN)
    return model


def test_what_is_too_large_or_cannot_be_written_is_run_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = EncodedRows.of(random_examples(8))
    kept, why = open_activations(frozen_model(), rows, num_epochs=2, limit_gb=1e-6)
    assert kept is None
    assert "over the 1e-06 GB allowed: run each epoch" in why

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(activations_module.os, "posix_fallocate", refuse)
    kept, why = open_activations(frozen_model(), rows, num_epochs=2, limit_gb=1.0)
    assert kept is None
    assert "No space left on device" in why


def test_nothing_is_left_on_the_disk_and_one_epoch_keeps_nothing(tmp_path: Path) -> None:
    rows = EncodedRows.of(random_examples(8))
    assert open_activations(frozen_model(), rows, num_epochs=1, limit_gb=1.0) == (None, "")
    kept, why = open_activations(frozen_model(), rows, num_epochs=2, limit_gb=1.0)
    assert kept is not None
    assert "below layer 3 are run once" in why
    assert [path for path in tmp_path.rglob("*activations-*")] == []


def test_rows_that_share_a_start_share_its_state() -> None:
    rows = EncodedRows.of([Example([1, 2, 3, n], [False] * 3 + [True]) for n in (4, 5)])
    kept, _ = open_activations(frozen_model(), rows, num_epochs=2, limit_gb=1.0)
    assert kept is not None
    assert kept.num_bytes == 5 * 64 * 4
