"""Say before the first step what a run would learn, and whether its base can learn it.

It does what `run_training` does up to the training, by the same functions, and counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from biddable.config import RunConfig
from biddable.config_training import TrainingConfig
from biddable.data.conversation import Conversation
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example, Overflow, encode_all
from biddable.errors import CheckpointError, ConfigError
from biddable.models.readiness import Readiness
from biddable.training.estimate import Estimate, estimate
from biddable.training.layout import Layout
from biddable.training.optimizer import peak_learning_rate, schedule_factor
from biddable.training.preparation import Prepared, checkpoints_of, prepare
from biddable.training.sharding import require_divisible
from biddable.training.sizing import Sizing
from biddable.whole_folder import require_unused


@dataclass(frozen=True, slots=True)
class Ledger:
    """Count what the length limit takes from a part of the rows.

    Attributes:
        num_rows: of the part.
        p50: of the rows' lengths in tokens, as are the next ones.
        p95: 95 % are no longer.
        p99: 99 % are no longer.
        longest: the longest row.
        limit: ids a row may have; None for no limit.
        overflow: what happens to longer rows.
        num_over: rows over the limit.
        num_lost_tokens: ids that would be learned and stand in those rows.
        num_lost_stops: stop tokens among them.
    """

    num_rows: int
    p50: int
    p95: int
    p99: int
    longest: int
    limit: int | None
    overflow: Overflow
    num_over: int
    num_lost_tokens: int
    num_lost_stops: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what a run would do.

    Attributes:
        readiness: of the base.
        method: what trains, in words.
        ledgers: of each part, ``train`` first.
        num_tokens: ids in the rows that are kept for training.
        num_loss_tokens: those that are learned.
        num_kept: rows that are kept for training.
        num_stopped: of those, the rows in which the stop token is learned.
        num_steps: optimizer steps, all epochs.
        num_step_tokens: ids that the steps run through.
        num_step_loss_tokens: those that they learn.
        num_step_unique_tokens: ids that are left where rows of a micro-batch share their starts.
        num_step_together_tokens: ids that are left with ``training.keep_together``.
        layout: how rows of a micro-batch are laid out, and why.
        learning_rate: its peak.
        learning_rate_reason: why.
        refusals: why the run would be refused, its output apart; empty if it would not.
        in_the_way: what lies where the run would be written, and what to do; None if nothing does.
        estimate: of its memory and time; None if no row is left.
    """

    readiness: Readiness
    method: str
    ledgers: dict[str, Ledger]
    num_tokens: int
    num_loss_tokens: int
    num_kept: int
    num_stopped: int
    num_steps: int
    num_step_tokens: int
    num_step_loss_tokens: int
    num_step_unique_tokens: int
    num_step_together_tokens: int
    layout: str
    learning_rate: float
    learning_rate_reason: str
    refusals: list[str]
    in_the_way: str | None
    estimate: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """Give it for a program to read; sizes in bytes, times in seconds."""
        described = {"ready": not (self.refusals or self.in_the_way), **asdict(self)}
        if self.estimate is not None:
            described["estimate"] = self.estimate.as_json()
        return described


def plan_run(config: RunConfig, *, measure: bool = True, num_processes: int = 1) -> Plan:
    """Read, encode and count all that a config would train, and train nothing.

    Args:
        config: the run.
        measure: run a few micro-batches forward and backward, for its memory and time.
        num_processes: that torchrun would start; memory is of each of them.

    Returns:
        The plan; what the run would be refused for is in it, not raised, as far as the rows could
        be read and encoded at all.

    Raises:
        BiddableError: the rows, the model, the template or the method is not usable.
    """
    prepared = prepare(config)
    readiness, rows = prepared.readiness, prepared.read()
    encoded = {"train": _encode(rows.train, prepared)}
    if rows.held_out:
        encoded["held_out"] = _encode(rows.held_out, prepared)
    ledgers = {part: _ledger(examples, prepared) for part, examples in encoded.items()}
    kept = EncodedRows.of([e for e in encoded["train"] if _fits(e, prepared)])
    sizing = _sizing(kept, config.training, prepared, num_processes) if kept else None
    steps = sizing.steps if sizing else None
    num_unique = steps.num_unique_tokens if steps else 0
    rate, reason = peak_learning_rate(prepared.loaded.model, config.training)
    num_stopped = sum(1 for example in kept if _num_stops(example, readiness.stop_id))
    refusals = [str(p) for p in readiness.problems if p.severity == "error"]
    refusals += _refusals(ledgers, num_kept=len(kept), num_stopped=num_stopped)
    refusals += _refused_by_settings(config, sizing)
    estimated = None
    if sizing is not None:
        held_out = [e for e in encoded.get("held_out", []) if _fits(e, prepared)]
        can_measure = measure and not refusals
        estimated = estimate(sizing, EncodedRows.of(held_out), measure=can_measure)
    return Plan(
        readiness=readiness,
        method=prepared.method,
        ledgers=ledgers,
        num_tokens=sum(len(example.input_ids) for example in kept),
        num_loss_tokens=sum(_num_learned(example) for example in kept),
        num_kept=len(kept),
        num_stopped=num_stopped,
        num_steps=len(steps) if steps else 0,
        num_step_tokens=steps.num_tokens if steps else 0,
        num_step_loss_tokens=steps.num_loss_tokens if steps else 0,
        num_step_unique_tokens=num_unique,
        num_step_together_tokens=_num_together(sizing, num_unique) if sizing else 0,
        layout=_layout(sizing.layout) if sizing else "",
        learning_rate=rate,
        learning_rate_reason=reason,
        refusals=refusals,
        in_the_way=_in_the_way(config, prepared),
        estimate=estimated,
    )


def _sizing(
    rows: EncodedRows, settings: TrainingConfig, prepared: Prepared, num_processes: int
) -> Sizing:
    model = prepared.loaded.model
    return Sizing(
        model,
        rows,
        settings=settings,
        seed=prepared.seed,
        layout=Layout.choose(model, settings),
        num_processes=num_processes,
    )


def _layout(layout: Layout) -> str:
    return "; ".join(filter(None, (layout.reason, layout.note)))


def _num_together(sizing: Sizing, num_unique: int) -> int:
    """Count the ids that are left where rows that begin alike are kept together."""
    if not sizing.layout.is_tree or sizing.steps.num_kept_together is not None:
        return num_unique
    steps = sizing.steps.keeping_together()
    return steps.num_unique_tokens if steps.num_kept_together else num_unique


def percentile(ordered: Sequence[int], share: float) -> int:
    """Take the smallest value that a share of all values does not exceed.

    Args:
        ordered: the values, rising.
        share: 0 to 1.

    Example:
        >>> [percentile([3, 5, 8, 900], share) for share in (0.5, 0.75, 0.99)]
        [5, 8, 900]
    """
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _encode(rows: Iterable[Conversation], prepared: Prepared) -> list[Example]:
    """Encode a part of the rows without a limit; what the limit takes is counted afterwards."""
    tokenizer, learn = prepared.loaded.tokenizer, prepared.learn
    return encode_all(list(rows), prepared.template, tokenizer, max_seq_len=None, learn=learn)[0]


def _fits(example: Example, prepared: Prepared) -> bool:
    return prepared.max_seq_len is None or len(example.input_ids) <= prepared.max_seq_len


def _ledger(examples: Sequence[Example], prepared: Prepared) -> Ledger:
    lengths = sorted(len(example.input_ids) for example in examples)
    over = [example for example in examples if not _fits(example, prepared)]
    stop_id = prepared.readiness.stop_id
    return Ledger(
        num_rows=len(examples),
        p50=percentile(lengths, 0.5),
        p95=percentile(lengths, 0.95),
        p99=percentile(lengths, 0.99),
        longest=lengths[-1],
        limit=prepared.max_seq_len,
        overflow=prepared.overflow,
        num_over=len(over),
        num_lost_tokens=sum(_num_learned(example) for example in over),
        num_lost_stops=sum(_num_stops(example, stop_id) for example in over),
    )


def _refusals(ledgers: dict[str, Ledger], *, num_kept: int, num_stopped: int) -> list[str]:
    found = [
        f"{part}: {ledger.num_over:,} of {ledger.num_rows:,} rows are over {ledger.limit:,} tokens,"
        ' and data.overflow is "error". Shorten them, raise data.max_seq_len, or set it to "drop".'
        for part, ledger in ledgers.items()
        if ledger.num_over and ledger.overflow == "error"
    ]
    limits = {part: f"{ledger.limit:,}" for part, ledger in ledgers.items() if ledger.limit}
    found += [
        f"{part}: every row is over {limits[part]} tokens; none is left. Shorten the rows, or raise"
        " data.max_seq_len as far as the model can read."
        for part, ledger in ledgers.items()
        if ledger.num_over == ledger.num_rows and ledger.overflow == "drop"
    ]
    if num_kept and not num_stopped:
        found.append("train: no row teaches the stop token, so the model would not stop.")
    return found


def _refused_by_settings(config: RunConfig, sizing: Sizing | None) -> list[str]:
    if sizing is None:
        return []
    found = []
    try:
        schedule_factor(0, len(sizing.steps), settings=config.training)
    except ConfigError as error:
        found.append(str(error))
    try:
        if sizing.is_divided:
            require_divisible(sizing.model)
    except ConfigError as error:
        found.append(str(error))
    return found


def _in_the_way(config: RunConfig, prepared: Prepared) -> str | None:
    """Tell what lies at the output; a plan is of use all the same, as to look at a run again."""
    try:
        require_unused(prepared.output)
        checkpoints_of(config).require_none()
    except CheckpointError as error:
        return str(error)
    return None


def _num_learned(example: Example) -> int:
    return sum(example.loss_mask[1:])  # nothing predicts the first


def _num_stops(example: Example, stop_id: int) -> int:
    pairs = zip(example.input_ids, example.loss_mask, strict=True)
    return sum(1 for token_id, is_learned in pairs if is_learned and token_id == stop_id)
