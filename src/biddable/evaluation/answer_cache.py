"""Keep what models answered, so that nothing is generated twice and a killed evaluation goes on.

One SQLite file in the cache folder. A key is a hash of the model, the prompt and the decoding; an
answer is written when it has ended. The file is kept under a size by dropping what was not used for
longest.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from biddable.errors import CheckpointError
from biddable.models.smollm2 import cache_root

FILE_NAME = "answers.sqlite"
MAX_BYTES = 512 * 2**20
_SCHEMA = 1  # in every key: raise it when answers are made in another way
_KEPT_SHARE = 0.75  # of the size, after pruning
_WAIT_S = 30.0

Compute = Callable[[list[int]], Iterable[tuple[int, Any]]]


class AnswerCache:
    """Hold answers by key, in a file that outlives the process.

    Attributes:
        num_reused: how many answers were there already.
        num_computed: how many were computed.
    """

    def __init__(self, folder: Path | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        """Open the file, or make it.

        Args:
            folder: where it lies; None for the user's cache folder.
            max_bytes: of keys and answers together.

        Raises:
            CheckpointError: the folder cannot be written, or the file is of another kind.
        """
        self.path = (folder or cache_root()) / FILE_NAME
        self.num_reused = 0
        self.num_computed = 0
        self._max_bytes = max_bytes
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(key TEXT PRIMARY KEY, value TEXT, made REAL, used REAL)"
            )
            self._prune()
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from error

    def fill(
        self, keys: Sequence[str], compute: Compute, *, max_age_s: float | None = None
    ) -> list[Any]:
        """Give the values of keys, computing those that are not there.

        Args:
            keys: may repeat; each is computed once.
            compute: takes places in ``keys``, yields pairs of place and value (plain JSON); what it
                has yielded is kept when the process is killed before the rest.
            max_age_s: older values are computed anew; None trusts them all.

        Returns:
            A value each, in order.

        Raises:
            CheckpointError: the file cannot be read or written.
        """
        found: dict[str, Any] = {}
        try:
            for key in set(keys):
                row = self._file.execute(
                    "SELECT value FROM answers WHERE key = ? AND made >= ?",
                    (key, 0.0 if max_age_s is None else time.time() - max_age_s),
                ).fetchone()
                if row is not None:
                    found[key] = json.loads(row[0])
            used = [(time.time(), key) for key in found]
            self._file.execute("BEGIN")
            self._file.executemany("UPDATE answers SET used = ? WHERE key = ?", used)
            self._file.execute("COMMIT")
            self.num_reused += sum(key in found for key in keys)
            places = {key: n for n, key in reversed(list(enumerate(keys))) if key not in found}
            for place, value in compute(sorted(places.values())) if places else ():
                found[keys[place]] = value
                self.num_computed += 1
                now = time.time()
                self._file.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)",
                    (keys[place], json.dumps(value, ensure_ascii=False), now, now),
                )
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return [found[key] for key in keys]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _prune(self) -> None:
        """Drop what was not used for longest, if the file holds too much."""
        (held,) = self._file.execute(
            "SELECT COALESCE(SUM(LENGTH(value) + LENGTH(key)), 0) FROM answers"
        ).fetchone()
        if held <= self._max_bytes:
            return
        self._file.execute(
            "DELETE FROM answers WHERE key IN (SELECT key FROM (SELECT key, SUM(LENGTH(value)"
            " + LENGTH(key)) OVER (ORDER BY used DESC, key) AS size FROM answers) WHERE size > ?)",
            (int(self._max_bytes * _KEPT_SHARE),),
        )
        self._file.execute("VACUUM")

    def _refused(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.path}: answers cannot be kept here ({error}); delete the file, set "
            "BIDDABLE_CACHE to another folder, or evaluate with --no-cache."
        )


def fill(
    cache: AnswerCache | None,
    keys: Sequence[str],
    compute: Compute,
    *,
    max_age_s: float | None = None,
) -> list[Any]:
    """Give the values of keys, with a cache or without one; equal keys are computed once."""
    if cache is not None:
        return cache.fill(keys, compute, max_age_s=max_age_s)
    first = {key: n for n, key in reversed(list(enumerate(keys)))}
    found = dict(compute(sorted(first.values()))) if keys else {}
    return [found[first[key]] for key in keys]


def key_of(**facts: Any) -> str:
    """Name an answer by all that it depends on.

    Args:
        facts: plain values.

    Example:
        >>> key_of(prompt=[1, 2], limit=8) == key_of(limit=8, prompt=[1, 2])
        True
    """
    text = json.dumps({"schema": _SCHEMA, **facts}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def hash_weights(model: nn.Module, *, facts: Mapping[str, Any]) -> str:
    """Hash a model as it is in memory: every weight, and what else decides its output.

    The weights and not their files: an adapter that was merged, a type they were cast to and a
    step that was trained in this process count as they should, and no date of a file is trusted.
    Tensors are hashed side by side; a gigabyte took 0.53 seconds of one core when it was measured.

    Args:
        model: any module.
        facts: plain values, as its config.

    Returns:
        64 hexadecimal digits.
    """
    tensors = sorted(model.state_dict().items())
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda pair: _hash_tensor(pair[1]), tensors))
    names = [[name, digest] for (name, _), digest in zip(tensors, digests, strict=True)]
    return key_of(weights=names, facts=json.loads(json.dumps(facts, default=str)))


def _hash_tensor(tensor: object) -> str:
    if type(tensor) is not Tensor:  # a quantized weight, or a module's own state
        parts = getattr(tensor, "__tensor_flatten__", None)
        if parts is not None:
            return key_of(parts=[_hash_tensor(getattr(tensor, name)) for name in parts()[0]])
        if not isinstance(tensor, Tensor):
            return key_of(value=str(tensor))
    assert isinstance(tensor, Tensor)
    plain = tensor.detach().contiguous().cpu()
    # a single number may have any stride, which view refuses
    plain = plain.as_strided((plain.numel(),), (1,))
    described = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    data = plain.view(torch.uint8).numpy().data if plain.numel() else b""
    return hashlib.sha256(described + b":" + hashlib.sha256(data).digest()).hexdigest()
