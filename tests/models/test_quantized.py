"""A frozen base in few bits: the gradient is that of the widened weight, adapters stay plain."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError
from biddable.evaluation.answer_cache import hash_weights
from biddable.models.adapter import load_adapter, save_adapter
from biddable.models.generation import generate
from biddable.models.loading import load
from biddable.models.lora import (
    LoRAKind,
    LoRALinear,
    apply_lora,
    lora_layers,
    merge_lora,
    quantize_frozen,
)
from biddable.models.quantized import (
    QuantizedLinear,
    frozen_linear,
    is_small,
    plain_parts,
    quantize_linears,
    quantize_weight,
    wide,
)
from biddable.training.optimizer import choose_learning_rate
from biddable.training.trainer import train
from tests.tiny import tiny_gpt2, tiny_model, tiny_tokenizer
from tests.training.rows import random_examples

IDS = torch.arange(20)[None]


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[quant\]'"):
        quantize_weight(torch.randn(64, 64), "int8")


def test_an_ordinary_weight_is_itself():
    weight = nn.Parameter(torch.randn(4, 6))
    assert wide(weight) is weight
    x, bias = torch.randn(3, 6), torch.randn(4)
    assert torch.equal(frozen_linear(x, weight, bias), nn.functional.linear(x, weight, bias))


def test_a_model_without_linear_layers_cannot_be_made_small():
    with pytest.raises(ConfigError, match="--quantize: GPT2LMHeadModel has no linear layers"):
        quantize_linears(tiny_gpt2(), "int8")


class TestWithTorchao:
    """What needs the package."""

    @pytest.fixture(autouse=True)
    def _has_it(self):
        pytest.importorskip("torchao")

    @pytest.mark.parametrize(("kind", "bound"), [("int8", 0.01), ("int4", 0.12)])
    def test_the_weight_is_near_and_the_gradient_is_that_of_what_it_stands_for(self, kind, bound):
        weight = torch.randn(128, 64)
        small = quantize_weight(weight, kind)
        assert small.shape == (128, 64)
        assert not small.requires_grad
        assert float((wide(small) - weight).norm() / weight.norm()) < bound
        x = torch.randn(5, 64, requires_grad=True)
        bias = torch.randn(128)
        expected = nn.functional.linear(x, wide(small), bias)
        pull = torch.randn(5, 128)
        (slope,) = torch.autograd.grad((expected * pull).sum(), x)
        found = frozen_linear(x, small, bias)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad((found * pull).sum(), x)[0], slope)

    def test_no_wide_weight_is_kept_for_the_gradient(self):
        kept = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.shape) or tensor, lambda tensor: tensor
        )
        small = quantize_weight(torch.randn(128, 64), "int4")
        with hooks:
            frozen_linear(torch.randn(5, 64, requires_grad=True), small)
        assert (128, 64) not in kept

    @pytest.mark.parametrize("quantized", ["int8", "int4"])
    @pytest.mark.parametrize("base", [tiny_model, tiny_gpt2])
    @pytest.mark.parametrize(
        "kind", [LoRAKind(), LoRAKind(dora=True), LoRAKind(init="pissa")], ids=str
    )
    def test_training_moves_only_the_adapter_and_merged_is_unmerged(self, base, kind, quantized):
        model = base()
        apply_lora(model, rank=4, kind=kind)
        expected_rate = choose_learning_rate(model, "lora")
        num_small = quantize_frozen(model, quantized)
        assert num_small == len(lora_layers(model)) > 7
        assert choose_learning_rate(model, "lora") == expected_rate
        before = {n: wide(layer.frozen_weight) for n, layer in lora_layers(model).items()}
        settings = TrainingConfig(epochs=3, batch_size=4)
        log = train(model, random_examples(8), settings=settings)
        assert log.records[-1]["loss"] < log.records[0]["loss"]
        for name, layer in lora_layers(model).items():
            assert torch.equal(wide(layer.frozen_weight), before[name])
            assert layer.lora_A.dtype == torch.float32
        unmerged = model(IDS).logits.detach()
        merged = merge_lora(model)
        bound = 1e-5 * float(unmerged.abs().max())
        torch.testing.assert_close(merged(IDS).logits, unmerged, rtol=0, atol=bound)

    def test_a_fresh_adapter_is_the_small_base(self):
        for kind in (LoRAKind(), LoRAKind(dora=True)):
            model = tiny_model()
            apply_lora(model, rank=4, kind=kind)
            quantize_frozen(model, "int4")
            plain = tiny_model()
            for name, layer in lora_layers(model).items():
                linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
                linear.weight = nn.Parameter(wide(layer.frozen_weight))
                plain.set_submodule(name, linear)
            torch.testing.assert_close(model(IDS).logits, plain(IDS).logits, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("kind", ["int8", "int4"])
    def test_a_base_never_lies_whole_where_it_goes(self, kind, monkeypatch):
        model, made = tiny_model(), []
        apply_lora(model, rank=2, target_modules=["q_proj"], kind=LoRAKind(dora=True))

        def quantize(weight, kind):
            frozen = [p for p in model.parameters() if not p.requires_grad and not is_small(p)]
            made.append(sum(p.numel() for p in frozen if p.device.type == "meta"))
            assert made[-1] <= weight.numel()
            return quantize_weight(weight, kind)

        for module in ("lora", "quantized"):
            monkeypatch.setattr(f"biddable.models.{module}.quantize_weight", quantize)
        quantize_frozen(model, kind, device="meta")
        assert len(made) == 14
        assert max(made) > 0
        tensors = [*model.parameters(), *model.buffers()]
        assert {t.device.type for tensor in tensors for t in plain_parts(tensor)} == {"meta"}

    def test_layers_without_an_adapter_are_small_too_and_the_file_is_plain(self, tmp_path):
        model = tiny_model()
        apply_lora(model, rank=2, target_modules=["q_proj"])
        assert quantize_frozen(model, "int8") == 14
        kinds = [type(m) for m in model.modules()]
        assert (kinds.count(QuantizedLinear), kinds.count(LoRALinear)) == (12, 2)
        assert kinds.count(nn.Linear) == 1  # the head
        save_adapter(model, tmp_path, base_model="base")
        assert len(load_adapter(tiny_model(), tmp_path)) == 2

    def test_a_loaded_model_in_8_bits_answers_nearly_the_same_and_says_what_it_is(self, tmp_path):
        wide_model = tiny_model(num_layers=3)
        wide_model.save_pretrained(tmp_path)
        tiny_tokenizer().save_pretrained(tmp_path)
        loaded = load(str(tmp_path), quantize="int8")
        assert loaded.name == f"{tmp_path} in int8"
        linears = {n: m for n, m in loaded.model.named_modules() if isinstance(m, nn.Linear)}
        small = {name for name, linear in linears.items() if is_small(linear.weight)}
        assert set(linears) - small == {"lm_head"}
        assert not any(linears[name].weight.requires_grad for name in small)
        with torch.no_grad():
            found, expected = loaded.model(IDS).logits, wide_model(IDS).logits
        assert 0 < float((found - expected).norm() / expected.norm()) < 0.02
        (answer,) = generate(loaded.model, [[5, 6]], stop_ids=[], max_new_tokens=3)
        assert len(answer.ids) == 3
        smallest = load(str(tmp_path), quantize="int4").model
        hashes = [hash_weights(m, facts={}) for m in (wide_model, loaded.model, smallest)]
        assert len(set(hashes)) == 3  # so that none is given another's kept answers

    def test_a_weight_that_is_no_multiple_of_the_block_is_refused(self):
        with pytest.raises(ConfigError, match="blocks of 64 numbers, and one of 30 by 50"):
            quantize_weight(torch.randn(50, 30), "int4")
