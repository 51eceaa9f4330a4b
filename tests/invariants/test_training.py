"""Things that must not matter, held through `train` itself in float64."""

from __future__ import annotations

import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.data.batching import collate
from biddable.data.encoding import Example
from biddable.models.lora import LoRAKind, apply_lora, lora_layers, merge_lora
from biddable.models.loss import accumulate_gradient, batch_loss
from biddable.models.token_rows import train_token_rows
from biddable.training.trainer import train
from tests.tiny import in_exact_doubles, tiny_model
from tests.training.rows import questions_on_documents, random_examples

BATCH = 8


def trained(examples: list[Example], *, seed: int = 0, **settings: object) -> torch.nn.Module:
    model = tiny_model(dtype=torch.float64)
    config = TrainingConfig(epochs=2, batch_size=BATCH, learning_rate=1e-3, **settings)
    train(model, examples, settings=config, seed=seed)
    return model


def gradient(examples: list[Example], groups: list[list[int]]) -> list[torch.Tensor]:
    """Sum the gradient of micro-batches, divided once."""
    model = tiny_model(dtype=torch.float64)
    count = sum(sum(e.loss_mask) for e in examples)
    for rows in groups:
        loss_sum, _ = batch_loss(model, collate([examples[n] for n in rows]))
        (loss_sum / count).backward()
    return [p.grad for p in model.parameters()]


def assert_same(model: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, found), (_, expected) in zip(
        model.named_parameters(), other.named_parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, msg=name)


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    in_exact_doubles(monkeypatch)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("num_rows", [8, 21], ids=["whole steps", "a partial last step"])
@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, None])
def test_neither_micro_batches_nor_their_layout_change_anything(
    num_rows: int, micro_batch_size: int | None, layout: str
) -> None:
    examples = random_examples(num_rows)
    examples += [Example([*e.input_ids[:4], 9, 8], e.loss_mask[:4] + [True] * 2) for e in examples]
    one_by_one = trained(examples, micro_batch_size=1, layout="padded")
    other = trained(examples, micro_batch_size=micro_batch_size, layout=layout)
    assert_same(other, one_by_one)


@pytest.mark.usefixtures("_exact")
def test_rows_kept_together_have_the_gradients_of_their_padded_steps() -> None:
    examples = questions_on_documents(5, 3)
    padded = trained(examples, keep_together=True, layout="padded", micro_batch_size=1)
    assert_same(trained(examples, keep_together=True), padded)
    with pytest.raises(AssertionError):  # other steps
        assert_same(trained(examples), padded)


@pytest.mark.parametrize("kind", [LoRAKind(dora=True, rate_ratio=4.0), LoRAKind(init="pissa")])
@pytest.mark.parametrize("tie", [True, False])
def test_cutting_changes_nothing_for_adapters_and_rows_either(
    kind: LoRAKind, tie: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_exact_doubles(monkeypatch)
    models = []
    for micro_batch_size in (BATCH, 1, 3):
        torch.manual_seed(0)
        model = tiny_model(dtype=torch.float64, tie=tie)
        apply_lora(model, rank=2, kind=kind)
        train_token_rows(model, [3, 5, 8])
        config = TrainingConfig(
            epochs=2,
            batch_size=BATCH,
            micro_batch_size=micro_batch_size,
            learning_rate=1e-3,
            layout="padded" if micro_batch_size == 1 else "tree",
            gradient_checkpointing=micro_batch_size == 3,
        )
        train(model, random_examples(21), settings=config)
        models.append(model)
    assert_same(models[0], models[1])
    assert_same(models[0], models[2])


def test_gradients_are_equal_however_they_are_cut() -> None:
    examples = random_examples(8)
    whole = gradient(examples, [list(range(8))])
    for size in (1, 2, 4):
        groups = [list(range(n, n + size)) for n in range(0, 8, size)]
        torch.testing.assert_close(gradient(examples, groups), whole, rtol=0, atol=1e-10)


def test_the_order_of_rows_in_a_step_changes_nothing() -> None:
    examples = random_examples(8)
    groups = [[0, 1, 2, 3], [4, 5, 6, 7]]
    mixed = [[6, 0, 3, 5], [7, 2, 1, 4]]
    torch.testing.assert_close(
        gradient(examples, mixed), gradient(examples, groups), rtol=0, atol=1e-10
    )


def test_padding_by_any_id_changes_nothing() -> None:
    examples = random_examples(8)
    found = []
    for pad_id in (0, 7):
        model = tiny_model(dtype=torch.float64)
        accumulate_gradient(model, collate(examples, pad_id), num_loss_tokens=1)
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    def bits(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model = tiny_model()
        apply_lora(model, rank=2, dropout=0.2)
        config = TrainingConfig(epochs=2, batch_size=4, neftune_alpha=5.0)
        train(model, random_examples(10), settings=config, seed=seed)
        return [p.detach() for p in model.parameters() if p.requires_grad]

    first, second, other = bits(1), bits(1), bits(2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_fresh_adapter_is_the_base() -> None:
    ids = torch.arange(12)[None]
    model = tiny_model()
    expected = model(ids).logits
    apply_lora(model, rank=4, alpha=32.0)
    assert torch.equal(model(ids).logits, expected)


def test_merged_is_unmerged() -> None:
    ids = torch.arange(12)[None]
    model = tiny_model(dtype=torch.float64)
    apply_lora(model, rank=4)
    train(model, random_examples(8), settings=TrainingConfig(epochs=3, batch_size=4))
    assert any(layer.lora_B.abs().max() > 0 for layer in lora_layers(model).values())
    unmerged = model(ids).logits
    torch.testing.assert_close(merge_lora(model)(ids).logits, unmerged, rtol=0, atol=1e-10)
