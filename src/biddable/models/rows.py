"""Judge rows of a vocabulary's matrix: were they trained, and can the head ever choose them?

Training moves the row of every token that a text holds, so a row that no text ever reached shows:
it is still where the start put it (small, or the mean of the others), or lies where the softmax
pushes all rows that are never right (many in one place). docs/readiness.md has the reasons and
what was measured on real models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

RowState = Literal["trained", "zero", "small", "mean", "crowded"]

# Shares of what is usual in the matrix itself, so that no model's scale matters.
_ZERO, _SMALL, _MEAN, _COPY, _CROWD = 0.01, 0.5, 0.05, 0.001, 0.04
_CROWD_SIZE = 3
_MAX_STEPS = 300
_PROBE_LENGTH = 64
_SLACK = 2.0  # a tuned model's hidden states may be longer than those seen before


def matrix(module: nn.Module) -> Tensor:
    """Return the (V, D) weight of embeddings or of a head."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def row_states(weight: Tensor, ids: Iterable[int]) -> dict[int, RowState]:
    """Say of some rows whether they look trained, beside all rows of the matrix.

    Args:
        weight: (V, D), the embeddings or the head.
        ids: the rows asked about.

    Returns:
        For each: ``trained``; ``zero``; ``small`` (its norm below half of what 95 % of the rows
        exceed); ``mean`` (the average of all rows); ``crowded`` (a copy of another row, or in one
        place with three others).
    """
    rows = weight.detach().float()
    norms = rows.norm(dim=1)
    usual = float(norms.median())
    small = _SMALL * float(_quantile(norms, 0.05))
    mean = rows.mean(dim=0)
    usual_distance = float(_distances(rows, mean).median())

    def state(token_id: int) -> RowState:
        norm = float(norms[token_id])
        if norm <= _ZERO * usual:
            return "zero"
        if float((rows[token_id] - mean).norm()) <= _MEAN * usual_distance:
            return "mean"
        if norm < small:
            return "small"
        near = _distances(rows, rows[token_id])
        near[token_id] = math.inf
        first = near.topk(min(_CROWD_SIZE, len(near) - 1), largest=False).values
        is_crowded = float(first[0]) <= _COPY * usual or float(first[-1]) <= _CROWD * usual
        return "crowded" if is_crowded else "trained"

    return {token_id: state(token_id) for token_id in ids}


def hidden_radius(model: PreTrainedModel) -> float:
    """Measure how long the hidden states before the head are, on ids from all over the vocabulary.

    Returns:
        Twice the longest one: what a tuned model may reach.
    """
    head = model.get_output_embeddings()
    seen: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    num_rows = len(matrix(model.get_input_embeddings()))
    ids = torch.linspace(0, num_rows - 1, min(_PROBE_LENGTH, num_rows)).long().unique()
    was_training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            model(input_ids=ids[None].to(model.device), use_cache=False)
    finally:
        handle.remove()
        model.train(was_training)
    return _SLACK * float(seen[0].float().norm(dim=-1).max())


@torch.no_grad()
def reach(head: nn.Module, token_id: int, *, radius: float) -> float:
    """Find the highest probability that a head, as it is, can give a token.

    The logarithm of a softmax is concave in the hidden state, so its maximum over all states up to
    a length is found, and bounded from above, by Frank and Wolfe's steps.

    Args:
        head: its ``weight`` is (V, D); it may have a ``bias``.
        token_id: the token.
        radius: of the ball of hidden states.

    Returns:
        A probability. Below one half it is an upper bound, so the token can never be likelier than
        all others together; else it is one that some state reaches.
    """
    weight = matrix(head).detach().float()
    bias: Tensor | None = getattr(head, "bias", None)
    offset = torch.zeros(len(weight)).to(weight) if bias is None else bias.detach().float()
    state = torch.zeros(weight.shape[1]).to(weight)
    logits = offset
    half = math.log(0.5)
    value = bound = -math.inf
    for _ in range(_MAX_STEPS):
        log_probabilities = logits.log_softmax(dim=0)
        value = float(log_probabilities[token_id])
        slope = weight[token_id] - log_probabilities.exp() @ weight
        corner = radius * slope / slope.norm().clamp_min(1e-30)
        bound = value + float(slope @ (corner - state))
        if value > half or bound < half:
            break
        corner_logits = weight @ corner + offset
        share = _best_share(logits, corner_logits, token_id)
        state = state + share * (corner - state)
        logits = logits + share * (corner_logits - logits)
    return math.exp(bound if bound < half else value)


def _best_share(start: Tensor, end: Tensor, token_id: int) -> float:
    """Find how far to go from one point's logits to another's; the way between is concave."""
    low, high = 0.0, 1.0
    for _ in range(24):
        third = (high - low) / 3
        left, right = (
            float((start + share * (end - start)).log_softmax(dim=0)[token_id])
            for share in (low + third, high - third)
        )
        low, high = (low + third, high) if left < right else (low, high - third)
    return (low + high) / 2


def _distances(rows: Tensor, point: Tensor) -> Tensor:
    """Measure from each row, a part at a time: the difference of all would double the memory."""
    return torch.cat([(part - point).norm(dim=1) for part in rows.split(8192)])


def _quantile(values: Tensor, share: float) -> Tensor:
    """Take a quantile; torch's own refuses more than 16 million values, and sorts as this does."""
    ordered = values.sort().values
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
