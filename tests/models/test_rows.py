"""Rows of a vocabulary: planted untrained ones are seen, and real trained ones are not accused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from biddable.models.loading import load
from biddable.models.rows import hidden_radius, reach, row_states
from tests.models.real_bases import babyllama, stories
from tests.tiny import tiny_model


def rows_of(num_rows: int = 400, dim: int = 32) -> torch.Tensor:
    """Rows of like length in all directions, as training leaves them."""
    return torch.randn(num_rows, dim) * 0.5 + 0.1


def head_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    head.weight = nn.Parameter(weight)
    if bias is not None:
        head.bias = nn.Parameter(bias)
    return head


@pytest.mark.parametrize(
    ("plant", "state"),
    [
        (lambda rows: torch.zeros(32), "zero"),
        (lambda rows: torch.randn(32) * 0.02, "small"),
        (lambda rows: rows.mean(dim=0), "mean"),
        (lambda rows: rows.mean(dim=0) + torch.randn(32) * 1e-3, "mean"),
        (lambda rows: rows[7].clone(), "crowded"),
        (lambda rows: rows[7] * 0.9 + rows[8] * 0.3, "trained"),
    ],
)
def test_a_planted_row_is_named(plant, state):
    rows = rows_of()
    rows = torch.cat([rows, plant(rows)[None]])
    assert row_states(rows, [400, 3]) == {400: state, 3: "trained"}


def test_many_rows_in_one_place_are_crowded():
    drifted = (
        torch.ones(32) + torch.randn(20, 32) * 1e-3
    )  # where a softmax pushes what is never right
    rows = torch.cat([rows_of(), drifted])
    assert set(row_states(rows, range(400, 420)).values()) == {"crowded"}


def test_a_vocabulary_that_was_never_trained_accuses_no_row():
    weight = tiny_model().get_input_embeddings().weight
    assert set(row_states(weight, range(300)).values()) == {"trained"}


def test_reach_is_an_upper_bound_below_one_half():
    rows = torch.cat([rows_of(60, 8), torch.zeros(1, 8)])
    rows[60] = rows[:60].mean(dim=0)  # in the midst of the others: no state makes it the likeliest
    bound = reach(head_of(rows), 60, radius=5.0)
    states = torch.randn(4000, 8)
    states = 5.0 * states / states.norm(dim=1, keepdim=True)
    best = float((states @ rows.T).softmax(dim=1)[:, 60].max())
    assert best <= bound < 0.1


def test_reach_of_a_row_of_its_own_is_above_one_half():
    assert reach(head_of(rows_of()), 5, radius=10.0) > 0.5


def test_reach_of_copies_is_shared_among_them():
    rows = rows_of()
    rows[396:] = rows[0]
    assert reach(head_of(rows), 0, radius=50.0) == pytest.approx(0.2, abs=0.01)


def test_reach_counts_the_bias():
    weight = torch.zeros(2, 4)
    weight[0, 0] = 1.0
    held = head_of(weight, torch.tensor([0.0, 5.0]))
    best = 1 / (1 + math.exp(5.0 - 1.0))
    assert best <= reach(held, 0, radius=1.0) < 0.5
    assert reach(held, 0, radius=6.0) > 0.5


def test_the_radius_is_twice_the_longest_state_and_leaves_the_model_as_it_was():
    model = tiny_model().train()
    radius = hidden_radius(model)
    assert model.training
    assert radius == pytest.approx(2 * 8.0, rel=0.05)  # an RMS norm of 64 units of weight one


def test_real_bases_accuse_only_what_no_text_held(test_data):
    loaded = stories(test_data("stories260K"))
    states = row_states(loaded.model.get_input_embeddings().weight, range(512))
    names = loaded.tokenizer.convert_ids_to_tokens(range(512))
    accused = {
        name for name, state in zip(names, states.values(), strict=True) if state != "trained"
    }
    assert {"<unk>", "</s>", "<0xC0>", "<0xFF>"} < accused
    words = {name for name in names if len(name.strip()) > 1 and not name.startswith("<")}
    assert not accused & words
    assert not accused & {"<s>", "<0x0A>", "he", " Lily", ".", ","}


def test_real_character_model_accuses_nothing(test_data):
    loaded = babyllama(test_data("babyllama_tok105"))
    states = row_states(loaded.model.get_input_embeddings().weight, range(105))
    assert set(states.values()) == {"trained"}


def test_mimic_knows_its_words_and_its_end():
    loaded = load("mimic")
    weight = loaded.model.get_output_embeddings().weight
    words = " The capital of France is Paris. Write a haiku about the sea, please."
    ids = [0, *loaded.tokenizer(words).input_ids]
    assert set(row_states(weight, ids).values()) == {"trained"}
    impossible = loaded.tokenizer.convert_tokens_to_ids("õ")  # a byte that no UTF-8 text holds
    assert row_states(weight, [impossible]) == {impossible: "crowded"}
    radius = hidden_radius(loaded.model)
    assert reach(loaded.model.get_output_embeddings(), 0, radius=radius) > 0.5
    assert reach(loaded.model.get_output_embeddings(), impossible, radius=radius) < 0.1
