"""Keep encoded rows between runs, under a name made of all that they depend on.

An entry is a folder of flat arrays, which are mapped and not read, and an index with their sizes
and hashes. It is written beside its place and renamed when it is whole; one that is damaged is
made anew. Entries may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import metadata
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biddable.data.conversation import Conversation
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import EncodingReport
from biddable.data.segments import ChatTemplate
from biddable.data.shards import Encode, Shard, encode_shards, read_shard
from biddable.data.templates import template_hash
from biddable.errors import BiddableError, DataError
from biddable.manifest import hash_file, hash_text, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMAT = 1
_INDEX = "index.json"
_TYPES = {
    "input_ids": np.int32,
    "loss_mask": np.bool_,
    "offsets": np.int64,
    "loss_tokens": np.int32,
    "lines": np.int64,
    "places": np.int32,
}
# "train.jsonl:12", "row 12", "train.jsonl:12 (answer 2)": only the number differs between most
_SOURCE = re.compile(r"(.*:|row )(0|[1-9][0-9]{0,17})(?![0-9])(.*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class CachedRows:
    """Hold what the cache gives.

    Attributes:
        rows: the examples, mapped.
        report: what became of the rows they were made from.
        about: what was to be kept beside them.
        was_kept: whether they were there already.
    """

    rows: EncodedRows
    report: EncodingReport
    about: Any
    was_kept: bool


def cache_folder() -> Path:
    """Say where entries lie: below ``$XDG_CACHE_HOME``, or below ``~/.cache`` if it is not set."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home or Path.home() / ".cache") / "biddable" / "encoded"


def cache_key(
    sources: Sequence[str],
    template: ChatTemplate,
    *,
    tokenizer: PreTrainedTokenizerBase,
    options: Mapping[str, Any],
) -> str | None:
    """Name the entry that holds some rows, encoded in one way.

    Args:
        sources: what the rows are: the hashes of their files, and how they are read and chosen.
        template: renders them.
        tokenizer: encodes them.
        options: how; plain values.

    Returns:
        A name that differs whenever the encoded rows could; None for a tokenizer that cannot be
        told from another (one without a Rust backend).
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not hasattr(backend, "to_str"):
        return None
    parts = {
        "format": _FORMAT,
        "code": _code_hash(),
        "tokenizers": metadata.version("tokenizers"),
        "sources": list(sources),
        "template": template_hash(template),
        "tokenizer": hash_text(backend.to_str()),
        "options": dict(options),
    }
    return hash_text(json.dumps(parts, sort_keys=True))[:40]


def note_read(sources: Sequence[str]) -> None:
    """Note that the rows of some sources were looked at, so that they need not be read for that.

    Raises:
        DataError: the cache cannot be written.
    """
    path = _note_of(sources)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise _unwritable(error, path) from error


def were_read(sources: Sequence[str]) -> bool:
    """Tell whether that was noted, by this version of the code."""
    return _note_of(sources).exists()


def _note_of(sources: Sequence[str]) -> Path:
    return cache_folder() / f"{hash_text(json.dumps([_code_hash(), *sources]))[:40]}.read"


def _unwritable(error: OSError, path: Path) -> DataError:
    return DataError(
        f"the cache of encoded rows cannot be written: {error.strerror or error}. Free some "
        "space, set XDG_CACHE_HOME to another folder, or turn data.cache off.",
        path=error.filename or path,
    )


def encode_rows(
    conversations: Iterable[Conversation],
    key: str,
    *,
    encode: Encode,
    about: Callable[[], Any] = lambda: None,
    num_workers: int | None = None,
) -> CachedRows:
    """Take encoded rows from the cache, or encode them into it.

    Args:
        conversations: taken in one by one, and only if they are not in the cache.
        key: as ``cache_key`` makes it of all that settles the rows and how they are encoded.
        encode: ``encode_chunk`` with its template, tokenizer and options.
        about: asked, once they are encoded, for plain values to keep beside them.
        num_workers: processes; None for one a core. The result is the same for any number.

    Returns:
        The rows and their report; of no rows, or none that could be kept, an empty one.

    Raises:
        DataError: the cache cannot be written.
        BiddableError: what ``encode_all`` raises, for the first rows that cannot be encoded.
    """
    found = open_rows(key)
    if found is not None:
        return found
    folder = cache_folder() / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            found = open_rows(key)  # another process may have been quicker
            if found is not None:
                return found
            workers = num_workers or _num_cores()
            shards = partial(encode_shards, conversations, encode=encode, num_workers=workers)
            _make_entry(folder, shards, about)
    except OSError as error:
        raise _unwritable(error, folder) from error
    except BrokenProcessPool as error:
        raise DataError(
            "a process that encodes rows was ended from outside, for want of memory as a rule. "
            "Free some, and start again; it goes on where it stopped."
        ) from error
    made = open_rows(key)
    if made is None:
        raise DataError("was written and does not read the same; look at the disk.", path=folder)
    return CachedRows(made.rows, made.report, made.about, was_kept=False)


def open_rows(key: str) -> CachedRows | None:
    """Map the arrays of an entry; None if there is none, or it is not as it was written."""
    folder = cache_folder() / key
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        body = index["body"]
        if index["sha256"] != _hash_body(body):
            return None
        for name, (size, sha256) in body["files"].items():
            path = folder / name
            if path.stat().st_size != size or hash_file(path) != sha256:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    maps: list[mmap] = []
    arrays = {name: _map(folder / name, dtype, maps) for name, dtype in _TYPES.items()}
    sources = _Sources(arrays.pop("lines"), arrays.pop("places"), body["places"])
    rows = EncodedRows(**arrays, sources=sources, mapped=tuple(maps))
    return CachedRows(rows, EncodingReport(**body["report"]), body["about"], was_kept=True)


def _map(path: Path, dtype: type[Any], maps: list[mmap]) -> NDArray[Any]:
    if not path.stat().st_size:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    with path.open("rb") as file:
        maps.append(mmap(file.fileno(), 0, access=ACCESS_READ))
    return np.frombuffer(maps[-1], dtype)


def _make_entry(
    folder: Path, encode_into: Callable[[Path], Sequence[Path]], about: Callable[[], Any]
) -> None:
    """Make an entry. What an interrupted attempt has left is used; an error leaves nothing."""
    partial_folder = folder.with_name(folder.name + ".partial")
    partial_folder.mkdir(exist_ok=True)
    try:
        _join(encode_into(partial_folder), partial_folder, about)
    except (BiddableError, OSError):
        shutil.rmtree(partial_folder, ignore_errors=True)
        raise
    for file in partial_folder.iterdir():
        if file.name not in (*_TYPES, _INDEX):
            file.unlink()
    shutil.rmtree(folder, ignore_errors=True)  # a damaged one
    os.replace(partial_folder, folder)


def _join(shards: Sequence[Path], folder: Path, about: Callable[[], Any]) -> None:
    """Put shards together into flat files, and write the index last."""
    places: dict[tuple[str, str | None], int] = {}
    reports: list[EncodingReport] = []
    num_ids = 0
    with ExitStack() as opened:
        files = {name: opened.enter_context(_HashedFile(folder / name)) for name in _TYPES}
        files["offsets"].write(np.zeros(1, np.int64))
        for path in shards:
            shard = _require(read_shard(path), path)
            rows = shard.rows
            files["input_ids"].write(rows.input_ids)
            files["loss_mask"].write(rows.loss_mask)
            files["loss_tokens"].write(rows.loss_tokens)
            files["offsets"].write(rows.offsets[1:] + num_ids)
            parts = [_split_source(source) for source in rows.sources]
            files["lines"].write(np.array([line for _, line, _ in parts], np.int64))
            numbers = [places.setdefault((a, b), len(places)) for a, _, b in parts]
            files["places"].write(np.array(numbers, np.int32))
            reports.append(shard.report)
            num_ids += len(rows.input_ids)
    report = sum(reports, EncodingReport(0, 0, [], 0, 0, 0))
    body = {
        "files": {name: [file.size, file.sha256] for name, file in files.items()},
        "report": asdict(report),
        "places": list(places),
        "about": about(),
    }
    body = json.loads(json.dumps(body))  # as it will be read
    write_json(folder / _INDEX, {"sha256": _hash_body(body), "body": body})


def _require(shard: Shard | None, path: Path) -> Shard:
    if shard is None:
        raise DataError("was written and cannot be read; look at the disk.", path=path)
    return shard


class _HashedFile:
    """Write arrays one after the other, and know their size and hash in the end."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = path.open("wb")

    def __enter__(self) -> _HashedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, array: NDArray[Any]) -> None:
        data = array.tobytes()
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)


class _Sources(Sequence[str]):
    """Say where each row stands, from a number and the text around it."""

    def __init__(
        self, lines: NDArray[np.int64], places: NDArray[np.int32], texts: Sequence[Sequence[Any]]
    ) -> None:
        self._lines, self._places, self._texts = lines, places, texts

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        before, after = self._texts[self._places[index]]
        return before if after is None else f"{before}{self._lines[index]}{after}"


def _split_source(source: str) -> tuple[str, int, str | None]:
    """Take the line out of a source.

    Example:
        >>> _split_source("train.jsonl:12"), _split_source("elsewhere")
        (('train.jsonl:', 12, ''), ('elsewhere', 0, None))
    """
    match = _SOURCE.fullmatch(source)
    return (match[1], int(match[2]), match[3]) if match else (source, 0, None)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make an entry; the others wait, and find it there."""
    try:
        import fcntl
    except ImportError:  # not on Windows; there, two runs started together may disturb each other
        yield
        return
    lock = folder.with_name(folder.name + ".lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        lock.unlink(missing_ok=True)


def _hash_body(body: Any) -> str:
    return hash_text(json.dumps(body, sort_keys=True))


@cache
def _code_hash() -> str:
    """Hash the code that makes examples of rows, so that a changed one never finds old entries."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hash_text("".join(hash_file(file) for file in files))


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # counts what a container or taskset leaves us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
