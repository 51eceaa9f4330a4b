import math

import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.data.encoding import Example
from biddable.errors import DataError, TrainingError
from biddable.models.lora import apply_lora
from biddable.training.held_out import held_out_loss
from biddable.training.trainer import train
from tests.tiny import tiny_model
from tests.training.rows import countable_examples, random_examples


def weights_of(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_learns_a_rule_and_logs_it():
    model = tiny_model()
    events = []
    settings = TrainingConfig(epochs=6, batch_size=8, learning_rate=5e-3)
    log = train(
        model,
        countable_examples(40),
        settings=settings,
        held_out=countable_examples(40)[:10],
        on_event=events.append,
    )
    steps = [r for r in log.records if r["event"] == "step"]
    assert len(steps) == log.num_steps == 30
    assert steps[-1]["loss"] < 0.3 * steps[0]["loss"]
    assert len(log.held_out_losses) == 7
    assert log.held_out_losses[-1] < 0.3 * log.held_out_losses[0]
    assert (log.num_tokens, log.num_loss_tokens) == (6 * 40 * 5, 6 * 40 * 3)
    assert (log.learning_rate, log.learning_rate_reason) == (5e-3, "as given")
    assert events[2:-1] == log.records
    assert [events[n]["event"] for n in (0, 1, -1)] == ["plan", "start", "end"]
    assert not model.training


def test_the_first_loss_is_that_of_the_untouched_model():
    model = tiny_model()
    examples = random_examples(8)
    expected, count = held_out_loss(model, examples)
    log = train(model, examples, settings=TrainingConfig(epochs=1, batch_size=8))
    assert log.records[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert log.records[0]["num_loss_tokens"] == count


def test_frozen_parameters_stay_bit_for_bit():
    model = tiny_model()
    apply_lora(model, rank=2)
    before = weights_of(model)
    log = train(model, random_examples(8), settings=TrainingConfig(epochs=1, batch_size=4))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert log.learning_rate == 2e-3
    assert "lora" in log.learning_rate_reason


def test_gradients_are_cut_to_the_norm():
    norms = []
    for max_norm in (1e-9, 1e9):
        model = tiny_model()
        settings = TrainingConfig(epochs=1, batch_size=8, max_grad_norm=max_norm)
        log = train(model, random_examples(8), settings=settings)
        norms.append(log.records[0]["grad_norm"])
        total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        assert total <= max_norm * 1.01
    assert norms[0] == norms[1] > 1e-9  # what is logged is the norm before the cut


def test_learning_rate_follows_the_schedule():
    settings = TrainingConfig(
        epochs=1, batch_size=1, learning_rate=0.1, schedule="linear", warmup_share=0.2
    )
    log = train(tiny_model(), random_examples(5), settings=settings)
    assert [r["lr"] for r in log.records] == pytest.approx([0.1, 0.1, 0.075, 0.05, 0.025])


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(tiny_model(), random_examples(2), settings=TrainingConfig(epochs=1))
    assert torch.equal(torch.rand(1), expected)


def test_a_loss_that_is_no_number_never_reaches_the_weights():
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[3] = math.inf
    before = weights_of(model)
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan.*rows\.jsonl:\d+"):
        train(model, random_examples(4), settings=TrainingConfig(epochs=1))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert not model.training


def test_a_gradient_that_is_no_number_never_reaches_the_weights():
    model = tiny_model()
    model.lm_head.weight.register_hook(lambda grad: grad * math.nan)
    before = weights_of(model)
    with pytest.raises(TrainingError, match=r"the gradient is nan.*and 4 more"):
        train(model, random_examples(12), settings=TrainingConfig(epochs=1, batch_size=12))
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_a_held_out_loss_that_is_no_number_is_said():
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight[3] = math.inf
    with pytest.raises(TrainingError, match="held-out loss is nan"):
        train(
            model,
            random_examples(2),
            settings=TrainingConfig(epochs=1),
            held_out=random_examples(2),
        )


def test_no_rows_and_rows_without_an_answer_are_refused():
    with pytest.raises(DataError, match="no rows"):
        train(tiny_model(), [], settings=TrainingConfig())
    # a first token is predicted by nothing, so that learning it alone is learning nothing
    example = Example([1, 2], [True, False], "a.jsonl:7")
    with pytest.raises(DataError, match=r"a\.jsonl:7: nothing in it is learned"):
        train(tiny_model(), [example], settings=TrainingConfig())


def test_a_frozen_model_is_refused():
    model = tiny_model().requires_grad_(False)
    with pytest.raises(TrainingError, match="every parameter of the model is frozen"):
        train(model, random_examples(2), settings=TrainingConfig())
