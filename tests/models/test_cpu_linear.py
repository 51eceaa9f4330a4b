"""Products by oneDNN: the same numbers within rounding, and layers that are left as they were."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from biddable.models import cpu_linear
from biddable.models.cpu_linear import fast_linears
from biddable.models.lora import apply_lora
from tests.tiny import tiny_model

needs_kernel = pytest.mark.skipif(not cpu_linear.has_kernel(), reason="torch has no oneDNN here")


def layers():
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(48, 80), nn.Linear(80, 16, bias=False), Conv1D(24, 16)])


@needs_kernel
@pytest.mark.parametrize("most_blocked", [0, 1 << 30])
@torch.no_grad()
def test_the_product_is_the_same_within_rounding(monkeypatch, most_blocked):
    monkeypatch.setattr(cpu_linear, "_MOST_BLOCKED", most_blocked)
    model = layers()
    for shape in [(48,), (1, 48), (70, 48), (2, 5, 48)]:
        x = torch.randn(shape)
        expected = model[2](model[1](model[0](x)))
        with fast_linears(model):
            found = model[2](model[1](model[0](x)))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_kernel
@torch.no_grad()
def test_the_kernel_is_used_inside_and_nowhere_else():
    model = layers()
    with torch.profiler.profile() as profile:
        model[0](torch.randn(3, 48))
        with fast_linears(model):
            model[0](torch.randn(3, 48))
        model[0](torch.randn(3, 48))
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["mkldnn::_linear_pointwise"] == 1
    assert calls["aten::linear"] == 2
    assert not any("forward" in layer.__dict__ for layer in model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_as_they_are(dtype):
    model = layers().to(dtype)
    with fast_linears(model):
        assert not any("forward" in layer.__dict__ for layer in model)


def test_a_layer_that_does_more_is_left_as_it_is():
    model = tiny_model()
    apply_lora(model, rank=2, target_modules=["q_proj"])
    adapted = model.model.layers[0].self_attn.q_proj
    with fast_linears(model):
        assert "forward" not in adapted.__dict__


@needs_kernel
def test_a_weight_changed_between_two_uses_is_seen():
    layer, x = nn.Linear(8, 8), torch.randn(2, 8)
    for _ in range(2):
        with torch.no_grad():
            layer.weight.mul_(2)
            with fast_linears(layer):
                found = layer(x)
            torch.testing.assert_close(found, layer(x))


def test_layers_are_given_back_after_an_error():
    model = layers()
    with pytest.raises(ZeroDivisionError), fast_linears(model):
        raise ZeroDivisionError
    assert not any("forward" in layer.__dict__ for layer in model)
