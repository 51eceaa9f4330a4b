import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.data.encoding import Example
from biddable.errors import ConfigError
from biddable.models.freezing import freeze_layers
from biddable.models.lora import apply_lora
from biddable.models.recompute import recomputed_activations
from biddable.training.trainer import train
from tests.tiny import tiny_gpt2, tiny_model
from tests.training.rows import random_examples

IDS = torch.arange(40)[None]


def plain_lora(model):
    apply_lora(model, rank=2)
    return model


def lora(model):
    apply_lora(model, rank=2, dropout=0.3)
    return model


def frozen(model):
    freeze_layers(model, 1)
    return model


START = list(range(9))
SHARED = [Example(START + e.input_ids, [False] * 9 + e.loss_mask) for e in random_examples(8)]


@pytest.mark.parametrize("rows", [random_examples(8), SHARED], ids=["apart", "one start"])
@pytest.mark.parametrize("base", [tiny_model, tiny_gpt2])
@pytest.mark.parametrize("settle", [lambda model: model, plain_lora, lora, frozen])
def test_training_comes_to_the_same_bits(base, settle, rows):
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = settle(base())
        settings = TrainingConfig(
            epochs=2, batch_size=4, micro_batch_size=2, gradient_checkpointing=enabled
        )
        train(model, rows, settings=settings)
        assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
        found.append(dict(model.named_parameters()))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_less_is_kept_for_the_gradient():
    def kept(enabled):
        model = tiny_model(num_layers=4).train()
        sizes = {}

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with recomputed_activations(model, enabled=enabled), hooks:
            model.model(IDS, use_cache=False)
        weights = {p.data_ptr() for p in model.parameters()}
        return sum(size for place, size in sizes.items() if place not in weights)

    assert kept(True) < 0.5 * kept(False)


def test_frozen_layers_are_not_computed_again():
    model = tiny_model(num_layers=4).train()
    freeze_layers(model, 3)
    calls = []
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(lambda *_, number=number: calls.append(number))
    with recomputed_activations(model):
        model(IDS, use_cache=False).logits.sum().backward()
    assert calls == [0, 1, 2, 3, 3]


def test_a_model_that_cannot_is_refused():
    with (
        pytest.raises(ConfigError, match=r"gradient_checkpointing: Linear cannot do it"),
        recomputed_activations(torch.nn.Linear(2, 2)),
    ):
        pass
