"""Measure what a few micro-batches take on the real model, without touching its weights."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn
from transformers import PreTrainedModel

from biddable.data.batching import Batch
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import TreeBatch
from biddable.models.loss import accumulate_gradient, states_of
from biddable.models.lower_layers import starting_from
from biddable.training.costs import MicroBatch, States, Work
from biddable.training.layout import Layout
from biddable.training.shadow import KeptStates

SECONDS = 20.0  # for all measured passes; the first two are made whatever they take
_SHARES = (1 / 32, 1 / 8, 1 / 4, 1 / 2, 1)  # of the largest micro-batch's tokens
_FEWEST_TOKENS = 32
_REPEATS = 3  # of each size; more would cost patience
_PASSES_OF_WORK = 3  # forward, and twice that backward
_STAND_IN = 2**22  # parameters that the optimizer's time is measured on
_FACTORS = (0.5, 3.0)  # what is measured of memory is believed within these


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold one timed pass.

    Attributes:
        work: operations by the formulas.
        seconds: forward and backward, the batch's making included.
    """

    work: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what the samples say.

    Attributes:
        samples: smallest first; each of its own shape, as the passes of a run are.
        seconds_each: of a micro-batch, however small.
        rate: operations a second beyond that.
        seconds_step: of an optimizer step, clipping included.
        memory_factor: what a pass takes, over the formulas.
        program: bytes in use that are neither weights nor gradients.
        seconds: that all of this took.
    """

    samples: list[Sample]
    seconds_each: float
    rate: float
    seconds_step: float
    memory_factor: float
    program: int
    seconds: float

    def seconds_of(self, work: float, *, num_batches: int = 1) -> float:
        """Say how long some work takes, cut into micro-batches."""
        return num_batches * self.seconds_each + work / self.rate


class Bench:
    """Run micro-batches as training will, and take the gradients away after."""

    def __init__(
        self, model: PreTrainedModel, *, layout: Layout, kept: KeptStates, num_skipped: int
    ) -> None:
        """Take what stays the same.

        Args:
            model: as it is going to be trained.
            layout: of the rows.
            kept: says what activations come to.
            num_skipped: lower layers whose states are kept from before.
        """
        self._model, self._layout, self._kept = model, layout, kept
        self._num_skipped = num_skipped
        self._work = Work.of(model, num_skipped=num_skipped)
        self._states = States.of(model)

    def measure(self, rows: EncodedRows, largest: Sequence[int]) -> Measured:
        """Run growing parts of the largest micro-batch.

        Args:
            rows: all examples.
            largest: numbers of its rows; it is run whole if there is time.
        """
        started = time.perf_counter()
        trained = [p for p in self._model.parameters() if p.requires_grad]
        parts = growing_parts(rows, largest)
        samples: list[Sample] = []
        try:
            with training_mode(self._model), torch.random.fork_rng(devices=[]):
                self._run(parts[0])  # makes gradients, and touches all weights
                base = memory_in_use(self._model.device)
                for number, part in enumerate(parts):
                    if number > 1:
                        growth = len(part.input_ids) / len(parts[number - 1].input_ids)
                        spent = time.perf_counter() - started
                        if spent + growth * samples[-1].seconds > SECONDS:
                            times = len(parts[-1].input_ids) / len(parts[number - 1].input_ids)
                            if times * samples[-1].seconds / _PASSES_OF_WORK < SECONDS:
                                factor = self._factor_of_forward(parts[-1], base)
                            break
                    with peak_during(self._model.device) as peak:
                        first = self._sample(part)  # meets memory that is new to the process
                    factor = max(peak[0] - base, 0) / max(self._expected(part), 1)
                    more = [
                        self._sample(varied)
                        for varied in (shortened(part, 1 + count) for count in range(_REPEATS))
                        if time.perf_counter() - started + first.seconds < SECONDS
                    ]
                    samples += more or ([] if samples else [first])
                _give_back_freed()
                after = memory_in_use(self._model.device)  # with what passes leave behind
        finally:
            for parameter in trained:
                parameter.grad = None
        each, rate = fit_seconds(samples)
        return Measured(
            samples=samples,
            seconds_each=each,
            rate=rate,
            seconds_step=optimizer_seconds(sum(p.numel() for p in trained), self._model),
            memory_factor=min(max(factor, _FACTORS[0]), _FACTORS[1]),
            program=max(after - self._states.weights - self._states.trained, 0),
            seconds=time.perf_counter() - started,
        )

    def _factor_of_forward(self, largest: EncodedRows, base: int) -> float:
        """Measure what the layers keep alone: larger tensors leave larger holes in the heap."""
        batch = self._layout.batch(largest, range(len(largest)))
        with peak_during(self._model.device) as peak, self._from_the_cut(batch):
            states_of(self._model, batch)
        kept = self._kept.of(largest, range(len(largest)))
        return max(peak[0] - base, 0) / max(kept, 1)

    def _expected(self, rows: EncodedRows) -> int:
        batch = MicroBatch.of(rows, range(len(rows)), is_tree=self._layout.is_tree)
        return self._kept.of(rows, range(len(rows))) + self._states.logits(batch.num_places)

    def _sample(self, rows: EncodedRows) -> Sample:
        batch = MicroBatch.of(rows, range(len(rows)), is_tree=self._layout.is_tree)
        return Sample(self._work.to_train(batch), self._run(rows))

    def _run(self, rows: EncodedRows) -> float:
        started = time.perf_counter()
        batch = self._layout.batch(rows, range(len(rows)))
        num_loss_tokens = max(int(rows.loss_tokens.sum()), 1)
        with self._from_the_cut(batch):
            accumulate_gradient(self._model, batch, num_loss_tokens=num_loss_tokens)
        if self._model.device.type == "cuda":
            torch.cuda.synchronize(self._model.device)
        return time.perf_counter() - started

    def _from_the_cut(self, batch: Batch | TreeBatch) -> AbstractContextManager[None]:
        if not self._num_skipped:
            return nullcontext()
        ids = batch.input_ids if batch.input_ids.dim() == 2 else batch.input_ids[None]
        width = self._model.config.get_text_config(decoder=True).hidden_size
        # any states will do: what they are changes neither time nor memory
        states = torch.ones(*ids.shape, width, dtype=self._model.dtype, device=self._model.device)
        return starting_from(self._model, states, self._num_skipped)


def growing_parts(rows: EncodedRows, numbers: Sequence[int]) -> list[EncodedRows]:
    """Cut parts of rising size out of a micro-batch; the last is all of it.

    Args:
        rows: all examples.
        numbers: of the rows of the micro-batch, in its order.

    Returns:
        Its first rows; the end of the first one where that is too long by itself.

    Example:
        >>> rows = EncodedRows.of([Example([n] * 64, [True] * 64) for n in range(8)])
        >>> [(len(part), len(part.input_ids)) for part in growing_parts(rows, range(8))]
        [(1, 32), (1, 64), (2, 128), (4, 256), (8, 512)]
    """
    examples = [rows[n] for n in numbers]
    ends = np.cumsum([len(example.input_ids) for example in examples])
    parts: list[EncodedRows] = []
    for share in _SHARES:
        wanted = max(round(share * int(ends[-1])), min(_FEWEST_TOKENS, int(ends[0])))
        count = int(np.searchsorted(ends, wanted, side="right"))
        if count:
            chosen = examples[:count]
        else:
            first = examples[0]
            chosen = [Example(first.input_ids[-wanted:], first.loss_mask[-wanted:], first.source)]
        part = EncodedRows.of(chosen)
        if not parts or len(part.input_ids) > len(parts[-1].input_ids):
            parts.append(part)
    return parts


def shortened(rows: EncodedRows, count: int) -> EncodedRows:
    """Take some ids off the end of each row that has them: about the same work, another shape.

    Args:
        rows: the examples.
        count: of ids.

    Example:
        >>> rows = EncodedRows.of([Example([1, 2, 3], [False, True, True])])
        >>> shortened(rows, 1).input_ids.tolist()
        [1, 2]
    """
    ends = [max(len(row.input_ids) - count, min(2, len(row.input_ids))) for row in rows]
    return EncodedRows.of(
        [
            Example(list(row.input_ids[:end]), list(row.loss_mask[:end]), row.source)
            for row, end in zip(rows, ends, strict=True)
        ]
    )


def fit_seconds(samples: Sequence[Sample]) -> tuple[float, float]:
    """Fit the seconds of passes to a constant and a rate, each sample weighing the same.

    Args:
        samples: at least one.

    Returns:
        The seconds of any pass, at least 0, and the operations a second beyond that.

    Example:
        >>> made = [Sample(work, 0.5 + work / 100) for work in (100.0, 400.0, 900.0)]
        >>> each, rate = fit_seconds(made)
        >>> round(each, 3), round(rate, 3)
        (0.5, 100.0)
    """
    work = np.array([sample.work for sample in samples])
    seconds = np.array([sample.seconds for sample in samples])
    scaled = np.stack([1 / seconds, work / seconds], axis=1)
    if len(samples) > 1:
        each, slowness = np.linalg.lstsq(scaled, np.ones(len(samples)))[0].tolist()
        if each >= 0 and slowness > 0:
            return each, 1 / slowness
    return 0.0, float(work.sum() / seconds.sum())


def optimizer_seconds(num_trained: int, model: nn.Module) -> float:
    """Measure clipping and AdamW on a few made weights, and say what they take on all.

    Args:
        num_trained: weights that train.
        model: tells type and device.
    """
    first = next(model.parameters())
    size = min(num_trained, _STAND_IN)
    weights = nn.Parameter(torch.zeros(size, dtype=first.dtype, device=first.device))
    weights.grad = torch.ones_like(weights)
    optimizer = torch.optim.AdamW([weights], fused=True)
    seconds = []
    for _ in range(1 + _REPEATS):  # the first makes the states
        started = time.perf_counter()
        float(nn.utils.clip_grad_norm_([weights], 1.0))
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:])) * num_trained / size


def memory_in_use(device: torch.device) -> int:
    """Tell how many bytes this process has in use, or has on a GPU."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


@contextmanager
def peak_during(device: torch.device) -> Iterator[list[int]]:
    """Find the most memory in use while a block runs.

    Args:
        device: of the model; on a GPU its own memory is told.

    Yields:
        A list that holds the bytes when the block has ended.
    """
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.append(int(torch.cuda.max_memory_allocated(device)))
        return
    if _reset_peak():
        yield found
        found.append(_read_peak())
        return
    done, seen = threading.Event(), [memory_in_use(device)]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(memory_in_use(device))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
    found.append(max(seen))


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into training mode for a while."""
    was_training = model.training
    model.train(True)
    try:
        yield
    finally:
        model.train(was_training)


def _give_back_freed() -> None:
    """Let glibc hand what is free to the system, so that it is not taken for memory in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    """Let Linux begin anew to note the most memory of this process; False elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _read_peak() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
