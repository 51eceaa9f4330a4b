"""Single rows of a vocabulary, trained while the rest of it is frozen."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PhiConfig, PhiForCausalLM

from biddable.errors import CheckpointError, ConfigError
from biddable.models.adapter import load_adapter, save_adapter
from biddable.models.freezing import has_tied_head
from biddable.models.lora import apply_lora, merge_lora
from biddable.models.rows import row_states
from biddable.models.token_rows import (
    add_tokens,
    merge_token_rows,
    row_trains,
    token_rows,
    train_token_rows,
)
from tests.tiny import tiny_model, tiny_tokenizer

IDS = torch.tensor([[1, 7, 2, 9, 7], [9, 9, 4, 4, 5]])
ROWS = [7, 9]
SIZES = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}


def tiny_gemma() -> Gemma3ForCausalLM:
    """Its embeddings are scaled, its head is tied."""
    config = Gemma3TextConfig(
        **SIZES,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Gemma3ForCausalLM(config).double().eval()


def tiny_phi() -> PhiForCausalLM:
    """Its head has a bias."""
    model = PhiForCausalLM(PhiConfig(**SIZES, num_attention_heads=2, bos_token_id=1))
    torch.nn.init.normal_(model.lm_head.bias)
    return model.double().eval()


MODELS = {
    "untied": lambda: tiny_model(dtype=torch.float64),
    "tied": lambda: tiny_model(dtype=torch.float64, tie=True),
    "scaled": tiny_gemma,
    "biased head": tiny_phi,
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def loss_of(model):
    logits = model(IDS).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten())


@each_model
def test_rows_get_the_gradient_that_they_have_in_the_whole_matrix(make):
    model = make()
    loss = loss_of(model)
    loss.backward()
    expected = {
        name: module.weight.grad[ROWS].clone()
        for name, module in model.named_modules()
        if any(module is m for m in (model.get_input_embeddings(), model.get_output_embeddings()))
    }
    model.requires_grad_(False)
    assert set(train_token_rows(model, ROWS)) == set(expected)
    torch.testing.assert_close(loss_of(model), loss, rtol=0, atol=1e-12)
    model.zero_grad()
    loss_of(model).backward()
    found = token_rows(model)
    assert len(found) == (1 if has_tied_head(model) else 2)
    for name, (ids, rows) in found.items():
        assert ids == ROWS
        torch.testing.assert_close(rows.grad, expected[name], rtol=0, atol=1e-12)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"token_rows"}


@each_model
def test_merged_is_unmerged_and_ties_are_kept(make):
    model = make()
    names, was_tied = set(model.state_dict()), has_tied_head(model)
    model.requires_grad_(False)
    train_token_rows(model, ROWS)
    before = model(IDS).logits
    for _, rows in token_rows(model).values():
        rows.data.add_(torch.randn_like(rows))
    unmerged = model(IDS).logits
    assert (unmerged - before).abs().max() > 0.01
    merge_token_rows(model)
    torch.testing.assert_close(model(IDS).logits, unmerged, rtol=0, atol=1e-12)
    assert (set(model.state_dict()), has_tied_head(model)) == (names, was_tied)
    assert not token_rows(model)
    assert not model.get_input_embeddings()._forward_hooks


def test_only_frozen_matrices_get_rows():
    model = tiny_model()
    model.get_input_embeddings().requires_grad_(False)
    assert train_token_rows(model, ROWS) == ["model.embed_tokens"]
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert [row_trains(embeddings, n) for n in (7, 8)] == [True, False]
    assert [row_trains(head, n) for n in (7, 8)] == [True, True]


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("num_spare", [0, 1, 5], ids=["no spare row", "too few", "enough"])
def test_new_tokens_are_saved_with_the_adapter_and_come_back(tmp_path, tie, num_spare):
    def base():
        return tiny_model(vocab_size=300 + num_spare, tie=tie)

    model, tokenizer = base(), tiny_tokenizer()
    new = add_tokens(model, tokenizer, tokens=["<|im_start|>", "<|im_end|>"])
    assert new == [300, 301] == tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert tokenizer("<|im_end|>").input_ids == [301]
    num_rows = max(302, 300 + num_spare)
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == num_rows
    assert has_tied_head(model) == tie
    states = row_states(model.get_input_embeddings().weight, new)
    assert set(states.values()) == {"mean"}
    first, second = model.get_input_embeddings().weight.detach()[new]
    assert not torch.equal(first, second)

    apply_lora(model, rank=2)
    train_token_rows(model, new)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    ids = torch.tensor([[1, 300, 5, 301, 2]])
    expected = model(ids).logits
    save_adapter(model, tmp_path, base_model="base")
    again = base()
    load_adapter(again, tmp_path)
    # rows to spare that nobody trained are what the base has there
    torch.testing.assert_close(again(ids).logits, expected, rtol=0, atol=1e-5)
    trained = {name for name, p in again.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    merged = merge_token_rows(merge_lora(again))
    torch.testing.assert_close(merged(ids).logits, expected, rtol=0, atol=1e-4)
    assert has_tied_head(merged) == tie


def test_rows_of_another_base_are_refused(tmp_path):
    model = tiny_model(vocab_size=310)
    apply_lora(model, rank=2, target_modules=["q_proj"])
    train_token_rows(model, [305])
    save_adapter(model, tmp_path, base_model="base")
    with pytest.raises(CheckpointError, match=r"rows for the tokens \[305\], and .* 300 rows"):
        load_adapter(tiny_model(), tmp_path)
    model = tiny_model()
    model.set_input_embeddings(torch.nn.Embedding(310, 32))
    with pytest.raises(CheckpointError, match=r"embed_tokens has rows of 32 for the 1 token of"):
        load_adapter(model, tmp_path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.elsewhere.token_adapter.trainable_tokens_delta", "model.elsewhere has rows of 0"),
        ("model.norm.token_adapter.other", "model.norm.token_adapter.other is no LoRA weight"),
    ],
)
def test_a_file_with_strange_keys_is_refused(tmp_path, key, message):
    model = tiny_model()
    apply_lora(model, rank=2, target_modules=["q_proj"])
    save_adapter(model, tmp_path, base_model="base")
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights[f"base_model.model.{key}"] = torch.zeros(1, 64)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_adapter(tiny_model(), tmp_path)


def test_a_token_that_is_there_is_not_new():
    with pytest.raises(ConfigError, match=r"new_tokens: the tokenizer has <\|endoftext\|> already"):
        add_tokens(tiny_model(), tiny_tokenizer(), tokens=["<|endoftext|>", "<|im_end|>"])


def test_a_token_that_the_tokenizer_has_and_the_model_lacks_gets_its_row():
    model, tokenizer = tiny_model(), tiny_tokenizer(extra_special_tokens=("<a>", "<b>"))
    assert add_tokens(model, tokenizer, tokens=["<b>"]) == [300, 301]
    assert len(model.get_input_embeddings().weight) == len(tokenizer) == 302
