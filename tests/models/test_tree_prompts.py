"""Prompts read as one tree leave what each of them leaves alone."""

import pytest
import torch

from biddable.models.tree_prompts import read_as_tree
from tests.tiny import tiny_gpt2, tiny_model

PROMPTS = [[1, 2, 3, 4, 9], [1, 2, 3], [1, 2, 3, 4, 5, 6], [7], [1, 2, 3]]


@pytest.mark.parametrize("make", [tiny_model, tiny_gpt2])
@torch.no_grad()
def test_logits_and_states_are_those_of_each_prompt_alone(make):
    model = make().double().eval()
    read = read_as_tree(model, PROMPTS)
    assert read.attention_mask.tolist() == [[0] * (6 - len(p)) + [1] * len(p) for p in PROMPTS]
    for row, prompt in enumerate(PROMPTS):
        alone = model(torch.tensor([prompt]), use_cache=True)
        torch.testing.assert_close(read.logits[row], alone.logits[0, -1])
        for (key, value), layer in zip(read.states, alone.past_key_values.layers, strict=True):
            torch.testing.assert_close(key[row, :, -len(prompt) :], layer.keys[0])
            torch.testing.assert_close(value[row, :, -len(prompt) :], layer.values[0])
