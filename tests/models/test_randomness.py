import math

import pytest
import torch
from transformers import OPTConfig, OPTForCausalLM

from biddable.config_training import TrainingConfig
from biddable.models.lora import apply_lora
from biddable.models.randomness import noisy_embeddings, shares_noise
from biddable.models.token_rows import train_token_rows
from biddable.training.trainer import held_out_loss, train
from tests.tiny import tiny_gpt2, tiny_model
from tests.training.rows import random_examples

IDS = torch.arange(50)[None]


def test_noise_is_even_between_its_bounds_and_only_in_training():
    model = tiny_model()
    embeddings = model.get_input_embeddings()
    plain = embeddings(IDS).detach()
    bound = 5 / math.sqrt(50 * 64)
    with noisy_embeddings(model, alpha=5.0):
        assert torch.equal(embeddings(IDS), plain)
        model.train()
        noise = (embeddings(IDS) - plain).detach()
    assert bound * 0.99 < noise.abs().max() <= bound * 1.0001
    assert float(noise.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert abs(float(noise.mean())) < 0.05 * bound
    assert torch.equal(embeddings(IDS), plain)  # gone with the block


def test_the_trainer_adds_noise_to_what_is_learned_and_not_to_what_is_measured():
    examples = random_examples(8)
    logs, models = [], []
    for alpha in (None, 15.0):
        model = tiny_model()
        settings = TrainingConfig(epochs=1, batch_size=4, neftune_alpha=alpha)
        log = train(model, examples, settings=settings, held_out=examples)
        measured = held_out_loss(model, examples)[0]
        assert measured == pytest.approx(log.held_out_losses[-1], rel=1e-5)
        logs.append(log)
        models.append(model)
    first, second = (log.held_out_losses[0] for log in logs)
    assert first == pytest.approx(second, rel=1e-5)
    assert logs[0].records[1]["loss"] != logs[1].records[1]["loss"]
    assert all(shares_noise(model) is None for model in models)


def test_noise_comes_on_top_of_trained_rows():
    model = tiny_model()
    model.requires_grad_(False)
    train_token_rows(model, [3])
    model.train()
    rows = model.get_input_embeddings().token_rows
    with torch.no_grad(), noisy_embeddings(model, alpha=1.0):
        rows.fill_(7.0)
        found = model.get_input_embeddings()(torch.tensor([[3, 4]]))
    assert (found[0, 0] - 7).abs().max() < 0.1
    assert (found[0, 0] - 7).abs().max() > 0


def test_a_model_without_noise_says_none():
    assert shares_noise(tiny_model()) is None
    model = tiny_model()
    apply_lora(model, rank=2)
    assert shares_noise(model) is None


def test_each_kind_of_noise_is_found():
    model = tiny_model()
    apply_lora(model, rank=2, dropout=0.25, target_modules=["v_proj"])
    assert shares_noise(model) == "dropout of 0.25 in model.layers.0.self_attn.v_proj.dropout"
    assert "dropout of 0.1 in transformer.drop" in shares_noise(tiny_gpt2())
    model = tiny_model()
    model.model.layers[1].self_attn.attention_dropout = 0.5
    assert shares_noise(model) == "attention_dropout of 0.5 in model.layers.1.self_attn"
    with noisy_embeddings(tiny := tiny_model(), alpha=5.0):
        assert shares_noise(tiny) == "NEFTune's noise of 5 on the embeddings"
    config = OPTConfig(
        vocab_size=30,
        hidden_size=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        word_embed_proj_dim=16,
        dropout=0.0,
        layerdrop=0.2,
    )
    assert shares_noise(OPTForCausalLM(config)) == "layerdrop of 0.2 in model.decoder"


@pytest.mark.parametrize(("alpha", "is_tree"), [(None, True), (5.0, False)])
def test_noise_keeps_rows_from_sharing_their_start(alpha, is_tree):
    events = []
    settings = TrainingConfig(epochs=1, batch_size=4, neftune_alpha=alpha)
    train(tiny_model(), random_examples(4), settings=settings, on_event=events.append)
    assert ("NEFTune" in events[0]["layout"]) != is_tree
