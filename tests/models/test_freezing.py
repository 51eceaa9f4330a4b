import logging

import pytest
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from biddable.errors import ConfigError
from biddable.models.freezing import decoder_layers, freeze_layers
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


def test_no_list_of_layers_is_an_error():
    model = tiny_model()
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(ConfigError, match="no list of layers"):
        decoder_layers(model)
