"""Read many prompts at once, each token that they have in common once and without padding.

The prompts are laid out as the tree of their common starts, as rows are in training
(data/trees.py); what a cache needs to go on from each of them is then gathered out of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from biddable.data.encoded import EncodedRows, Example
from biddable.data.trees import build_tree, sort_rows, walk
from biddable.models.attention import TrunkKeys, tree_attention
from biddable.models.rope import own_angles


@dataclass(frozen=True, slots=True)
class ReadPrompts:
    """Hold what is known after B prompts, those shorter than the longest of T padded on the left.

    Attributes:
        logits: (B, V), of the id that follows.
        attention_mask: (B, T), 1 where a prompt has an id.
        states: the keys and values of each layer, (B, H, T, D); where there is padding, any.
    """

    logits: Tensor
    attention_mask: Tensor
    states: list[tuple[Tensor, Tensor]]


def read_as_tree(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> ReadPrompts:
    """Run a model on prompts; exact where `why_not_exact` finds nothing.

    Args:
        model: a transformers causal LM, each of whose layers attends to all that came before.
        prompts: ids of each, none empty, and all of one kind (`AngleLimits.kind`).
    """
    rows = EncodedRows.of([Example(list(ids), [True] * len(ids)) for ids in prompts])
    tree, keys = build_tree(rows, range(len(prompts))).to(model.device), TrunkKeys()
    nodes, mask = _paths(rows)
    nodes, mask = nodes.to(model.device), mask.to(model.device)
    inputs = {**tree.inputs(), "use_cache": False}
    can_choose = "logits_to_keep" in inspect.signature(model.forward).parameters
    if can_choose:
        inputs["logits_to_keep"] = nodes[:, -1]
    with own_angles(model), tree_attention(model, tree, keys):
        logits: Tensor = model(**inputs).logits[0]  # (B, V), or (N, V)
    states = [(_gather(key, nodes), _gather(value, nodes)) for key, value in keys.kept()]
    return ReadPrompts(logits if can_choose else logits[nodes[:, -1]], mask, states)


def _paths(rows: EncodedRows) -> tuple[Tensor, Tensor]:
    """Return each row's nodes and where there are some, (B, T) both; the padding is node 0."""
    nodes = np.zeros((len(rows), int(rows.lengths.max())), np.int64)
    mask = np.zeros_like(nodes)
    ordered = sort_rows(rows, range(len(rows)))
    for number, branch in zip(ordered, walk(rows, ordered), strict=True):
        nodes[number, -len(branch.path) :] = branch.path
        mask[number, -len(branch.path) :] = 1
    return torch.from_numpy(nodes), torch.from_numpy(mask)


def _gather(states: Tensor, nodes: Tensor) -> Tensor:
    """Take (1, H, N, D) states to (B, H, T, D)."""
    taken = states[0].index_select(1, nodes.flatten())  # (H, B * T, D)
    rows: Tensor = taken.unflatten(1, nodes.shape)  # (H, B, T, D)
    return rows.transpose(0, 1)
