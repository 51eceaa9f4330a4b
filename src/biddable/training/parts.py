"""Save a divided run in parts, each process its own, and read them into any other division.

torch.distributed.checkpoint settles who writes and who reads which piece of a tensor; its storage
in safetensors keeps a piece's place beside it, so that nothing is pickled (docs/decisions/0015).
Which files make a checkpoint, and that it is whole, is settled in checkpoints.py.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from biddable.errors import CheckpointError
from biddable.training.checkpoints import Checkpoints, Snapshot, facts_of
from biddable.training.distributed import ALONE, World
from biddable.training.shards import empty_like, own_part

_FILE_BYTES = 2**28  # a file is put together in memory, so that no file is much larger
_RANDOM = "state/random/"


def save_in_parts(checkpoints: Checkpoints, snapshot: Snapshot, world: World) -> None:
    """Write a checkpoint of a divided run; all processes call this together.

    Args:
        checkpoints: of the run; what is settled and renamed is rank 0's.
        snapshot: its tensors divided, or the same on all processes.
        world: those processes.

    Raises:
        CheckpointError: on all of them, if a disk refuses one; older checkpoints stand.
        TrainingError: one of them is lost.
    """
    # only the first one knows what is saved already, and each must do what the others do
    (is_new,) = world.sum(world.is_main and checkpoints.is_new(snapshot.step))
    if not is_new:
        return
    named = {f"{kind}/{n}": t for kind, some in snapshot.tensors.items() for n, t in some.items()}
    if not world.is_main:  # each step seeds the others anew, so that the first one's is enough
        named = {name: t for name, t in named.items() if not name.startswith(_RANDOM)}
    with ExitStack() as stack:
        aside = checkpoints.aside(snapshot.step)
        with world.agreed():
            if world.is_main:
                stack.enter_context(checkpoints.making(snapshot.step))
        with world.agreed():
            _require_seen(aside)
        with _all_or_none(world, aside):
            files = _files_for(named)
            writer = HuggingFaceStorageWriter(str(aside), files, save_distributed=True)
            save(named, storage_writer=writer)
        with world.agreed():
            own = _own_facts(aside, world.rank)
        told = world.gather(own)
        if world.is_main:
            parts = {name: facts for some in told for name, facts in some.items()}
            checkpoints.settle(aside, snapshot, parts=parts)


def read_parts(
    folder: Path, model: nn.Module, *, world: World | None = None
) -> dict[str, dict[str, Tensor]]:
    """Read what `save_in_parts` wrote, found whole before.

    Args:
        folder: of the checkpoint.
        model: whose parameters are divided as the tensors are to be.
        world: the processes among which it is divided, all of which call this together; None: the
            model is whole, and this process reads alone.

    Returns:
        Tensors by their kind and name; those of a divided parameter's shape divided as it is.

    Raises:
        CheckpointError: they cannot be read; on all processes alike.
        TrainingError: one of them is lost.
    """
    parameters = dict(model.named_parameters())
    found: dict[str, Tensor] = {}
    with _all_or_none(world or ALONE, folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is", UserWarning)  # said by no_dist
        reader = HuggingFaceStorageReader(str(folder))
        for key, about in reader.read_metadata().state_dict_metadata.items():
            assert isinstance(about, TensorStorageMetadata), f"{key} is no tensor"
            other = parameters.get(key.rpartition("/")[2])
            found[key] = empty_like(other, about.size, about.properties.dtype)
        load(found, storage_reader=reader, no_dist=world is None)
    kinds: dict[str, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        kind, _, name = key.partition("/")
        kinds.setdefault(kind, {})[name] = tensor
    return kinds


def require_shared(checkpoints: Checkpoints, world: World) -> None:
    """Refuse to begin a divided run that could not be saved, for a process sees another disk.

    Raises:
        CheckpointError: on all processes.
    """
    name = f"{checkpoints.output.name}.{world.gather(uuid.uuid4().hex)[0]}"
    mark = checkpoints.output.with_name(name)
    if world.is_main:
        with suppress(OSError):  # the first save will tell why
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    try:
        (is_made,) = world.sum(world.is_main and mark.exists())
        with world.agreed():
            if is_made:
                _require_seen(mark)
    finally:
        if world.is_main:
            with suppress(OSError):
                mark.unlink(missing_ok=True)


def _require_seen(path: Path) -> None:
    if not path.exists():
        raise CheckpointError(
            f"{path.parent}: this process does not see what rank 0 writes there; a divided run is"
            " saved by all of its processes, on a disk that they share. Choose such an output, or"
            " set checkpoints.keep: 0 to save nothing."
        )


def _own_facts(aside: Path, rank: int) -> dict[str, dict[str, Any]]:
    """Hash what this process wrote, for it has that in memory still."""
    try:
        return facts_of(aside.glob(f"shard-{rank + 1:05d}-*"))
    except OSError as error:
        raise CheckpointError(f"{aside}: cannot be read again: {error.strerror}.") from error


def _files_for(named: Mapping[str, Tensor]) -> dict[str, int]:
    """Spread tensors over files of each process, by number from 1."""
    found, number, size = {}, 1, 0
    for name, tensor in named.items():
        own = own_part(tensor).nbytes
        if size and size + own > _FILE_BYTES:
            number, size = number + 1, 0
        found[name], size = number, size + own
    return found


@contextmanager
def _all_or_none(world: World, folder: Path) -> Iterator[None]:
    """Let what one process met in torch's own collectives be one error of ours on all."""
    failed: CheckpointException | None = None
    with world.together():
        try:
            yield
        except CheckpointException as error:
            failed = error
    if failed is not None:
        raise CheckpointError(f"{folder}: {_reason(failed.failures)}") from failed


def _reason(failures: Mapping[int, tuple[Any, Any]]) -> str:
    rank = min(failures)
    error = failures[rank][0]
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"rank {rank}: {told.partition(chr(10))[0]}."
