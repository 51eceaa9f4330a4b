"""A tree gives the loss and the gradient of its rows one by one, in every architecture."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from biddable.data.batching import collate
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import build_tree
from biddable.models import attention
from biddable.models.attention import why_no_trees
from biddable.models.lora import apply_lora
from biddable.models.loss import accumulate_gradient, batch_loss
from tests.tiny import in_exact_doubles, tiny_model

V = 97
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT = {"vocab_size": V, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
# Windows shorter than the rows, so that a layer's own rule shows.
EXACT: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "qwen3": {**GROUPED, "head_dim": 8},
    "mistral": {**GROUPED, "sliding_window": 8},
    "gemma": {**GROUPED, "head_dim": 8},
    "gemma2": {
        **GROUPED,
        "head_dim": 8,
        "sliding_window": 9,
        "query_pre_attn_scalar": 8,
        # transformers 5.17 would take a kernel for the rows one by one that leaves out the cap
        "attn_implementation": "eager",
    },
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 9, "query_pre_attn_scalar": 8},
    "gpt2": {**GPT, **NO_DROPOUT},
    "phi": SIZES,
    "phi3": {**GROUPED, "sliding_window": 11},
    "gpt_neox": SIZES,
    "cohere": GROUPED,
    "granite": {**GROUPED, "logits_scaling": 3.0},
    "olmo2": GROUPED,
}


def rows_with_common_starts() -> EncodedRows:
    rng = random.Random(0)
    rows = []
    for length in (20, 7):
        start = [1, *(rng.randrange(V) for _ in range(length))]
        for _ in range(3):
            own = [rng.randrange(V) for _ in range(rng.randrange(2, 30))]
            mask = [rng.random() < 0.6 for _ in own[1:]]
            rows.append(Example(start + own, [False] * len(start) + mask + [True]))
    rows += [rows[0], Example(rows[1].input_ids[:22], [n > 12 for n in range(22)])]
    return EncodedRows.of(rows)


def build(name: str, settings: dict[str, Any]) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)
    model.train()
    return model


def gradients(model: nn.Module) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def one_by_one(model: nn.Module, rows: EncodedRows) -> tuple[float, list[torch.Tensor]]:
    total = 0.0
    for row in rows:
        loss_sum, _ = batch_loss(model, collate([row]))
        loss_sum.backward()
        total += loss_sum.item()
    return total, gradients(model)


@pytest.mark.parametrize("name", EXACT)
def test_a_tree_is_exact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name, EXACT[name]).double()
    in_exact_doubles(monkeypatch)
    rows = rows_with_common_starts()
    expected_loss, expected = one_by_one(model, rows)
    tree = build_tree(rows, range(len(rows)))
    assert len(tree.input_ids) < 0.7 * rows.lengths.sum()
    loss = accumulate_gradient(model, tree, num_loss_tokens=1)
    assert loss.item() == pytest.approx(expected_loss, abs=1e-10)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)
    assert why_no_trees(model) is None


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("name", EXACT)
def test_the_kernel_of_a_gpu_gives_the_same_loss(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name, EXACT[name]).double()
    in_exact_doubles(monkeypatch)
    rows = rows_with_common_starts()
    tree = build_tree(rows, range(len(rows)))
    with torch.no_grad():  # uncompiled, FlexAttention has no gradient on a CPU
        expected, _ = batch_loss(model, tree)
        monkeypatch.setattr(attention, "_goes_by_blocks", lambda ids: True)
        found, _ = batch_loss(model, tree)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_tree_is_exact_with_adapters_and_with_checkpointed_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(dtype=torch.float64)
    apply_lora(model, rank=2)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter)
    in_exact_doubles(monkeypatch)
    rows = rows_with_common_starts()
    _, expected = one_by_one(model, rows)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    accumulate_gradient(model, build_tree(rows, range(len(rows))), num_loss_tokens=1)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


def test_the_model_is_given_back_its_own_attention() -> None:
    model = build("llama", GROUPED)
    before = model.config._attn_implementation
    rows = rows_with_common_starts()
    accumulate_gradient(model, build_tree(rows, [0, 1]), num_loss_tokens=1)
    assert model.config._attn_implementation == before != attention.NAME


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("gpt2", GPT, "dropout of 0.1 in transformer.drop would be shared"),
        ("bloom", {"vocab_size": V, "hidden_size": 32, "n_layer": 1, "n_head": 4}, "Bloom"),
        ("mpt", {"vocab_size": V, "d_model": 32, "n_layers": 1, "n_heads": 4}, "Mpt"),
        ("mamba", {"vocab_size": V, "hidden_size": 16, "num_hidden_layers": 1}, "Mamba"),
        (
            "llama",
            {**GROUPED, "attention_dropout": 0.1},
            "attention_dropout of 0.1 in model.layers.0.self_attn",
        ),
    ],
)
def test_what_cannot_be_exact_is_told(name: str, settings: dict[str, Any], reason: str) -> None:
    why = why_no_trees(build(name, settings))
    assert why is not None
    assert reason in why


def test_a_model_that_mixes_neighbours_is_found_out_by_trying() -> None:
    model = build("llama", GROUPED)
    layer = model.model.layers[0]
    layer.register_forward_hook(lambda module, given, out: out + out.roll(1, dims=1))
    why = why_no_trees(model)
    assert why is not None
    assert "gives other logits" in why
