import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biddable.config_training import TrainingConfig
from biddable.errors import ConfigError
from biddable.models.freezing import freeze_layers
from biddable.models.lora import LoRAKind, apply_lora, lora_layers
from biddable.models.token_rows import train_token_rows
from biddable.training.optimizer import (
    build_optimizer,
    choose_learning_rate,
    schedule_factor,
    set_learning_rate,
)
from biddable.training.trainer import train
from tests.tiny import tiny_gpt2, tiny_model
from tests.training.rows import random_examples


def names_by_group(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]


def test_decays_matrices_only_and_takes_what_trains():
    model = tiny_model()
    freeze_layers(model, 1)
    optimizer = build_optimizer(model, learning_rate=0.1, weight_decay=0.3)
    matrices, others = optimizer.param_groups
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() == 2 for p in matrices["params"])
    count = len(matrices["params"]) + len(others["params"])
    assert count == sum(p.requires_grad for p in model.parameters())
    assert matrices["fused"]


@pytest.mark.parametrize("tie", [False, True])
def test_embeddings_norms_and_biases_are_not_decayed(tie):
    model = tiny_model(tie=tie)
    optimizer = build_optimizer(model, learning_rate=0.1, weight_decay=0.3)
    decayed, spared = names_by_group(model, optimizer)
    assert ("lm_head.weight" in decayed) == (not tie)  # a head of its own is a matrix like others
    assert "model.layers.0.mlp.up_proj.weight" in decayed
    norms = {f"model.layers.{n}.{part}_layernorm.weight" for n in (0, 1) for part in ("input",)}
    assert norms | {"model.embed_tokens.weight", "model.norm.weight"} <= spared
    gpt2 = tiny_gpt2()
    decayed, spared = names_by_group(gpt2, build_optimizer(gpt2, learning_rate=0.1))
    assert "transformer.h.0.attn.c_attn.weight" in decayed
    assert {"transformer.wte.weight", "transformer.wpe.weight"} <= spared
    assert "transformer.h.0.attn.c_attn.bias" in spared


def test_a_row_that_no_text_holds_stays_bit_for_bit_under_decay():
    model = tiny_model(tie=False)
    examples = random_examples(4)
    used = {i for example in examples for i in example.input_ids}
    unused = [i for i in range(300) if i not in used]
    before = model.get_input_embeddings().weight.detach().clone()
    train(model, examples, settings=TrainingConfig(epochs=2, batch_size=2, weight_decay=0.5))
    after = model.get_input_embeddings().weight.detach()
    assert torch.equal(after[unused], before[unused])
    assert not torch.equal(after, before)


def test_lora_plus_gives_b_its_own_rate_and_adapters_decay():
    model = tiny_model()
    apply_lora(model, rank=2, kind=LoRAKind(dora=True, rate_ratio=16.0))
    train_token_rows(model, [3])
    optimizer = build_optimizer(model, learning_rate=0.1, weight_decay=0.3)
    set_learning_rate(optimizer, 0.01)
    found = {
        (group["weight_decay"], round(group["lr"], 6)): {name.rpartition(".")[2] for name in names}
        for group, names in zip(
            optimizer.param_groups, names_by_group(model, optimizer), strict=True
        )
    }
    assert found == {
        (0.3, 0.01): {"lora_A"},
        (0.3, 0.16): {"lora_B"},
        (0.0, 0.01): {"magnitude", "token_rows"},
    }


def test_lora_plus_moves_b_as_much_further_in_the_trainer():
    moved = []
    for ratio in (1.0, 4.0):
        torch.manual_seed(0)
        model = tiny_model()
        apply_lora(model, rank=2, kind=LoRAKind(rate_ratio=ratio))
        settings = TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-3)
        train(model, random_examples(4), settings=settings)
        moved.append(next(iter(lora_layers(model).values())).lora_B.detach().abs().max())
    assert float(moved[1] / moved[0]) == pytest.approx(4, rel=1e-3)


def factors_of(num_steps, settings):
    return [schedule_factor(n, num_steps, settings=settings) for n in range(num_steps)]


@given(
    num_steps=st.integers(1, 300),
    values=st.fixed_dictionaries(
        {
            "schedule": st.sampled_from(["cosine", "linear", "constant", "wsd"]),
            "warmup_share": st.floats(0, 0.99),
            "warmup_steps": st.none() | st.integers(0, 300),
            "min_lr_share": st.floats(0, 0.9),
            "decay_share": st.floats(0.01, 1),
        }
    ),
)
def test_factor_climbs_to_one_then_never_rises(num_steps, values):
    if values["warmup_steps"] is not None:
        values = values | {"warmup_steps": min(values["warmup_steps"], num_steps)}
    settings = TrainingConfig.model_construct(**values)
    schedule, floor = values["schedule"], values["min_lr_share"]
    factors = factors_of(num_steps, settings)
    assert all(0 < f <= 1 for f in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert max(factors) == pytest.approx(1)
    assert min(factors[peak:]) >= (1 if schedule == "constant" else floor) - 1e-12
    if schedule == "constant":
        assert factors[-1] == 1
    if schedule == "wsd":
        assert sum(f == 1 for f in factors) >= min(
            num_steps * (1 - values["decay_share"]) - peak, 1
        )


@given(
    num_steps=st.integers(20, 300),
    floor=st.floats(0, 0.9),
    schedule=st.sampled_from(["cosine", "linear", "wsd"]),
)
def test_the_last_step_is_one_short_of_the_floor(num_steps, floor, schedule):
    """A longer run with the same warm-up steps comes nearer; none reaches it."""
    settings = TrainingConfig.model_construct(
        schedule=schedule, warmup_steps=5, min_lr_share=floor, decay_share=0.5
    )
    last, longer = (factors_of(n, settings)[-1] for n in (num_steps, 2 * num_steps))
    assert floor < longer < last <= floor + (1 - floor) * 0.2


def test_each_schedule_in_the_middle_of_its_fall():
    def factor(step, **values):
        return schedule_factor(step, 100, settings=TrainingConfig(warmup_steps=0, **values))

    assert factor(50) == pytest.approx(0.5)
    assert factor(25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factor(50, min_lr_share=0.1) == pytest.approx(0.55)
    assert factor(75, schedule="linear", min_lr_share=0.2) == pytest.approx(0.4)
    assert factor(59, schedule="wsd", decay_share=0.4) == 1
    assert factor(70, schedule="wsd", decay_share=0.4) == pytest.approx(0.5)
    assert factor(70, schedule="wsd", decay_share=0.4, min_lr_share=0.5) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("warm_up", "decay_share"),
    [
        ({"warmup_share": 0.0}, 1.0),
        ({"warmup_steps": 0}, 1.0),
        ({"warmup_share": 0.9}, 0.1),
        ({"warmup_share": 0.7}, 0.3),
    ],
)
def test_warm_up_and_fall_may_be_all_of_the_steps(warm_up, decay_share):
    settings = TrainingConfig(schedule="wsd", decay_share=decay_share, **warm_up)
    factors = factors_of(100, settings)
    assert sum(b < a for a, b in pairwise(factors)) == round(100 * decay_share) - 1
    assert max(factors) == 1 > factors[-1]


def test_a_warm_up_in_steps():
    settings = TrainingConfig(warmup_steps=4, schedule="constant")
    assert factors_of(6, settings) == [0.25, 0.5, 0.75, 1, 1, 1]
    with pytest.raises(ConfigError, match=r"warmup_steps: found 4; the run has 3 steps"):
        schedule_factor(0, 3, settings=settings)


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
