import logging

import pytest
from torch import nn
from transformers import BartConfig, BartForCausalLM, GPT2Config, GPT2LMHeadModel

from biddable.errors import ConfigError
from biddable.models.freezing import decoder_layers, freeze_layers, freeze_named
from tests.tiny import tiny_model


def trained_names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_freezes_embeddings_and_lower_layers():
    model = tiny_model()
    count = freeze_layers(model, 1)
    names = trained_names(model)
    assert {name.split(".")[2] for name in names if ".layers." in name} == {"1"}
    assert {"model.norm.weight", "lm_head.weight"} <= names
    assert "model.embed_tokens.weight" not in names
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_tied_head_stays_frozen_and_says_so(caplog):
    model = tiny_model(tie=True)
    with caplog.at_level(logging.INFO):
        freeze_layers(model, 0)
    assert not model.lm_head.weight.requires_grad
    assert "shares its weight" in caplog.text


@pytest.mark.parametrize("num_layers", [-1, 2, 7])
def test_too_many_layers_are_refused(num_layers):
    with pytest.raises(ConfigError, match=f"found {num_layers}; the model has 2 layers, so 0 to 1"):
        freeze_layers(tiny_model(), num_layers)


def test_layers_are_found_in_other_architectures():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=3, n_head=2))
    assert len(decoder_layers(model)) == 3


def test_the_layers_of_a_decoder_are_not_as_many_as_its_encoders():
    sizes = {"d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(vocab_size=20, encoder_layers=2, decoder_layers=3, **sizes)
    model = BartForCausalLM(config)
    assert decoder_layers(model) is model.model.decoder.layers


def test_no_list_of_layers_is_an_error():
    model = tiny_model()
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(ConfigError, match="no list of layers"):
        decoder_layers(model)


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["model.embed_tokens"], {"model.embed_tokens.weight"}),
        (["norm"], {"model.norm.weight"}),
        (["layers.0.mlp"], {f"model.layers.0.mlp.{n}_proj.weight" for n in ("gate", "up", "down")}),
        (["layers.*.q_proj"], {f"model.layers.{n}.self_attn.q_proj.weight" for n in (0, 1)}),
        (
            ["*.mlp.up_proj", "lm_head"],
            {f"model.layers.{n}.mlp.up_proj.weight" for n in (0, 1)} | {"lm_head.weight"},
        ),
    ],
)
def test_freezes_by_name(patterns, frozen):
    model = tiny_model()
    count = freeze_named(model, patterns)
    assert {name for name, _ in model.named_parameters()} - trained_names(model) == frozen
    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_layer_one_is_not_layer_ten():
    model = tiny_model(num_layers=11)
    freeze_named(model, ["layers.1"])
    names = {name for name, _ in model.named_parameters()} - trained_names(model)
    assert {name.split(".")[2] for name in names} == {"1"}


def test_either_name_of_a_shared_weight_freezes_it(caplog):
    model = tiny_model(tie=True)
    with caplog.at_level(logging.INFO):
        freeze_named(model, ["lm_head"])
    assert "model.embed_tokens.weight" not in trained_names(model)
    assert "shares its weight" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("model.embed_token", "model.embed_tokens"), ("q_prj", "q_proj"), ("layer.0", "layers.0")],
)
def test_a_pattern_that_fits_nothing_names_the_nearest(pattern, nearest):
    with pytest.raises(ConfigError, match=rf'is called "{pattern}".*Did you mean ".*{nearest}"'):
        freeze_named(tiny_model(), ["norm", pattern])


def test_freezing_everything_is_refused():
    with pytest.raises(ConfigError, match=r"freeze all of the model"):
        freeze_named(tiny_model(), ["*"])
