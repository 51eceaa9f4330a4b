"""Replaced norms and gates give the same numbers, and keep what the plain ones do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from biddable.data.batching import collate
from biddable.data.trees import build_tree
from biddable.models.head import Body
from biddable.models.lean_layers import fast_layers, lean_layers, rms_norm, silu_gate
from biddable.models.lora import apply_lora
from biddable.models.loss import Edges, accumulate_gradient, batch_loss
from biddable.models.recompute import recomputed_activations
from biddable.models.remade import recipe_of
from biddable.training.micro_batches import activation_bytes
from tests.models.test_attention import EXACT, build, gradients, rows_with_common_starts
from tests.tiny import in_exact_doubles, tiny_model

# what has an MLP or norms of the ordinary kind, and how many modules are replaced
REPLACED = {"llama": 10, "gemma": 7, "gemma2": 13, "phi3": 7, "olmo2": 16, "gpt2": 0, "cohere": 3}


def replaced(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_norm_has_its_derivative(shift: float) -> None:
    inputs = doubles(2, 3, 4), doubles(4)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3, shift=shift), inputs)


@pytest.mark.parametrize("is_tree", [True, False])
@pytest.mark.parametrize("recomputes", [True, False])
def test_the_last_mlp_runs_only_where_a_token_is_learned(is_tree: bool, recomputes: bool) -> None:
    model = build("llama", EXACT["llama"]).double().train()
    rows = rows_with_common_starts()
    numbers = range(len(rows))
    batch = build_tree(rows, numbers) if is_tree else collate([rows[n] for n in numbers])
    num_learned = len(Edges.of(batch).parents.unique())
    expected_loss = accumulate_gradient(model, batch, num_loss_tokens=1)
    expected = gradients(model)
    sizes: dict[int, set[int]] = {0: set(), -1: set()}
    with fast_layers(model), recomputed_activations(model, enabled=recomputes):
        for number, seen in sizes.items():
            model.model.layers[number].mlp.gate_proj.register_forward_hook(
                lambda module, given, out, seen=seen: seen.add(out.shape[:-1].numel())
            )
        found_loss = accumulate_gradient(model, batch, num_loss_tokens=1)
        found = gradients(model)
        held_out, _ = batch_loss(model, batch)
    assert num_learned < batch.input_ids.numel()
    assert sizes == {0: {batch.input_ids.numel()}, -1: {num_learned}}
    torch.testing.assert_close(found_loss, expected_loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(held_out, expected_loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_the_gate_has_its_derivative() -> None:
    assert torch.autograd.gradcheck(silu_gate, (doubles(2, 3, 4), doubles(2, 3, 4)))


@pytest.mark.parametrize("name", REPLACED)
def test_gradients_are_those_of_the_plain_layers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name, EXACT[name]).double()
    in_exact_doubles(monkeypatch)
    rows = rows_with_common_starts()
    tree = build_tree(rows, range(len(rows)))
    expected_loss = accumulate_gradient(model, tree, num_loss_tokens=1)
    expected = gradients(model)
    with lean_layers(model):
        assert len(replaced(model)) == REPLACED[name]
    with fast_layers(model):
        for _ in range(2):
            found_loss = accumulate_gradient(model, tree, num_loss_tokens=1)
            torch.testing.assert_close(found_loss, expected_loss, rtol=0, atol=1e-10)
            torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)
    assert replaced(model) == []


@pytest.mark.parametrize("adapts", [False, True])
def test_a_pass_keeps_half_for_the_gradient(adapts: bool) -> None:
    model = tiny_model()
    if adapts:
        apply_lora(model, rank=2)
    ids = torch.arange(40)[None]

    def num_kept() -> int:
        return activation_bytes(model, lambda: Body(model).states(input_ids=ids))

    plain = num_kept()
    with fast_layers(model):
        assert num_kept() < 0.7 * plain


def test_what_several_layers_need_is_made_again_once() -> None:
    made = []
    model = tiny_model(num_layers=1)
    with fast_layers(model):
        norm = model.model.layers[0].input_layernorm
        out = norm(torch.randn(1, 5, 64, requires_grad=True))
        remaking, _ = recipe_of(out)
        plain = remaking.make
        remaking.make = lambda *given: made.append(1) or plain(*given)
        attention = model.model.layers[0].self_attn
        sum(layer(out).sum() for layer in (attention.q_proj, attention.k_proj)).backward()
    assert made == [1]
    assert remaking.made is None


class OtherNorm(LlamaRMSNorm):
    """Has the name and the parts, and computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        root = (x * x).mean(-1, keepdim=True).sqrt()
        return self.weight * x / (root + self.variance_epsilon)


def dropping(model: Any) -> None:
    mlp = model.model.layers[0].mlp
    mlp.act_fn = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))


def changed_norm(model: Any) -> None:
    model.model.layers[0].input_layernorm = OtherNorm(64, eps=1e-2)


@pytest.mark.parametrize(
    ("change", "where"),
    [(dropping, "model.layers.0.mlp"), (changed_norm, "model.layers.0.input_layernorm")],
)
def test_what_computes_something_else_is_left_alone(change: Any, where: str) -> None:
    model = tiny_model().train()
    change(model)
    with lean_layers(model):
        assert where not in replaced(model)
        assert "model.layers.1.mlp" in replaced(model)


def test_types_that_a_norm_widens_are_left_to_it() -> None:
    norm = LlamaRMSNorm(8)
    half = torch.randn(2, 8, dtype=torch.bfloat16)
    expected = norm(half)
    with lean_layers(norm):
        assert torch.equal(norm(half), expected)
    with lean_layers(norm.bfloat16()):
        assert replaced(norm) == []
    with lean_layers(GemmaRMSNorm(8)):
        pass


def test_an_output_that_was_written_to_is_not_made_again() -> None:
    x, weight = torch.randn(3, 4, requires_grad=True), torch.ones(4)
    out = rms_norm(x, weight, 1e-6)
    assert recipe_of(out) is not None
    out *= 2
    assert recipe_of(out) is None
    with torch.inference_mode():
        assert recipe_of(torch.ones(2)) is None
