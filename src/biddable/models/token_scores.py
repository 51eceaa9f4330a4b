"""Score given ids with one model, or two at once: what each token cost, how far apart they are.

Nothing is generated and nothing learned. Logits are made for a few places at a time and forgotten,
so that a vocabulary of 128 thousand and a long page fit in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biddable.data.grouping import by_kind
from biddable.models.cpu_linear import fast_linears
from biddable.models.head import Body
from biddable.models.loss import logits_at_once
from biddable.models.rope import AngleLimits

_MAX_TOKENS = 4096  # of a padded group of rows
Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Hold what M models make of a row of T ids; its first id is read and not scored.

    Attributes:
        nll: (M, T - 1), nats.
        rank: (M, T - 1), 1 where the id is the likeliest.
        likeliest: (M, T - 1), the id that is.
        watched: (M, T - 1), probability that the next id is one of those watched.
        kl: (T - 1,), nats: KL(last model || first model) of the next id, over the ids that both
            have; None for one model.
    """

    nll: Floats
    rank: Ids
    likeliest: Ids
    watched: Floats
    kl: Floats | None

    @classmethod
    def empty(cls, num_models: int, num_places: int) -> TokenScores:
        """Make room for the scores of a row."""
        shape = (num_models, num_places)
        return cls(
            nll=np.zeros(shape),
            rank=np.zeros(shape, dtype=np.int64),
            likeliest=np.zeros(shape, dtype=np.int64),
            watched=np.zeros(shape),
            kl=np.zeros(num_places) if num_models > 1 else None,
        )

    @classmethod
    def joined(cls, parts: Sequence[TokenScores]) -> TokenScores:
        """Put the scores of one row's parts together, in order."""
        kls = [part.kl for part in parts if part.kl is not None]
        return cls(
            np.concatenate([part.nll for part in parts], axis=1),
            np.concatenate([part.rank for part in parts], axis=1),
            np.concatenate([part.likeliest for part in parts], axis=1),
            np.concatenate([part.watched for part in parts], axis=1),
            np.concatenate(kls) if kls else None,
        )


@torch.no_grad()
def score_tokens(
    models: Sequence[nn.Module], rows: Sequence[Sequence[int]], *, watched: Sequence[int] = ()
) -> list[TokenScores]:
    """Score each id of each row after those before it.

    Args:
        models: one transformers causal LM, or two that read the same ids.
        rows: ids, at least two each and no more than a model can read.
        watched: ids whose probability is told at every place, as the stop tokens'.

    Returns:
        A score for each row, in order.
    """
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(fast_linears(model))
        return _score([Body(model) for model in models], rows, watched=list(watched))


def _score(
    bodies: Sequence[Body], rows: Sequence[Sequence[int]], *, watched: list[int]
) -> list[TokenScores]:
    in_one_piece = any(body.decoder is None for body in bodies)
    size = max(
        logits_at_once(_device(bodies[0].model))
        // (len(bodies) * max(_num_logits(b.model) for b in bodies)),
        1,
    )
    # Made before any logits: small arrays kept between large ones would leave holes in the memory.
    scores = [TokenScores.empty(len(bodies), len(row) - 1) for row in rows]
    lengths = [len(row) for row in rows]
    kinds = AngleLimits.of(*(body.model for body in bodies)).kinds(lengths)
    for group in _groups(lengths, kinds, most=0 if in_one_piece else _MAX_TOKENS):
        longest = max(len(rows[n]) for n in group)
        ids = torch.zeros((len(group), longest), dtype=torch.long)
        for line, n in enumerate(group):
            ids[line, : len(rows[n])] = torch.tensor(rows[n])
        states = [body.states(input_ids=ids.to(_device(body.model))) for body in bodies]
        for line, n in enumerate(group):  # no token sees the padding behind it
            own = [part[line * longest :] for part in states]
            targets = torch.tensor(rows[n][1:])
            for at in range(0, len(targets), size):
                _fill(scores[n], at, bodies, own, targets[at : at + size], watched=watched)
    return scores


def _fill(
    scores: TokenScores,
    at: int,
    bodies: Sequence[Body],
    states: Sequence[Tensor],
    targets: Tensor,
    *,
    watched: list[int],
) -> None:
    """Score the K places of a row from ``at`` on; ``states`` of each model are (T or more, D)."""
    end = at + len(targets)
    logits = [_exact(b.logits(s[at:end])) for b, s in zip(bodies, states, strict=True)]  # (K, V)
    for n, part in enumerate(logits):
        normalizers = part.logsumexp(dim=1)
        chosen = part.gather(1, targets.to(part.device)[:, None])
        scores.nll[n, at:end] = _numpy(normalizers - chosen[:, 0])
        scores.rank[n, at:end] = _numpy((part > chosen).sum(dim=1) + 1)
        scores.likeliest[n, at:end] = _numpy(part.argmax(dim=1))
        mass = (part[:, watched] - normalizers[:, None]).exp().sum(dim=1)
        scores.watched[n, at:end] = _numpy(mass)
    if scores.kl is not None:
        num_shared = min(part.shape[1] for part in logits)
        first, last = (part[:, :num_shared].log_softmax(dim=1) for part in logits)
        kl = (last.exp() * (last - first.to(last.device))).sum(dim=1)
        scores.kl[at:end] = _numpy(kl.clamp_min(0))


def _groups(
    lengths: Sequence[int], kinds: Sequence[int] | None, *, most: int
) -> Iterator[list[int]]:
    """Group rows of a kind and of like length, a padded group having at most so many tokens."""
    for part in by_kind(sorted(range(len(lengths)), key=lengths.__getitem__), kinds):
        group: list[int] = []
        for n in part:
            if group and (len(group) + 1) * lengths[n] > most:
                yield group
                group = []
            group.append(n)
        yield group


def _exact(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _numpy(values: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = values.cpu().numpy()
    return found


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _num_logits(model: nn.Module) -> int:
    output = model.get_output_embeddings()  # type: ignore[operator]
    return int(output.weight.shape[0])
