"""A start run once for all micro-batches of a step gives the gradient of the step in one piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from biddable.data.batching import BatchPlan
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import build_tree, common_start, sort_rows
from biddable.models import attention
from biddable.models.lora import apply_lora
from biddable.models.loss import Trunk, accumulate_gradient
from tests.models.test_attention import EXACT, V, build, gradients
from tests.tiny import in_exact_doubles, tiny_model

START = [1, *range(20, 31)]


def rows_with_one_start() -> EncodedRows:
    ends = [[5, 6, 7], [5, 6, 8, 9], [40], [41, 42], [5, 6, 7], [60, 61, 62, 63]]
    mask = [False] * 3 + [True] + [False] * 7  # one token of the start is learned
    return EncodedRows.of(
        [
            Example(START + end, [*mask, n % 2 == 0, *[True] * len(end)])
            for n, end in enumerate(ends)
        ]
    )


def in_parts(model: nn.Module, rows: EncodedRows, groups: list[list[int]]) -> float:
    everything = [n for group in groups for n in group]
    length = common_start(rows, sort_rows(rows, everything))
    tree = build_tree(rows, everything, trunk=length, only_trunk=True)
    trunk = Trunk(model, tree, num_loss_tokens=1)
    loss = trunk.loss.item()
    for group in groups:
        rest = build_tree(rows, group, trunk=length)
        assert rest.position_ids.min() == length
        loss += accumulate_gradient(model, rest, num_loss_tokens=1, trunk=trunk).item()
    trunk.backward()
    return loss


@pytest.mark.parametrize("long_trunk", [1, 64])  # attended to apart, or with each branch
@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_is_that_of_one_tree(
    name: str, long_trunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_LONG_TRUNK", long_trunk)
    model = build(name, EXACT[name]).double()
    in_exact_doubles(monkeypatch)
    rows = rows_with_one_start()
    whole = build_tree(rows, range(len(rows)))
    expected_loss = accumulate_gradient(model, whole, num_loss_tokens=1).item()
    expected = gradients(model)
    assert in_parts(model, rows, [[0, 1], [2], [3, 4, 5]]) == pytest.approx(
        expected_loss, abs=1e-10
    )
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("name", EXACT)
def test_the_kernel_of_a_gpu_sees_the_trunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name, EXACT[name]).double().requires_grad_(False)
    in_exact_doubles(monkeypatch)
    rows = rows_with_one_start()
    groups = [[0, 1], [2], [3, 4, 5]]
    expected = in_parts(model, rows, groups)
    monkeypatch.setattr(attention, "_goes_by_blocks", lambda ids: True)
    assert in_parts(model, rows, groups) == pytest.approx(expected, abs=1e-10)


def checkpointed(model: Any) -> None:
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()


def adapted(model: Any) -> None:
    apply_lora(model, rank=2)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter)


def head_only(model: Any) -> None:
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)


@pytest.mark.parametrize("change", [checkpointed, adapted, head_only])
def test_it_goes_with_other_ways_to_train(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(dtype=torch.float64)
    change(model)
    in_exact_doubles(monkeypatch)
    rows = rows_with_one_start()
    accumulate_gradient(model, build_tree(rows, range(len(rows))), num_loss_tokens=1)
    expected = gradients(model)
    in_parts(model, rows, [[0, 1, 2], [3, 4, 5]])
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


def test_a_step_of_several_passes_runs_its_common_start_once() -> None:
    rows = rows_with_one_start()
    plan = BatchPlan(rows, batch_size=6, micro_batch_size=2, is_tree=True)
    (step,) = plan
    assert (len(step.micro_batches), step.trunk) == (3, len(START))
    trees = [build_tree(rows, group, trunk=step.trunk) for group in step.micro_batches]
    trunk = build_tree(rows, step.rows, trunk=step.trunk, only_trunk=True)
    assert plan.num_unique_tokens == sum(len(tree.input_ids) for tree in [trunk, *trees])
    learned = sum(int(tree.weights.sum()) for tree in [trunk, *trees])
    assert learned == plan.num_loss_tokens
    assert BatchPlan(rows, batch_size=6, is_tree=True)[0].trunk == 0  # one pass is enough


def test_a_row_that_another_begins_with_keeps_a_token_of_its_own() -> None:
    rows = EncodedRows.of([Example(START[:n], [True] * n) for n in (9, 10, 12)])
    assert common_start(rows, [0, 1, 2]) == 8
    assert max(START) < V
