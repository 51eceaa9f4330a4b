"""The loss of next-token prediction, as a sum and a count, and its gradient.

The one place where labels are shifted: a padded batch and a prefix tree both come down to edges,
each from the place of a token to the id that follows it. Nothing here averages: the trainer gives
the count of all micro-batches of a step. Sits between data/batching and the trainer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biddable.data.batching import Batch
from biddable.data.encoding import IGNORE_INDEX
from biddable.data.trees import TreeBatch
from biddable.models.attention import TrunkKeys, tree_attention
from biddable.models.direct_gradients import is_kept_by_nothing
from biddable.models.head import Body
from biddable.models.lean_layers import read_at

# Logits in memory at once; those of a longer batch are made, used and forgotten part by part. A
# GPU is busy with more of them, and has a call's overhead to save.
MAX_LOGITS, MAX_LOGITS_ON_GPU = 2**22, 2**27


@dataclass(frozen=True, slots=True)
class Edges:
    """Hold what is learned in a batch: E steps from a token to the one after it.

    Attributes:
        parents: (E,), places in the batch's flat tokens.
        targets: (E,), the ids that follow.
        weights: (E,), how many rows learn each.
    """

    parents: Tensor
    targets: Tensor
    weights: Tensor

    @classmethod
    def of(cls, batch: Batch | TreeBatch) -> Edges:
        """List the learned edges of a batch."""
        if isinstance(batch, TreeBatch):
            return cls(batch.parents, batch.targets, batch.weights)
        targets = batch.labels[:, 1:]  # the token at t predicts the one at t + 1
        rows, columns = (targets != IGNORE_INDEX).nonzero(as_tuple=True)
        parents = rows * batch.labels.shape[1] + columns
        return cls(parents, targets[rows, columns], torch.ones_like(parents))

    def to(self, device: torch.device) -> Edges:
        """Copy the tensors to a device."""
        given = (self.parents, self.targets, self.weights)
        return Edges(*(tensor.to(device, non_blocking=True) for tensor in given))


def logits_at_once(device: torch.device) -> int:
    """Say how many logits are in memory at once, at most."""
    return MAX_LOGITS if device.type == "cpu" else MAX_LOGITS_ON_GPU


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
    edges = Edges.of(Batch(labels, labels, labels))
    return edge_loss(logits.flatten(0, 1), edges), edges.weights.sum()


def edge_loss(logits: Tensor, edges: Edges) -> Tensor:
    """Add up the weighted cross-entropy of edges.

    Args:
        logits: (N, V), any float type; computed in float32, or float64 if given so.
        edges: their parents are rows of ``logits``.

    Returns:
        A scalar, nats.
    """
    loss: Tensor = _EdgeLoss.apply(logits, edges)  # type: ignore[no-untyped-call]
    return loss


def batch_loss(model: nn.Module, batch: Batch | TreeBatch) -> tuple[Tensor, Tensor]:
    """Run a causal LM on a batch and add up the loss of its learned tokens.

    The head, often the dearest layer, runs only where the next token is learned.

    Args:
        model: a transformers causal LM.
        batch: padded on the right, or a tree.

    Returns:
        loss_sum: scalar, nats.
        num_loss_tokens: scalar int64.
    """
    body, edges, inputs = Body(model), Edges.of(batch), _inputs(batch, _device(model))
    loss_sum = torch.zeros((), device=_device(model))
    with _attention(model, batch), read_at(_places(edges, model)):
        states = body.states(**inputs)
        for places, part in _parts(edges, model):
            loss_sum = loss_sum + edge_loss(body.logits(states[places]), part)
    return loss_sum, edges.weights.sum()


def states_of(model: nn.Module, batch: Batch | TreeBatch) -> Tensor:
    """Run the layers below the head, which keep what their gradient needs as long as it lives.

    Args:
        model: a transformers causal LM.
        batch: padded on the right, or a tree.

    Returns:
        (B * T, D), or (N, D) of a tree's N nodes.
    """
    body, edges = Body(model), Edges.of(batch)
    with _attention(model, batch), read_at(_places(edges, model)):
        return body.states(**_inputs(batch, _device(model)))


def accumulate_gradient(
    model: nn.Module,
    batch: Batch | TreeBatch,
    *,
    num_loss_tokens: float,
    trunk: Trunk | None = None,
    in_one_part: bool = False,
) -> Tensor:
    """Add a micro-batch's gradient to that of the parameters which train.

    The same as ``(batch_loss(..)[0] / num_loss_tokens).backward()``, with the logits of one part
    of the batch at a time in memory: each is turned into a gradient before the next is made.

    Args:
        model: a transformers causal LM.
        batch: padded on the right, or a tree.
        num_loss_tokens: of the whole optimizer step, what its loss is divided by; infinity for a
            pass that comes to nothing.
        trunk: what the tree goes on from; it is given its share of the gradient.
        in_one_part: run the head exactly once, whatever memory its logits take, as processes do
            that each hold but a part of it.

    Returns:
        The micro-batch's share of the step's loss, without a graph. If it is not finite, neither
        is the gradient.
    """
    inputs, edges = _inputs(batch, _device(model)), Edges.of(batch)
    body, keys = Body(model), None if trunk is None else trunk.keys
    with _attention(model, batch, keys), read_at(_places(edges, model)):
        states = body.states(**inputs)
        parts = _one_part(edges, model) if in_one_part else _parts(edges, model)
        loss, gradient = _learn(body, states, parts, num_loss_tokens)
        if gradient is not None:
            states.backward(gradient)
    return loss


class Trunk:
    """The start that all rows of a step have in common, run once for all of its micro-batches.

    Attributes:
        keys: what the micro-batches' trees see of it.
        loss: its share of the step's loss, without a graph.
    """

    def __init__(self, model: nn.Module, tree: TreeBatch, *, num_loss_tokens: int) -> None:
        """Run it.

        Args:
            model: a transformers causal LM.
            tree: the trunk of all rows of a step.
            num_loss_tokens: of the whole optimizer step, what its loss is divided by.
        """
        self.keys = TrunkKeys()
        self._model, self._tree = model, tree.to(_device(model))
        edges = Edges.of(tree)
        body, self._places = Body(model), _places(edges, model)
        with self._attention(), read_at(self._places):
            self._states = body.states(**self._tree.inputs())
            parts = _parts(edges, model)
            self.loss, self._gradient = _learn(body, self._states, parts, num_loss_tokens)

    def backward(self) -> None:
        """Add its gradient to that of the parameters, once the micro-batches have given theirs."""
        ends = self.keys.gradients()
        if self._gradient is not None:
            ends.append((self._states, self._gradient))
        if ends:
            with self._attention(), read_at(self._places):
                torch.autograd.backward([made for made, _ in ends], [by for _, by in ends])

    def _attention(self) -> AbstractContextManager[None]:
        return tree_attention(self._model, self._tree, self.keys)


def _learn(
    body: Body, states: Tensor, parts: Iterable[tuple[Tensor, Edges]], num_loss_tokens: float
) -> tuple[Tensor, Tensor | None]:
    """Give the loss of some states, and its gradient by them; the head's own is added at once."""
    loss = torch.zeros((), device=states.device)
    # the graph is cut here, and put together again by the gradient of the cut
    cut = states.detach().requires_grad_(states.requires_grad)
    for places, part in parts:
        logits = body.logits(cut[places])
        if logits.requires_grad:
            may_overwrite = is_kept_by_nothing(logits)
            # written through detach(), a view would be made anew for the gradient, with a copy
            values = logits.data if may_overwrite else logits.detach()
            part_loss, gradient = _loss_and_gradient(
                values, part, num_loss_tokens, may_overwrite=may_overwrite
            )
            del values
            logits.backward(gradient)
        else:
            part_loss = _loss(logits, part) / num_loss_tokens
        loss = loss + part_loss
        del logits  # or the next part would lie beside it
    return loss, cut.grad


class _EdgeLoss(torch.autograd.Function):
    """Cross-entropy of weighted edges, its gradient made along with it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, edges: Edges) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return _loss(logits, edges)
        loss, gradient = _loss_and_gradient(logits, edges)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0], None


def _loss(logits: Tensor, edges: Edges) -> Tensor:
    """Add up the weighted cross-entropy of edges whose parents are rows of (N, V) logits."""
    scores = logits.to(_wide(logits.dtype))
    losses = scores.logsumexp(dim=-1)[edges.parents] - scores[edges.parents, edges.targets]
    return (losses * edges.weights).sum()


def _loss_and_gradient(
    logits: Tensor, edges: Edges, divisor: float = 1, *, may_overwrite: bool = False
) -> tuple[Tensor, Tensor]:
    """Give the loss and its gradient by the logits, (N, V), both divided by a number."""
    places = edges.parents, edges.targets
    scores = logits.to(_wide(logits.dtype))
    largest = scores.amax(dim=-1, keepdim=True)
    is_ours = may_overwrite or scores is not logits
    shares = scores.sub_(largest) if is_ours else scores - largest
    learned = shares[places]
    sums = shares.exp_().sum(dim=-1)
    loss = ((sums.log()[edges.parents] - learned) * edges.weights).sum()
    weights = edges.weights.to(shares.dtype)
    totals = torch.zeros_like(sums).index_add_(0, edges.parents, weights)
    gradient = shares.mul_((totals / sums / divisor)[:, None])
    gradient.index_put_(places, -weights / divisor, accumulate=True)
    return loss / divisor, gradient.to(logits.dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _parts(edges: Edges, model: nn.Module) -> Iterator[tuple[Tensor, Edges]]:
    """Cut edges so that the logits of a part are at most `logits_at_once`.

    Yields:
        The places whose logits a part needs, each once, and its edges with parents among those;
        on the model's device.
    """
    device = _device(model)
    places, rows = edges.parents.unique(return_inverse=True)
    order = rows.argsort(stable=True)
    rows, targets, weights = rows[order], edges.targets[order], edges.weights[order]
    most = max(logits_at_once(device) // _num_logits(model), 1)
    num_parts = max(-(-len(places) // most), 1)
    size = max(-(-len(places) // num_parts), 1)  # about the same for all
    starts = range(0, len(places), size)
    firsts = torch.searchsorted(rows, torch.tensor(starts, device=rows.device)).tolist()
    lasts = [*firsts[1:], len(rows)]
    for start, first, last in zip(starts, firsts, lasts[: len(starts)], strict=True):
        part = Edges(rows[first:last] - start, targets[first:last], weights[first:last])
        yield places[start : start + size].to(device), part.to(device)


def _places(edges: Edges, model: nn.Module) -> Tensor:
    """List where something is learned, each place once; on the model's device."""
    places: Tensor = edges.parents.unique()
    return places.to(_device(model))


def _one_part(edges: Edges, model: nn.Module) -> list[tuple[Tensor, Edges]]:
    """Give all edges as one part; where nothing is learned, the first place and no edge from it."""
    places, rows = edges.parents.unique(return_inverse=True)
    if not len(places):
        places = places.new_zeros(1)
    part = Edges(rows, edges.targets, edges.weights)
    return [(places.to(_device(model)), part.to(_device(model)))]


def _num_logits(model: nn.Module) -> int:
    config: Any = model.config
    return int(config.get_text_config(decoder=True).vocab_size)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _inputs(batch: Batch | TreeBatch, device: torch.device) -> dict[str, Tensor]:
    if isinstance(batch, TreeBatch):
        found = batch.inputs()
    else:
        found = {"input_ids": batch.input_ids}
        if not _is_right_padded(batch.attention_mask):  # else no token sees the padding behind it
            found["attention_mask"] = batch.attention_mask
    return {name: given.to(device, non_blocking=True) for name, given in found.items()}


def _attention(
    model: nn.Module, batch: Batch | TreeBatch, keys: TrunkKeys | None = None
) -> AbstractContextManager[None]:
    if not isinstance(batch, TreeBatch):
        return nullcontext()
    return tree_attention(model, batch.to(_device(model)), keys)


def _is_right_padded(attention_mask: Tensor) -> bool:
    return bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all())
