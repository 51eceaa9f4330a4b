import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, GPT2Config, GPT2LMHeadModel

from biddable.data.batching import Batch, collate
from biddable.data.encoding import IGNORE_INDEX, Example
from biddable.models import head as head_module
from biddable.models import loss as loss_module
from biddable.models.head import Body
from biddable.models.loss import (
    Edges,
    accumulate_gradient,
    batch_loss,
    edge_loss,
    next_token_loss,
)
from tests.tiny import in_exact_doubles, tiny_model

ROWS = [
    Example([5, 6, 7, 8, 9], [False, False, True, True, True]),
    Example([5, 9, 3], [False, True, True]),
]


def test_adds_up_and_counts_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]))
    labels = torch.tensor([[IGNORE_INDEX, 1, 0]])
    loss_sum, count = next_token_loss(logits, labels)
    assert count.item() == 2
    expected = -(torch.tensor(0.5).log() + torch.tensor(0.25).log())
    torch.testing.assert_close(loss_sum, expected)


def test_first_label_is_never_counted():
    _, count = next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[1, IGNORE_INDEX, 2]]))
    assert count.item() == 1


def test_nothing_learned_is_zero_of_zero():
    loss_sum, count = next_token_loss(torch.ones(2, 3, 4), torch.full((2, 3), IGNORE_INDEX))
    assert (loss_sum.item(), count.item()) == (0.0, 0)
    batch = collate([Example([1, 2, 3], [False] * 3)])
    model = tiny_model()
    loss_sum, count = batch_loss(model, batch)
    assert (loss_sum.item(), count.item()) == (0.0, 0)
    assert accumulate_gradient(model, batch, num_loss_tokens=1).item() == 0.0
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("shape", [(2, 4), (3,), (2, 3, 1)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"expected \(B, T\) and \(B, T, V\)"):
        next_token_loss(torch.zeros(2, 3, 4), torch.zeros(shape, dtype=torch.long))


def test_half_precision_is_summed_in_float32():
    loss_sum, _ = next_token_loss(torch.zeros(1, 3, 4).bfloat16(), torch.tensor([[0, 1, 2]]))
    assert loss_sum.dtype == torch.float32


@pytest.mark.parametrize("max_logits", [300, 700, 2**24])
@pytest.mark.parametrize("is_whole", [False, True])
def test_the_loss_and_gradient_are_those_of_all_logits(monkeypatch, max_logits, is_whole):
    model = tiny_model(dtype=torch.float64)
    in_exact_doubles(monkeypatch)
    batch = collate(ROWS)
    expected, expected_count = next_token_loss(
        model(batch.input_ids, attention_mask=batch.attention_mask).logits, batch.labels
    )
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    monkeypatch.setattr(loss_module, "MAX_LOGITS", max_logits)
    if is_whole:  # a model whose head cannot be run by itself
        monkeypatch.setattr(head_module, "_find", lambda model: ("", "it is in one piece"))
    loss_sum, count = batch_loss(model, batch)
    assert count == expected_count == 5
    torch.testing.assert_close(loss_sum, expected, rtol=0, atol=1e-10)
    found = torch.autograd.grad(loss_sum, list(model.parameters()))
    torch.testing.assert_close(found, gradients, rtol=0, atol=1e-10)

    share = accumulate_gradient(model, batch, num_loss_tokens=10)
    torch.testing.assert_close(share, expected.detach() / 10, rtol=0, atol=1e-10)
    found = tuple(p.grad * 10 for p in model.parameters())
    torch.testing.assert_close(found, gradients, rtol=0, atol=1e-10)


def test_the_logits_are_never_all_in_memory(monkeypatch):
    model, sizes = tiny_model(), []
    Body(model)  # which tries the head
    model.lm_head.register_forward_hook(lambda module, given, out: sizes.append(out.shape[-2]))
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 2 * 300)
    accumulate_gradient(model, collate(ROWS), num_loss_tokens=5)
    assert sizes == [2, 2, 1]


def test_the_logits_of_a_pass_are_cut_into_parts_of_about_one_size(monkeypatch):
    model, sizes = tiny_model(), []
    Body(model)
    model.lm_head.register_forward_hook(lambda module, given, out: sizes.append(out.shape[-2]))
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 8 * 300)
    nine = Example(list(range(5, 15)), [True] * 10)
    accumulate_gradient(model, collate([nine]), num_loss_tokens=9)
    assert sizes == [5, 4]


def test_a_model_that_bends_its_logits_bends_them_here_too():
    config = CohereConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, logit_scale=0.3
    )
    model = CohereForCausalLM(config).eval()
    batch = collate(ROWS)
    expected = next_token_loss(model(batch.input_ids).logits, batch.labels)
    torch.testing.assert_close(batch_loss(model, batch), expected)


def test_the_gradient_is_the_derivative():
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    edges = Edges(
        torch.tensor([0, 0, 2, 3]), torch.tensor([1, 1, 5, 0]), torch.tensor([1, 2, 1, 3])
    )
    assert torch.autograd.gradcheck(lambda given: edge_loss(given, edges), [logits])


def test_left_padding_keeps_its_mask():
    model = tiny_model(dtype=torch.float64)
    row = collate(ROWS[1:])
    padded = Batch(
        torch.nn.functional.pad(row.input_ids, (2, 0), value=7),
        torch.nn.functional.pad(row.attention_mask, (2, 0)),
        torch.nn.functional.pad(row.labels, (2, 0), value=IGNORE_INDEX),
    )
    # rotary positions are relative, so that only the mask decides
    torch.testing.assert_close(batch_loss(model, padded), batch_loss(model, row), atol=1e-7, rtol=0)


def test_another_architecture_gives_the_same_as_its_own_logits():
    config = GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=32)
    model = GPT2LMHeadModel(config).eval()
    batch = collate(ROWS, pad_id=3)
    mask = batch.attention_mask
    expected = next_token_loss(model(batch.input_ids, attention_mask=mask).logits, batch.labels)
    torch.testing.assert_close(batch_loss(model, batch), expected)
