"""The loss of next-token prediction, as a sum and a count.

The one place where labels are shifted. Nothing here divides: the trainer divides once, by the
count of all micro-batches of a step. Sits between data/batching and the trainer.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from types import FunctionType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biddable.data.batching import Batch
from biddable.data.encoding import IGNORE_INDEX

HeadHook = Literal["mask", "positions", "none"]


def next_token_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Add up the cross-entropy of the learned tokens, and count them.

    A sum and a count, not a mean: micro-batches of different length can then be
    added before the one division that makes every learned token weigh the same.

    Args:
        logits: (B, T, V), any float type; computed in float32, or float64 if given so.
        labels: (B, T), not shifted; ``IGNORE_INDEX`` where nothing is learned.

    Returns:
        loss_sum: scalar, nats.
        num_loss_tokens: scalar int64; may be 0, and then loss_sum is 0.

    Raises:
        ValueError: ``labels`` is not (B, T) of ``logits``.
    """
    if logits.shape[:-1] != labels.shape or labels.dim() != 2:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and logits {tuple(logits.shape)}; "
            "expected (B, T) and (B, T, V)."
        )
    # the logits at t predict the token at t + 1: the only shift in the package
    return _sum_and_count(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def batch_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Run a causal LM on a batch and add up the loss of its learned tokens.

    The head, often the dearest layer, runs only where the next token is learned, if the model's
    own ``logits_to_keep`` allows it; the result is the same as `next_token_loss` on all logits.

    Args:
        model: a transformers causal LM.
        batch: ids, attention mask and labels, each (B, T), padded on the right.

    Returns:
        loss_sum: scalar, nats.
        num_loss_tokens: scalar int64.
    """
    device = next(model.parameters()).device
    input_ids, labels = batch.input_ids.to(device), batch.labels.to(device)
    inputs = {"input_ids": input_ids, "use_cache": False}
    if not _is_right_padded(batch.attention_mask):
        inputs["attention_mask"] = batch.attention_mask.to(device)
    # else no token sees the padding behind it, and attention without a mask is faster

    targets = labels[:, 1:]  # (B, T - 1)
    is_learned = targets != IGNORE_INDEX
    hook = _head_hook(inspect.unwrap(type(model).forward))
    if hook == "mask":
        keep = F.pad(is_learned, (0, 1))  # (B, T); nothing follows the last token
        logits = model(**inputs, logits_to_keep=keep).logits  # (N, V)
        return _sum_and_count(logits, targets[is_learned])
    if hook == "positions":
        columns = is_learned.any(dim=0).nonzero().squeeze(1)  # (K,)
        logits = model(**inputs, logits_to_keep=columns).logits  # (B, K, V)
        return _sum_and_count(logits.flatten(0, 1), targets[:, columns].flatten())
    return next_token_loss(model(**inputs).logits, labels)


def _sum_and_count(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the loss of (N, V) logits against their (N,) already shifted targets."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    loss_sum = F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction="sum")
    return loss_sum, (targets != IGNORE_INDEX).sum()


def _is_right_padded(attention_mask: Tensor) -> bool:
    return bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())


@lru_cache(maxsize=64)
def _head_hook(forward: FunctionType) -> HeadHook:
    """Say how a model's forward lets its head run on fewer positions."""
    if "logits_to_keep" not in inspect.signature(forward).parameters:
        return "none"
    # transformers models that cut with this function also take a (B, T) mask of positions
    return "mask" if "slice_logits_to_keep" in forward.__globals__ else "positions"
