"""Hold our loss against the one that transformers computes."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from biddable.data.batching import collate
from biddable.models.loss import batch_loss
from tests.tiny import tiny_model
from tests.training.rows import random_examples

pytestmark = pytest.mark.parity


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2)).eval()


@pytest.mark.parametrize("make", [tiny_model, gpt2])
def test_sum_over_count_is_the_mean_of_transformers(make):
    model = make().double()
    batch = collate(random_examples(6), pad_id=3)
    loss_sum, count = batch_loss(model, batch)
    theirs = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
    ).loss
    # theirs is summed in float32 whatever the model's type
    torch.testing.assert_close((loss_sum / count).float(), theirs, rtol=1e-6, atol=0)
    ours = torch.autograd.grad(loss_sum / count, list(model.parameters()))
    expected = torch.autograd.grad(theirs, list(model.parameters()))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
