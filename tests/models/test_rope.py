"""Rows get the angles that they get alone, where a model chooses them by the longest of a pass."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from biddable.config_training import TrainingConfig
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.evaluation.local_model import LocalModel
from biddable.models import running_rows
from biddable.models.generation import Generation, generate
from biddable.models.head import Body
from biddable.models.loading import LoadedModel
from biddable.models.rope import AngleLimits, own_angles
from biddable.models.running_rows import RunningRows
from biddable.models.token_scores import score_tokens
from biddable.training.held_out import held_out_loss
from biddable.training.layout import Layout, planned_steps
from biddable.training.passes import Passes
from tests.models.test_attention import GROUPED, V, build, gradients
from tests.tiny import in_exact_doubles, tiny_tokenizer

LIMIT = 16
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [2.0, 3.0, 4.0, 5.0],
    "factor": 8.0,
    "rope_theta": 10000.0,
    "original_max_position_embeddings": LIMIT,
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
SWITCHING: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3": (
        "phi3",
        {**GROUPED, "rope_scaling": LONGROPE, "original_max_position_embeddings": LIMIT},
    ),
    "longrope": ("llama", {**GROUPED, "rope_parameters": LONGROPE}),
    "by layer": (
        "gemma3_text",
        {
            **GROUPED,
            "head_dim": 8,
            "sliding_window": 9,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"sliding_attention": PLAIN, "full_attention": LONGROPE},
        },
    ),
}
DEPENDENT = {
    **SWITCHING,
    "dynamic": ("llama", {**GROUPED, "max_position_embeddings": LIMIT, "rope_scaling": DYNAMIC}),
}


def switching_model(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return build(*DEPENDENT[name]).double().eval()


def rows_on_both_sides() -> EncodedRows:
    """Rows of 10 to 40 ids, many of them over the limit; all begin alike, some further on too."""
    rng = random.Random(0)
    start = [1, *range(20, 28)]
    rows = []
    for length in (1, 3, 7, 8, 30, 22, 22, 31, 5, 30):
        own = [rng.randrange(V) for _ in range(length)]
        own[:2] = [5, 6] if length > 6 else own[:2]
        rows.append(Example(start + own, [False] * 8 + [rng.random() < 0.7 for _ in own] + [True]))
    return EncodedRows.of(rows)


def logits_alone(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Run transformers' own code as if nothing had been run before: (T, V)."""
    model(torch.tensor([[2]]), use_cache=False)  # "dynamic" forgets longer passes
    logits: torch.Tensor = model(torch.tensor([ids]), use_cache=False).logits
    return logits[0]


def loss_alone(model: PreTrainedModel, row: Example) -> torch.Tensor:
    shares = logits_alone(model, row.input_ids)[:-1].log_softmax(dim=-1)
    learned = torch.tensor(row.loss_mask[1:])
    return -shares.gather(1, torch.tensor(row.input_ids[1:])[:, None])[learned].sum()


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        (*DEPENDENT["phi3"], AngleLimits((LIMIT,))),
        (*DEPENDENT["longrope"], AngleLimits((LIMIT,))),
        (*DEPENDENT["by layer"], AngleLimits((LIMIT,))),
        (*DEPENDENT["dynamic"], AngleLimits((), LIMIT)),
        ("llama", GROUPED, AngleLimits()),
        ("gemma3_text", {**GROUPED, "head_dim": 8}, AngleLimits()),
        ("llama", {**GROUPED, "rope_scaling": {**DYNAMIC, "rope_type": "yarn"}}, AngleLimits()),
        ("gpt2", {"n_embd": 32, "n_layer": 1, "n_head": 4}, AngleLimits()),
    ],
)
def test_limits_are_read_from_the_config(
    name: str, settings: dict[str, Any], expected: AngleLimits
) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings))
    assert AngleLimits.of(model) == expected


def test_what_is_told_is_only_of_rows_on_both_sides() -> None:
    switches, grows = AngleLimits((LIMIT,)), AngleLimits((), LIMIT)
    assert "of up to 16 tokens share no pass with longer ones:" in switches.told([3, 16, 17])
    assert "only with rows of their own length" in grows.told([3, 17])
    assert switches.told([17, 40]) == switches.told([3, 16]) == grows.told([3, 16]) == ""
    assert AngleLimits().told([3, 1000]) == ""


@pytest.mark.parametrize("micro_batch_size", [None, 3])
@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("name", DEPENDENT)
def test_a_step_is_exact_with_rows_on_both_sides(
    name: str, layout: Any, micro_batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = switching_model(name), rows_on_both_sides()
    in_exact_doubles(monkeypatch)
    expected_loss = sum(loss_alone(model, row) for row in rows)
    expected_loss.backward()
    expected = gradients(model)
    settings = TrainingConfig(
        epochs=1, layout=layout, batch_size=len(rows), micro_batch_size=micro_batch_size
    )
    chosen = Layout.choose(model, settings)
    assert chosen.is_tree == (layout == "tree")
    passes = Passes(model, rows, settings=settings, layout=chosen)
    (step,) = planned_steps(rows, settings=settings, seed=0, layout=chosen)
    assert sorted(step.rows) == list(range(len(rows)))
    assert step.trunk == 0
    for groups in (step.micro_batches, step.micro_batches[::-1]):  # in any order
        loss = sum(
            passes.accumulate(group, num_loss_tokens=1, length=0, trunk=None).item()
            for group in groups
        )
        assert loss == pytest.approx(expected_loss.item(), abs=1e-10)
        torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


def test_rows_below_the_limit_are_planned_as_ever() -> None:
    model, other = switching_model("longrope"), build("llama", GROUPED)
    rows = EncodedRows.of([row for row in rows_on_both_sides() if len(row.input_ids) <= LIMIT])
    settings = TrainingConfig(batch_size=len(rows), micro_batch_size=2)
    plans = [
        list(planned_steps(rows, settings=settings, seed=0, layout=Layout.choose(m, settings)))
        for m in (model, other)
    ]
    assert plans[0] == plans[1]
    assert plans[0][0].trunk > 0


@pytest.mark.parametrize("layout", ["tree", "padded"])
@pytest.mark.parametrize("name", DEPENDENT)
def test_held_out_rows_have_their_own_loss(
    name: str, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = switching_model(name), rows_on_both_sides()
    in_exact_doubles(monkeypatch)
    with torch.no_grad():
        expected = sum(float(loss_alone(model, row)) for row in rows)
    chosen = Layout.choose(model, TrainingConfig(layout=layout))
    loss, count = held_out_loss(model, rows, layout=chosen)
    assert loss * count == pytest.approx(expected, abs=1e-10)


@torch.no_grad()
def test_a_pass_does_not_depend_on_what_was_run_before() -> None:
    model, body = switching_model("dynamic"), Body(switching_model("dynamic"))
    ids = {length: torch.tensor([list(range(2, 2 + length))]) for length in (LIMIT, 20, 40)}
    first = {length: body.states(input_ids=given) for length, given in ids.items()}
    for length in (40, 20, LIMIT):
        assert torch.equal(body.states(input_ids=ids[length]), first[length])
    fresh = body.logits(first[20])
    torch.testing.assert_close(fresh, logits_alone(model, ids[20][0].tolist()))


@torch.no_grad()
@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_with_positions_of_their_own_may_share_a_pass(name: str) -> None:
    model = switching_model(name)
    ids = torch.arange(2, 92).view(3, 30)
    positions = torch.arange(30).repeat(3, 1)
    positions[1] = (positions[1] - 18).clamp(min=0)  # as after padding on the left
    mask = torch.ones_like(ids)
    mask[1, :18] = 0
    with own_angles(model):
        found = model(ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
    for row, start in enumerate((0, 18, 0)):
        alone = logits_alone(model, ids[row, start:].tolist())
        torch.testing.assert_close(found[row, start:], alone)


@pytest.mark.parametrize("name", DEPENDENT)
def test_scores_are_those_of_each_row_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = switching_model(name)
    in_exact_doubles(monkeypatch)
    rows = [row.input_ids for row in rows_on_both_sides()]
    found = score_tokens([model], rows)
    for ids, score in zip(rows, found, strict=True):
        with torch.no_grad():
            shares = logits_alone(model, ids)[:-1].log_softmax(dim=-1)
        expected = -shares.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        np.testing.assert_allclose(score.nll[0], expected, rtol=0, atol=1e-10)


def test_losses_on_references_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = switching_model("longrope")
    in_exact_doubles(monkeypatch)
    rows = list(rows_on_both_sides())
    loaded = LoadedModel(model, tiny_tokenizer(), name="tiny", source="")
    found = LocalModel(loaded)._losses(rows, "")
    with torch.no_grad():
        expected = [float(loss_alone(model, row)) for row in rows]
    assert [loss for loss, _ in filter(None, found)] == pytest.approx(expected, abs=1e-10)


def greedy_alone(model: PreTrainedModel, prompt: list[int], num_ids: int) -> Generation:
    """Run all that is there at each id: no cache, no batch."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num_ids):
            ids.append(int(logits_alone(model, ids)[-1].argmax()))
    return Generation(ids[len(prompt) :], False)


# with a start of 9 ids: two that grow over the limit at once, one later, one that never does
SHORT = [[40, 41, 42], [43, 44, 45], [46], []]
LONG = [[*range(50, 62)], [*range(50, 60), 7]]


@pytest.mark.parametrize("min_tree_ids", [0, 1 << 30], ids=["trees", "padded"])
@pytest.mark.parametrize("ends", [SHORT, LONG, [*SHORT, *LONG]], ids=["short", "long", "both"])
@pytest.mark.parametrize("name", SWITCHING)
def test_answers_are_those_of_each_prompt_alone(
    name: str, ends: list[list[int]], min_tree_ids: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_rows, "MIN_TREE_IDS", min_tree_ids)
    model = switching_model(name)
    prompts = [[1, *range(20, 28), *end] for end in ends]
    found = generate(model, prompts, stop_ids=[], max_new_tokens=7)
    assert found == [greedy_alone(model, prompt, 7) for prompt in prompts]


@torch.no_grad()
@pytest.mark.parametrize("name", ["longrope", "dynamic"])
def test_a_prompt_in_pieces_and_a_copied_start_are_read_as_whole(name: str) -> None:
    model, prompt = switching_model(name), list(range(2, 32))
    reading = RunningRows(model)
    for start in range(0, len(prompt), 8):
        logits = reading.read_more(prompt[start : start + 8])
    torch.testing.assert_close(logits[0], logits_alone(model, prompt)[-1])
    copied = reading.copy_start(10)
    short = copied.read_more([70, 71])
    torch.testing.assert_close(short[0], logits_alone(model, [*prompt[:10], 70, 71])[-1])
    grown = list(chain(prompt[:10], [70, 71]))
    for token in range(80, 88):  # over the limit, beside one that is there already
        if token == 82:
            copied.join(reading, keep=torch.tensor([0]))
        both = copied.read_token(torch.tensor([token, token])[: len(copied)])
        grown.append(token)
        torch.testing.assert_close(both[0], logits_alone(model, grown)[-1])
    torch.testing.assert_close(both[1], logits_alone(model, [*prompt, *range(82, 88)])[-1])
