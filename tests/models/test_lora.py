import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from biddable.errors import CheckpointError, ConfigError
from biddable.models.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, load_adapter, save_adapter
from biddable.models.lora import LoRALinear, apply_lora, lora_layers, merge_lora
from tests.tiny import tiny_model


def shaken(model):
    """Give every adapter a B that is not zero."""
    for layer in lora_layers(model).values():
        nn.init.normal_(layer.lora_B, std=0.2)
    return model


def test_computes_the_formula():
    layer = LoRALinear(6, 4, rank=2, alpha=3.0, bias=True).double()
    nn.init.normal_(layer.lora_B)
    nn.init.normal_(layer.frozen_bias)
    x = torch.randn(5, 6, dtype=torch.float64)
    expected = x @ layer.frozen_weight.T + layer.frozen_bias
    expected = expected + 1.5 * (x @ layer.lora_A) @ layer.lora_B
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merge()(x), expected)
    assert layer.lora_A.shape == (6, 2)
    assert layer.lora_B.shape == (2, 4)
    assert layer.frozen_weight.shape == (4, 6)


def test_defaults_are_scale_one_and_a_frozen_weight():
    layer = LoRALinear(6, 4)
    assert (layer.rank, layer.scale) == (8, 1.0)
    trained = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    assert "rank=8" in repr(layer)


@pytest.mark.parametrize("bias", [True, False])
def test_wraps_a_linear_without_copying_its_weight(bias):
    linear = nn.Linear(6, 4, bias=bias, dtype=torch.float64)
    layer = LoRALinear.from_linear(linear, rank=2, dropout=0.5)
    x = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(layer.eval()(x), linear(x), rtol=0, atol=0)
    assert layer.frozen_weight.data_ptr() == linear.weight.data_ptr()
    assert layer.lora_A.dtype == torch.float64
    assert layer.dropout.p == 0.5
    assert (layer.frozen_bias is not None) == bias
    assert not any(p.is_meta for p in layer.parameters())


def test_rank_zero_is_refused():
    with pytest.raises(ConfigError, match="rank: found 0"):
        LoRALinear(4, 4, rank=0)


def test_all_linear_leaves_out_the_head_and_freezes_the_rest():
    model = tiny_model()
    names = apply_lora(model, rank=4)
    assert len(names) == 14
    assert "lm_head" not in names
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"{name}.lora_{letter}" for name in names for letter in "AB"}


def test_targets_by_name():
    assert apply_lora(tiny_model(), target_modules=["q_proj", "layers.1.mlp.up_proj"]) == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.up_proj",
    ]


@pytest.mark.parametrize("targets", [["layers.1"], ["*.1.mlp.*", "layers.1.self_attn"]])
def test_targets_by_the_module_around_them_or_a_pattern(targets):
    names = apply_lora(tiny_model(), target_modules=targets)
    assert len(names) == 7
    assert all(name.startswith("model.layers.1.") for name in names)


def test_unknown_target_suggests_the_nearest():
    with pytest.raises(ConfigError, match=r'no linear layer is called "q_prj".*mean "q_proj"'):
        apply_lora(tiny_model(), target_modules=["q_prj"])


def test_twice_is_refused():
    model = tiny_model()
    apply_lora(model)
    with pytest.raises(ConfigError, match="already has adapters"):
        apply_lora(model)


def test_a_model_without_linear_layers_is_refused():
    model = tiny_model()
    model.model.layers = nn.ModuleList()
    with pytest.raises(ConfigError, match="nothing to adapt"):
        apply_lora(model)


@pytest.mark.parametrize("targets", ["all-linear", ["layers.1.mlp.up_proj"]])
def test_file_round_trip(tmp_path, targets):
    model = tiny_model()
    names = apply_lora(model, rank=4, alpha=6.0, dropout=0.1, target_modules=targets)
    shaken(model)
    save_adapter(model, tmp_path / "a", base_model="mimic")
    again = tiny_model()
    assert load_adapter(again, tmp_path / "a") == sorted(names)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=0, atol=0)
    layer = lora_layers(again)[names[0]]
    assert (layer.alpha, layer.rank, layer.dropout.p) == (6.0, 4, 0.1)


def test_files_hold_transposed_weights_and_peft_names(tmp_path):
    model = tiny_model()
    apply_lora(model, rank=4)
    save_adapter(model, tmp_path, base_model="mimic")
    weights = load_file(tmp_path / ADAPTER_WEIGHTS)
    key = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    assert weights[key].shape == (4, 64)
    assert weights[key.replace("lora_A", "lora_B")].shape == (128, 4)
    config = json.loads((tmp_path / ADAPTER_CONFIG).read_text())
    assert config["base_model_name_or_path"] == "mimic"
    assert config["target_modules"] == sorted(
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


def test_saving_a_plain_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no adapters to save"):
        save_adapter(tiny_model(), tmp_path, base_model="mimic")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"use_dora": True}, r"q_proj.lora_magnitude_vector should be \(64,\), found None"),
        ({"init_lora_weights": "pissa"}, "belongs to a changed base"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern is"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 3}, r"lora_A should be \(3, 64\), found \(8, 64\)"),
    ],
)
def test_foreign_adapters_are_refused(tmp_path, change, message):
    model = tiny_model()
    apply_lora(model)
    save_adapter(model, tmp_path, base_model="mimic")
    path = tmp_path / ADAPTER_CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_adapter(tiny_model(), tmp_path)


def test_an_adapter_of_another_model_is_refused(tmp_path):
    model = tiny_model(num_layers=3)
    apply_lora(model)
    save_adapter(model, tmp_path, base_model="mimic")
    with pytest.raises(CheckpointError, match="the base model has no linear layer"):
        load_adapter(tiny_model(), tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=ADAPTER_CONFIG):
        load_adapter(tiny_model(), tmp_path)


def test_merging_leaves_a_plain_model():
    model = tiny_model()
    kinds = [type(m) for m in model.modules()]
    apply_lora(model)
    merge_lora(model)
    assert [type(m) for m in model.modules()] == kinds
    assert set(model.state_dict()) == set(tiny_model().state_dict())


def test_the_size_of_a_base_does_not_grow_with_the_rank():
    from biddable.models.adapter import num_base_parameters
    from biddable.models.token_rows import train_token_rows

    plain = sum(p.numel() for p in tiny_model().parameters())
    for rank in (2, 16):
        model = tiny_model()
        apply_lora(model, rank=rank)
        train_token_rows(model, [3, 5])
        assert num_base_parameters(model) == plain
        assert sum(p.numel() for p in model.parameters()) > plain
