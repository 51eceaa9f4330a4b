import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from biddable.data.batching import collate
from biddable.data.encoding import Example
from biddable.models import products
from biddable.models.direct_gradients import direct_gradients, is_kept_by_nothing
from biddable.models.head import Body
from biddable.models.loss import accumulate_gradient
from tests.tiny import in_exact_doubles, tiny_gpt2

ROWS = [
    Example([5, 6, 7, 8, 9], [False, False, True, True, True]),
    Example([5, 9, 3], [False, True, True]),
]


def llama(*, is_tied: bool, has_bias: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        attention_bias=has_bias,
        mlp_bias=has_bias,
        tie_word_embeddings=is_tied,
        pad_token_id=3,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).double()


def gradients(model: nn.Module, num_steps: int = 2) -> dict[str, torch.Tensor]:
    """Add up a step of two micro-batches, forgetting those of the step before."""
    for _ in range(num_steps):
        for parameter in model.parameters():
            parameter.grad = None
        for row in ROWS:
            accumulate_gradient(model, collate([row]), num_loss_tokens=5)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "model",
    [llama(is_tied=True), llama(is_tied=False, has_bias=True), tiny_gpt2().double()],
    ids=["tied", "untied with biases", "gpt2"],
)
def test_gradients_are_those_of_autograd(model, monkeypatch):
    in_exact_doubles(monkeypatch)
    expected = gradients(model)
    with direct_gradients(model):
        found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-12, rtol=0, msg=name)


@pytest.mark.parametrize("is_wide", [True, False])
def test_gradients_are_the_same_by_either_library(is_wide, monkeypatch):
    model = llama(is_tied=True).float()
    expected = gradients(model)
    monkeypatch.setattr(products, "_IS_512_WIDE", is_wide)
    monkeypatch.setattr(products, "_MANY_COLUMNS", 8)
    with direct_gradients(model):
        found = gradients(model)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_a_gradient_stays_in_its_memory():
    model = llama(is_tied=True)
    weight = model.model.layers[0].mlp.up_proj.weight
    with direct_gradients(model):
        gradients(model, num_steps=1)
        first = weight.grad.data_ptr()
        gradients(model, num_steps=1)
        assert weight.grad.data_ptr() == first
    assert "forward" not in vars(model.model.layers[0].mlp.up_proj)


def test_logits_straight_from_the_head_may_be_overwritten_and_others_not():
    model = llama(is_tied=True)
    ids = torch.tensor([ROWS[0].input_ids])
    assert not is_kept_by_nothing(Body(model).logits(Body(model).states(input_ids=ids)))
    with direct_gradients(model):
        body = Body(model)
        logits = body.logits(body.states(input_ids=ids))
        assert is_kept_by_nothing(logits)
        assert not is_kept_by_nothing(torch.tanh(logits))  # as of models that cap their logits
        assert not is_kept_by_nothing(logits.detach())


def test_no_second_array_of_the_logits_size_is_made():
    model = llama(is_tied=True)
    ids = list(range(20)) * 3
    batch = collate([Example(ids, [True] * len(ids))])
    size = 8 * (len(ids) - 1) * 20  # bytes: all places but the last, 20 logits each, in float64

    def most_in_memory():
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as seen:
            accumulate_gradient(model, batch, num_loss_tokens=1)
        events = seen.profiler.kineto_results.events()
        made = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
        held, most = 0, 0
        for _, num_bytes in made:
            held += (num_bytes > 0) - (num_bytes < 0) if abs(num_bytes) == size else 0
            most = max(most, held)
        return most

    assert most_in_memory() > 1
    with direct_gradients(model):
        assert most_in_memory() == 1


def test_frozen_and_watched_weights_are_left_to_autograd():
    model = llama(is_tied=False)
    model.model.layers[0].requires_grad_(False)
    seen = []
    model.lm_head.weight.register_hook(seen.append)
    with direct_gradients(model):
        assert "forward" not in vars(model.lm_head)
        found = gradients(model, num_steps=1)
    assert len(seen) == len(ROWS)
    assert "model.layers.0.mlp.up_proj.weight" not in found
