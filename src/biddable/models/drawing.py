"""Choose the next id of each row: the likeliest, or a draw that no other row changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

_NO_DRAW = 1e-5  # a temperature below takes the likeliest id; float32 would divide by 0 in the end

_settle: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("settle", default=None)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Say how one row's ids are drawn.

    Attributes:
        temperature: what logits are divided by; above 0.
        top_p: the share of probability that is drawn from.
        generator: the row's own, so that batching changes no draw.
    """

    temperature: float
    top_p: float
    generator: torch.Generator

    @classmethod
    def seeded(cls, temperature: float, *, top_p: float, seed: int, number: int) -> Drawing | None:
        """Start the draws of the answer with a number, of several from one seed; None draws none.

        Example:
            >>> Drawing.seeded(0.0, top_p=1.0, seed=0, number=0) is None
            True
        """
        if temperature < _NO_DRAW:
            return None
        generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
        return cls(temperature, top_p, generator)


def choose(logits: Tensor, drawings: Sequence[Drawing | None]) -> Tensor:
    """Choose the next id of each row.

    Args:
        logits: (B, V).
        drawings: of each row; None takes the likeliest id.

    Returns:
        (B,) ids.

    Example:
        >>> choose(torch.tensor([[0.0, 2.0, 1.0]]), [None])
        tensor([1])
    """
    chosen = logits.argmax(dim=-1)
    drawn = [(row, drawing) for row, drawing in enumerate(drawings) if drawing is not None]
    if drawn:
        rows = torch.tensor([row for row, _ in drawn], device=logits.device)
        chosen[rows] = _draw(logits[rows], [drawing for _, drawing in drawn])
    settle = _settle.get()
    return chosen if settle is None else settle(chosen)


@contextmanager
def settled(by: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let something else have the last word on the ids that are chosen.

    Processes that run a model together must all go on with the same ids, be their sums rounded
    as they may.

    Args:
        by: given the (B,) ids that `choose` found, gives those to go on with.
    """
    token = _settle.set(by)
    try:
        yield
    finally:
        _settle.reset(token)


def _draw(logits: Tensor, drawings: Sequence[Drawing]) -> Tensor:
    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)[:, None].to(logits.device)

    temperature, top_p = column([d.temperature for d in drawings]), [d.top_p for d in drawings]
    probs, order = (logits.float() / temperature.float()).softmax(dim=-1).sort(descending=True)
    before = probs.cumsum(dim=-1) - probs
    probs = probs.masked_fill(before >= column(top_p), 0.0)  # the likeliest token always stays
    probs[:, 0] = probs[:, 0].clamp(min=torch.finfo(probs.dtype).tiny)
    reached = probs.cumsum(dim=-1)
    uniform = torch.stack([torch.rand((), generator=d.generator) for d in drawings])
    level = uniform.to(reached.device)[:, None] * reached[:, -1:]
    choice = torch.searchsorted(reached, level, right=True)
    num_kept = (probs > 0).sum(dim=-1, keepdim=True)
    return order.gather(1, torch.minimum(choice, num_kept - 1)).squeeze(1)
