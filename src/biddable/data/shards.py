"""Encode a stream of rows in shards, on all cores, so that what was interrupted goes on.

A shard is the examples of a fixed number of rows in one file. It is renamed when it is whole, and
nothing in it depends on who made it: the files are the same for any number of workers.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import threading
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from biddable.data.conversation import Conversation, Message
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import EncodingReport
from biddable.errors import BiddableError

ROWS_PER_SHARD = 2048

Encode = Callable[[Sequence[Conversation]], tuple[EncodedRows, EncodingReport]]


@dataclass(frozen=True, eq=False)
class Shard:
    """Hold what a shard's file holds.

    Attributes:
        rows: the examples.
        report: what became of the rows they were made from.
    """

    rows: EncodedRows
    report: EncodingReport


def encode_shards(
    conversations: Iterable[Conversation], folder: Path, *, encode: Encode, num_workers: int
) -> list[Path]:
    """Encode rows into the shards of a folder; those that are there already are kept.

    Args:
        conversations: taken in one by one, and forgotten when encoded.
        folder: there; holds nothing but shards of the same rows.
        encode: makes the examples of some rows.
        num_workers: processes. One, and wherever processes cannot be forked, encodes in this one.

    Returns:
        The shards in order; none if there are no rows.

    Raises:
        BiddableError: the first of the errors that reading and encoding the rows come to.
        BrokenProcessPool: a worker was killed.
    """
    chunks = _chunks(conversations)
    first = list(islice(chunks, 2))
    tasks = ((folder / f"{n:06}.npz", chunk) for n, chunk in enumerate(chain(first, chunks)))
    paths: list[Path] = []
    if len(first) < 2 or num_workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        for path, chunk in tasks:
            paths.append(path)
            if read_shard(path) is None:
                _write_shard(path, encode(chunk))
        return paths
    waiting: deque[Future[None]] = deque()
    with _workers(encode, num_workers) as pool:
        try:
            for path, chunk in tasks:
                paths.append(path)
                if read_shard(path) is None:
                    waiting.append(pool.submit(_work, path, _pack(chunk)))
                if len(waiting) > 2 * num_workers:
                    waiting.popleft().result()
        except BiddableError:
            for future in waiting:  # rows before the one that cannot be read
                future.result()
            raise
        for future in waiting:
            future.result()
    return paths


def read_shard(path: Path) -> Shard | None:
    """Read a shard; None if it is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}  # its checksums are looked at
        facts = json.loads(arrays.pop("facts").tobytes())
        return Shard(
            EncodedRows(**arrays, sources=facts["sources"]), EncodingReport(**facts["report"])
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _write_shard(path: Path, encoded: tuple[EncodedRows, EncodingReport]) -> None:
    rows, report = encoded
    facts = json.dumps({"sources": list(rows.sources), "report": asdict(report)})
    arrays: dict[str, Any] = {
        name: getattr(rows, name) for name in ("input_ids", "loss_mask", "offsets", "loss_tokens")
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)
    os.replace(partial, path)


def _chunks(conversations: Iterable[Conversation]) -> Iterator[list[Conversation]]:
    """Cut the rows into the parts that make a shard each; a row without a place is numbered."""
    named = (
        conversation if conversation.path else replace(conversation, path=f"row {number}")
        for number, conversation in enumerate(conversations, start=1)
    )
    while chunk := list(islice(named, ROWS_PER_SHARD)):
        yield chunk


@contextmanager
def _workers(encode: Encode, num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Fork workers. They hold the tokenizer as it is; each runs on one core, as many as there are.

    Tokenizers must be told before the fork that the workers shall not use threads of their own.
    """
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.freeze()  # what is there already is not looked through again, here and in the workers
    pool = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_start_worker,
        initargs=(encode,),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        gc.unfreeze()
        del os.environ["TOKENIZERS_PARALLELISM"]
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before


_worker_encode: list[Encode] = []  # of a worker: what it was started with


def _start_worker(encode: Encode) -> None:
    gc.disable()  # it would look through all that was ever encoded, again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends us
    _worker_encode[:] = [encode]
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()  # killed, it could not tell us to stop
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(path: Path, packed: list[tuple[Any, ...]]) -> None:
    _write_shard(path, _worker_encode[0](_unpack(packed)))
    gc.collect(0)


# Plain tuples travel between processes in half the time that dataclasses take.
_of_conversation = attrgetter(*(field.name for field in fields(Conversation)))  # messages first
_of_message = attrgetter(*(field.name for field in fields(Message)))


def _pack(conversations: Sequence[Conversation]) -> list[tuple[Any, ...]]:
    packed = map(_of_conversation, conversations)
    return [(list(map(_of_message, messages)), *others) for messages, *others in packed]


def _unpack(packed: Sequence[tuple[Any, ...]]) -> list[Conversation]:
    return [
        Conversation(tuple([Message(*m) for m in messages]), *others)
        for messages, *others in packed
    ]
