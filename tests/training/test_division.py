"""What one of several processes holds, by hand, and in the plan."""

import pytest

from biddable.models.freezing import freeze_layers
from biddable.training.costs import MicroBatch, States
from biddable.training.division import Division
from tests.tiny import tiny_model

LAYER = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128 + 2 * 64
EMBEDDINGS = 300 * 64
NORM = 64


def test_all_that_is_in_no_layer_and_two_layers_are_gathered():
    found = Division.of(tiny_model(num_layers=5))
    assert found.weights == found.trained == 5 * LAYER + 2 * EMBEDDINGS + NORM
    assert (found.whole, found.whole_trained) == (0, 0)
    assert found.gathered == 2 * LAYER + 2 * EMBEDDINGS + NORM
    assert found.gathered_trained == 2 * EMBEDDINGS + NORM
    assert found.kept(3) == -(-found.weights // 3)


def test_what_head_and_embeddings_share_is_whole_and_frozen_layers_do_not_train():
    model = tiny_model(num_layers=3, tie=True)
    freeze_layers(model, 1)
    model.get_input_embeddings().requires_grad_(True)
    found = Division.of(model, in_bytes=True)
    assert (found.whole, found.whole_trained) == (4 * EMBEDDINGS, 4 * EMBEDDINGS)
    assert found.trained == 4 * (2 * LAYER + NORM)
    assert found.kept(2) == 4 * EMBEDDINGS + 2 * (3 * LAYER + NORM)
    assert found.kept_trained(2) == 4 * EMBEDDINGS + 2 * (2 * LAYER + NORM)
    assert found.gathered_trained == 4 * LAYER


def test_no_more_than_what_a_pass_gathers_is_whole_at_the_peak_of_a_share():
    model = tiny_model(num_layers=5)
    whole, parts = States.of(model), Division.of(model, in_bytes=True)
    share = whole.divided(parts, 2)
    kept = parts.kept(2) + whole.weights - parts.weights  # buffers are not divided
    later = MicroBatch((0,), 1, 1, 1, num_places=0, has_gradients=True)
    late = share.peak(later, activations=0, program=7)
    assert late.weights == kept + parts.gathered < kept + parts.weights
    assert late.gradients == parts.kept(2) + parts.gathered_trained
    assert late.optimizer == 2 * parts.kept(2)
    in_a_pass = share.peak(later, activations=10**9, program=7)
    assert in_a_pass.weights == kept + parts.gathered
    assert in_a_pass.peak < whole.peak(later, activations=10**9, program=7).peak


def test_the_head_of_a_divided_model_runs_once():
    model = tiny_model()
    whole = States.of(model)
    share = whole.divided(Division.of(model, in_bytes=True), 2)
    num_places = 10**6
    assert share.logits(num_places) - share.head_trained == 2 * num_places * 300 * 4
    assert whole.logits(num_places) < share.logits(num_places) / 5


@pytest.mark.parametrize("num_processes", [2, 8])
def test_shares_add_up_to_no_less_than_the_model(num_processes):
    found = Division.of(tiny_model())
    assert 0 <= num_processes * found.kept(num_processes) - found.weights < num_processes
