"""Let several processes take the steps of one run together, each with a share of the rows.

The loss of a step is a sum divided once, by the count of all of its rows, so that the gradient of
the step is the plain sum of the processes' own: one all-reduce a step (docs/decisions/0013). A
`World` of one process does nothing. torchrun starts the processes; rank 0 alone tells and saves.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from biddable.errors import CheckpointError, ConfigError, RunStopped, TrainingError
from biddable.training.connections import hang_up, open_sockets
from biddable.training.identity import find_differences
from biddable.training.micro_batches import Group, shares
from biddable.training.nonfinite import NotFiniteError

Value = TypeVar("Value")

_BUCKET = 2**24  # numbers that are summed in one call
_MOST_SAID = 2**22  # bytes that the store is given at a time; it takes 8 MiB
_POLL_S = 0.2
FAILURE = "biddable/failure"  # in the store: what the first process to fail met
_STOPPED, _FAILED, _NOT_FINITE, _UNSAVED = range(
    4
)  # what goes before what, if ranks end differently


class World:
    """One process that trains alone: what processes would tell each other is known already.

    Attributes:
        rank: of this process, from 0.
        size: how many processes there are.
        local_rank: number of this process on its machine.
        store: of small texts, reached by all; None for one process.
        is_broken: whether one of them is lost, so that nothing more can be done together.
        device: of this process, as it was opened with.
    """

    rank, size, local_rank = 0, 1, 0
    store: Any = None
    device = torch.device("cpu")
    is_broken = False

    def __repr__(self) -> str:
        """Name it the same in every run, as the reference pages show it."""
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"

    @property
    def is_main(self) -> bool:
        """Whether this process tells, saves and writes."""
        return self.rank == 0

    def announce(self, told: str) -> None:
        """Let the others go on that wait in `wait_for_turn`."""

    def wait_for_turn(self) -> str:
        """Wait until rank 0, then the first process of this machine, has its rows encoded."""
        return ""

    def open(self, device: torch.device) -> None:
        """Open the process group; nothing before it is a collective."""

    def close(self) -> None:
        """End the process group."""

    def require_same(self, identity: Mapping[str, str]) -> None:
        """Refuse to train with a process that has other rows, settings or weights."""

    def share(
        self, groups: Sequence[Group], lengths: Sequence[int] | NDArray[np.int64]
    ) -> list[Group]:
        """Give this process's part of some micro-batches; `lengths` are those of all rows."""
        return list(groups)

    def seed_step(self, seed: int, step: int) -> None:
        """Let each process but the first draw noise of its own, the same when it is resumed."""

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Let what ends the work within on one process end it on all of them, with one error."""
        yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do what takes all processes at every moment: an error of one ends the run on all."""
        yield

    def most(self, number: int) -> int:
        """Give the largest of the processes' numbers."""
        return number

    def gather(self, value: Any) -> list[Any]:
        """Give each process what all of them have, by rank."""
        return [value]

    def sum(self, *values: float) -> list[float]:
        """Add up numbers over the processes."""
        return list(values)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up gradients over the processes; one that no process has stays None."""

    def from_main(self, value: Value) -> Value:
        """Give rank 0's value to all."""
        return value

    def copy_from_main(self, tensor: Tensor) -> Tensor:
        """Overwrite a tensor by rank 0's, of the same shape, and give it back."""
        return tensor

    def hear_main(self, said: bytes = b"") -> bytes:
        """Give what rank 0 says next to all, however long that takes."""
        return said

    def wait(self) -> None:
        """Wait until rank 0 has saved; not for a process that is lost."""


class Processes(World):
    """Several processes that torchrun has started."""

    def __init__(self, store: Any, *, rank: int, size: int, local_rank: int) -> None:
        """Take their common store; a process group is opened later.

        Args:
            store: of small texts, reached by all.
            rank: of this process.
            size: of the world.
            local_rank: number of this process on its machine.
        """
        self.rank, self.size = rank, size
        self.store, self.local_rank = store, local_rank
        self._num_said = 0

    def announce(self, told: str) -> None:
        """Let the others go on that wait in `wait_for_turn`."""
        self.store.set(f"biddable/{self.rank}", told)

    def wait_for_turn(self) -> str:
        """Wait until rank 0, then the first process of this machine, has its rows encoded.

        Looks again and again instead of waiting in a call, which would have a time limit.

        Returns:
            What rank 0 announced.

        Raises:
            TrainingError: rank 0 has failed, or the store is gone, with rank 0 or its machine.
        """
        with self._guarded():
            for rank in (0, self.rank - self.local_rank):
                if rank != self.rank:
                    self._wait_for(f"biddable/{rank}")
            return "" if self.is_main else str(self.store.get("biddable/0").decode())

    def open(self, device: torch.device) -> None:
        """Open the process group, of the kind that the model's device takes."""
        self.device, self._before = device, frozenset(open_sockets())
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)  # else nccl puts what it makes on the first GPU
        with self._guarded():
            dist.init_process_group(backend, store=self.store, rank=self.rank, world_size=self.size)

    def close(self) -> None:
        """End the process group, and if it is broken its connections, too."""
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()
            if self.is_broken:
                hang_up(but=self._before)

    def require_same(self, identity: Mapping[str, str]) -> None:
        """Refuse to train with a process that has other rows, settings or weights.

        Raises:
            ConfigError: on all processes, what differs on the first one that does.
        """
        for rank, other in enumerate(self.gather(dict(identity))):
            found = find_differences(identity, other) if self.is_main else []
            told = self.gather(found)[0]
            if told:
                raise ConfigError(
                    f"rank {rank} of {self.size} has another run than rank 0: {'; '.join(told)}."
                    " Give all machines the same config, rows, base and versions."
                )

    def share(
        self, groups: Sequence[Group], lengths: Sequence[int] | NDArray[np.int64]
    ) -> list[Group]:
        """Give this process's part of some micro-batches; see `shares`."""
        return shares(groups, lengths, self.size)[self.rank]

    def seed_step(self, seed: int, step: int) -> None:
        """Let each process but the first draw noise of its own, the same when it is resumed."""
        if not self.is_main:  # the first goes on with its own, as it would alone
            torch.manual_seed(zlib.crc32(f"{seed} {step} {self.rank}".encode()))

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Let what ends the work within on one process end it on all of them, with one error.

        Raises:
            TrainingError: another process failed, or no longer answers.
            RunStopped: one was asked to stop.
            NotFiniteError: one found a loss that is no number.
            CheckpointError: one could not save its part.
        """
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            if self.is_broken:
                raise
            own = error
        if not self.sum(own is not None)[0]:
            return
        found = [told for told in self.gather(self._describe(own)) if told is not None]
        kind, text, values = min(found, key=lambda told: told[0])
        if kind == _STOPPED:
            raise RunStopped(text, exit_code=values[0]) from own
        if kind == _NOT_FINITE:
            raise NotFiniteError(*values) from own
        if kind == _UNSAVED:
            raise CheckpointError(text) from own
        raise TrainingError(text) from own

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do what takes all processes at every moment: an error of one ends the run on all.

        Raises:
            TrainingError: on all processes, what the first one met.
        """
        try:
            yield
        except Exception as error:
            told = str(error).partition("\n")[0]
            if not (self.is_broken and isinstance(error, TrainingError)):  # told with its rank
                told = f"rank {self.rank} of {self.size}: {told}"
            self.is_broken = True
            with suppress(RuntimeError):  # the first to come is the cause; others lost their peers
                told = self.store.compare_set(FAILURE, "", told).decode()
            raise TrainingError(
                f"{told.rstrip('.')}. If it lost a connection, another process of this run has"
                " ended: see its own last line, or the machine's log for a kill; if memory ran out,"
                " lower training.micro_batch_size."
            ) from error

    def most(self, number: int) -> int:
        """Give the largest of the processes' numbers."""
        return int(max(self.gather(number)))

    def gather(self, value: Any) -> list[Any]:
        """Give each process what all of them have, by rank."""
        found: list[Any] = [None] * self.size
        with self._guarded():
            dist.all_gather_object(found, value)
        return found

    def sum(self, *values: float) -> list[float]:
        """Add up numbers over the processes, in float64."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        self._reduce(total)
        return [float(value) for value in total]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up gradients over the processes, many in one call, halves in float32.

        One that no process has stays None, so that the optimizer passes over it as it would alone.
        """
        counts = self.sum(*[p.grad is not None for p in parameters])
        wanted = [p for p, count in zip(parameters, counts, strict=True) if count]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([p.grad for p in wanted if p.grad is not None]):
            wide = torch.promote_types(bucket[0].dtype, torch.float32)
            flat = torch.cat([gradient.flatten().to(wide) for gradient in bucket])
            self._reduce(flat)
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def from_main(self, value: Value) -> Value:
        """Give rank 0's value to all; the others need not see its disk."""
        with self._guarded():
            given = [value]
            dist.broadcast_object_list(given, src=0, device=self.device)
        return given[0]

    def copy_from_main(self, tensor: Tensor) -> Tensor:
        """Overwrite a tensor by rank 0's, of the same shape, and give it back."""
        with self._guarded():
            dist.broadcast(tensor, src=0)
        return tensor

    def hear_main(self, said: bytes = b"") -> bytes:
        """Give what rank 0 says next to all, however long that takes; see `wait_for_turn`."""
        key = f"biddable/said/{self._num_said}"
        self._num_said += 1
        with self._guarded():
            if self.is_main:
                parts = [said[n : n + _MOST_SAID] for n in range(0, len(said), _MOST_SAID)]
                for number, part in enumerate(parts):
                    self.store.set(f"{key}/{number}", part)
                self.store.set(key, str(len(parts)))
                return said
            self._wait_for(key)
            numbers = range(int(self.store.get(key)))
            return b"".join(self.store.get(f"{key}/{number}") for number in numbers)

    def wait(self) -> None:
        """Wait until rank 0 has saved; not for a process that is lost."""
        if not self.is_broken:
            with suppress(TrainingError):
                self.sum(0)

    def _wait_for(self, key: str) -> None:
        """Wait until the store has something, or a process has failed."""
        pause_s = 0.001
        while not self.store.check([key]):
            if self.store.check([FAILURE]):
                raise RuntimeError(self.store.get(FAILURE).decode())
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S)

    def _describe(self, error: Exception | None) -> tuple[int, str, tuple[Any, ...]] | None:
        if error is None:
            return None
        if isinstance(error, RunStopped):
            return _STOPPED, str(error), (error.exit_code,)
        if isinstance(error, NotFiniteError):
            return _NOT_FINITE, str(error), (error.what, error.value, tuple(error.rows))
        if isinstance(error, CheckpointError):
            return _UNSAVED, f"rank {self.rank} of {self.size}: {error}", ()
        return _FAILED, f"rank {self.rank} of {self.size}: {error}", ()

    def _reduce(self, total: Tensor) -> None:
        with self._guarded():
            dist.all_reduce(total)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.is_broken = True
            raise TrainingError(
                f"rank {self.rank} of {self.size}: another process of this run has ended or cannot"
                " be reached; see its own last line, or the machine's log for a kill."
            ) from error


ALONE = World()


def find_world() -> World:
    """Give the processes that torchrun started, or a world of this one."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return ALONE
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        raise ConfigError(
            "torchrun has started the processes once more, and what the first ones said to each"
            " other is still there. Use --max-restarts 0, and begin anew with --resume."
        )
    store, rank, size = next(rendezvous("env://"))
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    return Processes(store, rank=rank, size=size, local_rank=local_rank)


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        num_numbers = sum(g.numel() for g in bucket) + gradient.numel()
        if bucket and (num_numbers > _BUCKET or bucket[0].dtype != gradient.dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
