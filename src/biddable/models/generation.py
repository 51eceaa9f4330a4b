"""Generate answers to many prompts at once, fast on a CPU and the same as one by one.

Prompts are token ids and so are the answers: text and messages are other rooms' matter. A batch
shrinks as its rows finish, each of which is given at once; its prompts' common start is computed
once, and its cache is written in place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from biddable.errors import DataError
from biddable.models.cpu_linear import fast_linears
from biddable.models.drawing import Drawing, choose
from biddable.models.running_rows import RunningRows, pays_as_trees, takes_trees

_COMPACT_SHARE = 8  # finished rows leave once they are 1/8 of the batch


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote after one prompt.

    Attributes:
        ids: the new ids, without the stop id.
        stopped: whether it ended by itself, before the length limit.
    """

    ids: list[int]
    stopped: bool


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int = 128,
    batch_size: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
) -> list[Generation]:
    """Continue every prompt until a stop id or the length limit.

    Greedy ids do not depend on which prompts share a batch (up to ties within rounding).

    Args:
        model: a transformers causal LM.
        prompts: ids of each prompt, none empty.
        stop_ids: ids that end an answer; may be empty.
        max_new_tokens: most ids an answer may have, its stop id counted. A model that has a
            longest sequence also ends there.
        batch_size: prompts that are run together.
        temperature: 0 takes the likeliest token; else tokens are drawn.
        top_p: when drawing, the share of probability that is drawn from.
        seed: the same seed draws the same answers to the same prompts; or one for each prompt,
            whose answer is then the same whatever stands beside it.

    Returns:
        One generation per prompt, in the order given.

    Raises:
        DataError: a prompt is empty, or already as long as the model allows.
    """
    found = dict(
        generate_each(
            model,
            prompts,
            stop_ids=stop_ids,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
    )
    return [found[n] for n in range(len(prompts))]


@torch.no_grad()
def generate_each(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int = 128,
    batch_size: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | Sequence[int] = 0,
) -> Iterator[tuple[int, Generation]]:
    """Continue every prompt as ``generate`` does, and give each answer as soon as it has ended.

    Until the last one was given, the model is to be left alone.

    Yields:
        The place of a prompt in ``prompts``, and what follows it; in the order in which they end.

    Raises:
        DataError: a prompt is empty, or already as long as the model allows.
    """
    longest = longest_sequence(model)
    require_readable(prompts, longest)
    draws = enumerate([seed] * len(prompts)) if isinstance(seed, int) else ((0, s) for s in seed)
    drawings = [Drawing.seeded(temperature, top_p=top_p, seed=s, number=n) for n, s in draws]

    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with _evaluating(model), fast_linears(model):
        in_trees = batch_size > 1 and pays_as_trees(model, prompts) and takes_trees(model)
        for start in range(0, len(by_length), batch_size):
            chosen = by_length[start : start + batch_size]
            limits = [min(max_new_tokens, longest - len(prompts[n])) for n in chosen]
            ended = _continue_batch(
                model,
                [prompts[n] for n in chosen],
                limits=limits,
                stop_ids=stop_ids,
                drawings=[drawings[n] for n in chosen],
                in_trees=in_trees,
            )
            for row, ids in ended:
                yield chosen[row], _without_stop(ids, stop_ids)


def _continue_batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Sequence[int],
    stop_ids: Collection[int],
    drawings: Sequence[Drawing | None],
    in_trees: bool,
) -> Iterator[tuple[int, list[int]]]:
    """Give the number of a prompt and the ids that follow it, up to its stop, when it has ended."""
    runner = RunningRows(model)
    logits = runner.read_tree(prompts) if in_trees else runner.read_prompts(prompts)
    device = logits.device
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long, device=device)
    limit = torch.tensor(limits, device=device)
    written = torch.full((len(prompts), max(limits)), -1, dtype=torch.long, device=device)
    rows = torch.arange(len(prompts), device=device)  # which prompt each row of the batch is
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    num_finished = 0

    if max(limits) < 1:
        yield from ((n, []) for n in range(len(prompts)))
    for step in range(max(limits)):
        next_ids = choose(logits, [drawings[n] for n in rows.tolist()])
        written[rows, step] = next_ids
        before, num_before = finished, num_finished
        finished = finished | torch.isin(next_ids, stops) | (limit[rows] <= step + 1)
        num_finished = int(finished.sum())
        if num_finished > num_before:
            ended = rows[finished & ~before]
            yield from zip(ended.tolist(), written[ended, : step + 1].tolist(), strict=True)
        if num_finished == len(rows):
            break
        if num_finished * _COMPACT_SHARE >= len(rows):
            alive = (~finished).nonzero().squeeze(1)
            if runner.keep(alive):
                rows, next_ids, finished = rows[alive], next_ids[alive], finished[alive]
                num_finished = 0
        logits = runner.read_token(next_ids)


def _without_stop(ids: list[int], stop_ids: Collection[int]) -> Generation:
    stopped = bool(ids) and ids[-1] in stop_ids
    return Generation(ids[:-1] if stopped else ids, stopped)


def longest_sequence(model: PreTrainedModel) -> int:
    """Say how many ids a model takes at once."""
    config = model.config.get_text_config(decoder=True)
    return int(getattr(config, "max_position_embeddings", None) or 1 << 30)


def require_readable(prompts: Sequence[Sequence[int]], longest: int) -> None:
    """Refuse prompts that leave a model no room to answer.

    Args:
        prompts: ids of each.
        longest: ids that the model takes at once.

    Raises:
        DataError: one is empty, or as long as that.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not 0 < len(prompt) < longest:
            raise DataError(
                f"prompt {number} has {len(prompt)} tokens; the model takes 1 to {longest - 1} "
                "and still has room to answer. Shorten it, or give it some text."
            )


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)
