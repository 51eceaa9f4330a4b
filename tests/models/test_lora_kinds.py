"""The kinds of adapters beside the plain one: formulas, starts, merges, files, for both layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from biddable.errors import ConfigError
from biddable.models.adapter import load_adapter, save_adapter
from biddable.models.lora import LoRAKind, LoRALinear, apply_lora, lora_layers, merge_lora
from tests.tiny import tiny_gpt2, tiny_model

KINDS = {
    "plain": LoRAKind(),
    "rslora": LoRAKind(rslora=True),
    "dora": LoRAKind(dora=True),
    "pissa": LoRAKind(init="pissa"),
    "all": LoRAKind(rslora=True, dora=True, init="pissa"),
}
BASES = {"linear": tiny_model, "conv1d": tiny_gpt2}
IDS = torch.tensor([[1, 2, 3, 4, 5]])

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
each_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def shaken(model: nn.Module) -> nn.Module:
    """Move everything that an adapter trains."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@each_kind
@each_base
def test_a_fresh_adapter_is_the_base(base, kind):
    expected = base(dtype=torch.float64)(IDS).logits
    model = base(dtype=torch.float64)
    apply_lora(model, rank=4, alpha=6.0, kind=kind)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-12)


@each_kind
@each_base
def test_merged_is_unmerged(base, kind):
    """Stated bound: 1e-5 of the logits' largest value, in float32."""
    model = base()
    names = apply_lora(model, rank=4, alpha=6.0, kind=kind)
    kinds = {name: type(base().get_submodule(name)) for name in names}
    unmerged = shaken(model)(IDS).logits
    assert (unmerged - base()(IDS).logits).abs().max() > 0.01
    merged = merge_lora(model)
    bound = 1e-5 * float(unmerged.detach().abs().max())
    torch.testing.assert_close(merged(IDS).logits, unmerged, rtol=0, atol=bound)
    assert {name: type(merged.get_submodule(name)) for name in names} == kinds
    assert set(merged.state_dict()) == set(base().state_dict())
    tied = merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert tied == (base is tiny_gpt2)


@each_kind
@each_base
def test_files_bring_it_back(tmp_path, base, kind):
    model = base(dtype=torch.float64)
    apply_lora(model, rank=4, alpha=6.0, kind=kind)
    expected = shaken(model)(IDS).logits
    save_adapter(model, tmp_path, base_model="base")
    again = base(dtype=torch.float64)
    load_adapter(again, tmp_path)
    torch.testing.assert_close(again(IDS).logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rslora", [False, True])
def test_the_scale(rslora):
    layer = LoRALinear.from_linear(nn.Linear(6, 4), rank=4, alpha=3.0, kind=LoRAKind(rslora=rslora))
    assert layer.scale == (1.5 if rslora else 0.75)


def test_dora_computes_its_formula_and_takes_the_lengths_for_constants():
    linear = nn.Linear(6, 4, dtype=torch.float64)
    layer = LoRALinear.from_linear(linear, rank=2, alpha=3.0, kind=LoRAKind(dora=True))
    shaken(layer)
    x = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    whole = linear.weight + 1.5 * (layer.lora_A @ layer.lora_B).T
    lengths = whole.norm(dim=1).detach()
    expected = x @ (layer.magnitude[:, None] * whole / lengths[:, None]).T + linear.bias
    torch.testing.assert_close(layer(x), expected)
    trained = [layer.magnitude, layer.lora_A, layer.lora_B, x]
    pull = torch.randn(5, 4, dtype=torch.float64)
    found = torch.autograd.grad((layer(x) * pull).sum(), trained)
    torch.testing.assert_close(found, torch.autograd.grad((expected * pull).sum(), trained))


def test_pissa_takes_the_largest_singular_directions_out_of_the_weight():
    linear = nn.Linear(40, 30, dtype=torch.float64)
    left, values, right = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    layer = LoRALinear.from_linear(linear, rank=3, alpha=6.0, kind=LoRAKind(init="pissa"))
    principal = left[:, :3] @ torch.diag(values[:3]) @ right[:3]
    adapter = layer.scale * (layer.lora_A @ layer.lora_B).T
    torch.testing.assert_close(adapter, principal, rtol=0, atol=1e-2)
    torch.testing.assert_close(layer.frozen_weight + adapter, linear.weight, rtol=0, atol=1e-13)
    # balanced: A and B have the same singular values
    sizes = [torch.linalg.svdvals(part.detach()) for part in (layer.lora_A, layer.lora_B)]
    torch.testing.assert_close(*sizes)


def test_pissa_is_saved_with_twice_the_rank_and_leaves_the_base_alone(tmp_path):
    model = tiny_model()
    before = {name: p.clone() for name, p in tiny_model().state_dict().items()}
    wrapped = tiny_model()
    weights = {name: p for name, p in wrapped.named_parameters()}
    apply_lora(wrapped, rank=4, kind=LoRAKind(init="pissa"))
    assert all(torch.equal(p, before[name]) for name, p in weights.items())
    save_adapter(wrapped, tmp_path, base_model="base")
    load_adapter(model, tmp_path)
    layer = next(iter(lora_layers(model).values()))
    assert (layer.rank, layer.scale, layer.start_A) == (8, 1.0, None)


def test_pissa_of_more_than_a_layer_has_is_refused():
    with pytest.raises(ConfigError, match=r"method\.rank: found 65; PiSSA .*64 by 64 has 64"):
        apply_lora(tiny_model(), rank=65, kind=LoRAKind(init="pissa"))


def test_gpt2_layers_share_their_weight_with_the_base():
    conv = Conv1D(6, 4)
    layer = LoRALinear.from_linear(conv, rank=2)
    assert layer.frozen_weight.shape == (6, 4)
    assert layer.frozen_weight.data_ptr() == conv.weight.data_ptr()
    x = torch.randn(3, 4)
    torch.testing.assert_close(layer(x), conv(x))
    assert apply_lora(tiny_gpt2(), target_modules=["c_attn"]) == [
        f"transformer.h.{n}.attn.c_attn" for n in range(2)
    ]


def test_the_first_step_of_a_large_rank_is_as_large_with_rslora():
    """What rsLoRA is for: the change of the output does not fade as the rank grows."""

    def change(rank: int, kind: LoRAKind) -> float:
        torch.manual_seed(0)
        layer = LoRALinear.from_linear(nn.Linear(64, 64), rank=rank, alpha=8.0, kind=kind)
        x = torch.randn(32, 64)
        before = layer(x).detach()
        layer(x).pow(2).sum().backward()
        with torch.no_grad():
            layer.lora_B.sub_(0.01 * layer.lora_B.grad.sign())  # as AdamW's first step
        return float((layer(x).detach() - before).norm())

    plain = change(64, KINDS["plain"]) / change(4, KINDS["plain"])
    stable = change(64, KINDS["rslora"]) / change(4, KINDS["rslora"])
    assert stable == pytest.approx(math.sqrt(16) * plain, rel=0.01)
    assert abs(math.log(stable)) < abs(math.log(plain))
