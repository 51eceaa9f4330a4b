"""The adapter's own backward pass is the derivative, and gives what separate operations give."""

import torch

from biddable.models.lora import LoRALinear
from biddable.models.low_rank import low_rank_linear


def test_it_is_the_derivative_of_what_it_computes():
    def wide(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    weight, bias = wide(5, 4).detach(), wide(5).detach()
    inputs = (wide(2, 3, 4), wide(4, 2), wide(2, 5))
    assert torch.autograd.gradcheck(
        lambda x, a, b: low_rank_linear(x, (weight, bias), a, b, 0.7), inputs
    )
    x, a, b = inputs
    expected = x @ weight.T + bias + 0.7 * (x @ a @ b)
    torch.testing.assert_close(low_rank_linear(x, (weight, bias), a, b, 0.7), expected)


def test_dropout_and_other_types_go_the_plain_way():
    layer = LoRALinear(4, 5, rank=2, dropout=0.5)
    x = torch.randn(3, 4)
    assert not layer._is_plain(x)
    assert layer.eval()._is_plain(x)
    assert not layer._is_plain(x.double())


def test_an_input_without_a_gradient_is_given_none():
    layer = LoRALinear(4, 5, rank=2)
    x = torch.randn(3, 4)
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.lora_B.grad is not None
