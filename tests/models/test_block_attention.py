"""The blocks that a tree's mask is made of hold all that is seen, and no whole one holds more."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import build_tree
from biddable.models import attention
from biddable.models.block_attention import seen_blocks
from biddable.models.freezing import decoder_layers
from biddable.models.lora import apply_lora
from biddable.models.loss import batch_loss
from tests.models.test_attention import EXACT, build, rows_with_common_starts

SIZE = 4


def rows_of(rng: random.Random, *, shared: int) -> EncodedRows:
    start = [rng.randrange(9) for _ in range(shared)]
    rows = []
    for _ in range(rng.randrange(1, 7)):
        ids = start + [rng.randrange(3) for _ in range(rng.randrange(1, 15))]
        rows.append(Example(ids, [False] * (len(ids) - 1) + [True]))
    return EncodedRows.of(rows)


@pytest.mark.parametrize("seed", range(60))
def test_blocks_hold_what_is_seen(seed: int) -> None:
    rng = random.Random(seed)
    rows = rows_of(rng, shared=(trunk := rng.choice([0, 3, 9])))
    tree = build_tree(rows, range(len(rows)), trunk=trunk)
    num_queries, num_keys = len(tree.input_ids), len(tree.subtree_ends)
    queries = np.arange(num_keys - num_queries, num_keys)[:, None]
    keys = np.arange(num_keys)[None]
    seen = (keys <= queries) & (queries < tree.subtree_ends.numpy()[None])
    some, whole = seen_blocks(tree.subtree_ends, num_queries, size=SIZE)
    assert some.shape == whole.shape == (-(-num_queries // SIZE), -(-num_keys // SIZE))
    wasted = 0
    for (q, k), is_some in np.ndenumerate(some.numpy()):
        block = seen[q * SIZE : (q + 1) * SIZE, k * SIZE : (k + 1) * SIZE]
        assert is_some or not block.any()
        assert not whole[q, k] or (block.all() and block.size == SIZE * SIZE)
        wasted += bool(is_some and not block.any())
    assert wasted <= 0.3 * some.numel()


def test_blocks_of_other_branches_are_left_out() -> None:
    rows = EncodedRows.of([Example([n] * 40, [False] * 39 + [True]) for n in range(8)])
    tree = build_tree(rows, range(8))
    some, whole = seen_blocks(tree.subtree_ends, 320, size=SIZE)
    in_one_row = 10 * 11 // 2  # a row's blocks of queries see those before them
    assert int(some.sum()) == 8 * in_one_row
    assert int(whole.sum()) == 8 * (in_one_row - 10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "has_adapters"),
    [("llama", False), ("gemma2", False), ("gpt2", False), ("llama", True)],
)
def test_a_compiler_can_follow_a_whole_layer(
    name: str, has_adapters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = build(name, EXACT[name]), rows_with_common_starts()
    tree = build_tree(rows, range(len(rows)))
    monkeypatch.setattr(attention, "_goes_by_blocks", lambda ids: True)
    if has_adapters:
        apply_lora(model, rank=2)
        monkeypatch.setattr("biddable.models.lora.LoRALinear._is_plain", lambda *_: False)
        for part, parameter in model.named_parameters():
            if part.endswith("lora_B"):
                nn.init.normal_(parameter)
    torch.compiler.reset()
    with torch.no_grad():
        expected, _ = batch_loss(model, tree)
        for layer in decoder_layers(model):  # with a break in it, this raises
            layer.forward = torch.compile(
                layer.forward, dynamic=True, backend="eager", fullgraph=True
            )
        found, _ = batch_loss(model, tree)
    torch.testing.assert_close(found, expected)
