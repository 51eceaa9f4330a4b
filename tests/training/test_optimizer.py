import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biddable.models.freezing import freeze_layers
from biddable.training.optimizer import build_optimizer, choose_learning_rate, schedule_factor
from tests.tiny import tiny_model


def test_decays_matrices_only_and_takes_what_trains():
    model = tiny_model()
    freeze_layers(model, 1)
    matrices, others = build_optimizer(model, learning_rate=0.1, weight_decay=0.3).param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() == 2 for p in matrices["params"])
    count = len(matrices["params"]) + len(others["params"])
    assert count == sum(p.requires_grad for p in model.parameters())
    assert matrices["fused"]


@given(
    num_steps=st.integers(1, 300),
    share=st.floats(0, 0.99),
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
)
def test_factor_climbs_to_one_then_never_rises(num_steps, share, schedule):
    factors = [
        schedule_factor(n, num_steps, schedule=schedule, warmup_share=share)
        for n in range(num_steps)
    ]
    assert all(0 < f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert max(factors) == pytest.approx(1)


def test_cosine_is_half_way_down_in_the_middle():
    assert schedule_factor(60, 110, warmup_share=0.0909) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("size", "method", "rate"),
    [
        (1e8, "full", 1e-3),
        (1e8, "freeze", 1e-3),
        (1e9, "full", 3e-4),
        (7e9, "full", 1e-5),
        (1e8, "lora", 2e-3),
        (7e9, "lora", 2e-4),
    ],
)
def test_rate_by_size_and_method(size, method, rate):
    model = torch.nn.Linear(int(size), 1, bias=False, device="meta")
    found, reason = choose_learning_rate(model, method)
    assert found == rate
    assert f"method {method}" in reason
    assert ("B parameters" in reason) == (size >= 1e9)
