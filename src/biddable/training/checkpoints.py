"""Save a run while it runs, so that whatever ends it costs a few minutes and no more.

A checkpoint is a folder of safetensors and JSON lines, with an index that holds size and hash of
each file, and its own. It is written aside, brought to the disk and renamed; one that is there is
whole, and one that was damaged later is known by its hashes. What a state is made of is settled in
run_state.py, and the files of a divided one in parts.py; this module knows the others.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from biddable.config_checkpoints import CheckpointConfig
from biddable.errors import BiddableError, CheckpointError
from biddable.manifest import hash_file, hash_text
from biddable.training.identity import find_differences
from biddable.training.stopping import StopSignals
from biddable.whole_folder import partial_of, written_whole

Event = dict[str, Any]

SCHEMA, SCHEMA_IN_PARTS = 1, 2
_INDEX, _LOG = "checkpoint.json", "log.jsonl"
_NAME = re.compile(r"step-(\d{8,})")
_ADVICE = "Free some space, or make the folder writable; older checkpoints are as they were"
_AT_THE_END_S = 60.0  # work of more than this is saved once more before the run folder is written


@dataclass(frozen=True)
class Snapshot:
    """Hold the state of a run between two steps.

    Attributes:
        step: steps done.
        tensors: by the name of their file, then by their own; all that is not plain values.
        progress: plain values.
        log: the records so far.
        is_in_parts: the tensors lie in parts still, to be read by each process.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    progress: Mapping[str, Any]
    log: Sequence[Event]
    is_in_parts: bool = False


class Checkpoints:
    """Keep the checkpoints of one run, in a folder beside the one that it will leave.

    Attributes:
        output: the run folder to make.
        folder: ``<output>.checkpoints``; made with the first checkpoint.
        signals: those that ask the run to stop.
        found: the state to go on from, once it is known to be of the same run.
        can_save: False if none is to be made.
    """

    def __init__(self, output: Path, settings: CheckpointConfig) -> None:
        """Take the run's output folder and its settings; nothing is read or written."""
        self.output = output
        self.folder = output.with_name(output.name + ".checkpoints")
        self.signals = StopSignals()
        self.found: Snapshot | None = None
        self.can_save = settings.keep > 0
        self._keep, self._every_steps = settings.keep, settings.every_steps
        self._every_s = None if settings.every_minutes is None else 60 * settings.every_minutes
        self._stays = settings.when_done == "keep"
        self._identity: dict[str, str] = {}
        self._saved_step, self._saved_at = -1, time.monotonic()

    def listening(self) -> AbstractContextManager[object]:
        """Catch the signals that ask the run to stop, if it can be saved then."""
        return self.signals if self.can_save else contextlib.nullcontext()

    def require_none(self) -> None:
        """Refuse to begin a run where an unfinished one lies.

        Raises:
            CheckpointError: there is one.
        """
        steps = self._steps()
        if steps:
            raise CheckpointError(
                f"{self.folder}: holds a run that was cut off, saved at step {max(steps):,}. Go on"
                " with it by adding --resume, or delete that folder to begin anew."
            )

    def find(self, tell: Callable[[Event], None]) -> dict[str, str] | None:
        """Look for the newest checkpoint that is whole.

        Args:
            tell: called with a "checkpoint" event for each one that is passed over.

        Returns:
            What its run was made of; None if there is no checkpoint at all.

        Raises:
            CheckpointError: there are some, and none is whole.
        """
        problems = []
        for step in sorted(self._steps(), reverse=True):
            path = self.path(step)
            try:
                index, self.found = _read(path)
            except CheckpointError as error:
                problems.append(str(error))
                tell({"event": "checkpoint", "summary": f"passed over: {error}"})
                continue
            self._saved_step = step
            identity: dict[str, str] = index["identity"]
            return identity
        if problems:
            raise CheckpointError(
                f"{self.folder}: no checkpoint in it is whole: {'; '.join(problems)} Delete that "
                "folder to begin anew."
            )
        return None

    def require_same_run(self, then: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Refuse to go on with another run than the one that was saved.

        Args:
            then: what it was made of.
            now: the same of this one, or those parts of it that are known yet.

        Raises:
            CheckpointError: they differ; all differences are named.
        """
        found = find_differences(then, now)
        if found:
            raise CheckpointError(
                f"{self.folder}: the run that was cut off was another one: {'; '.join(found)}. Set "
                "that back as it was, or delete the folder to begin anew."
            )

    def begin(self, identity: Mapping[str, str], *, then: Mapping[str, str]) -> None:
        """Take what the run is made of, and start the clock.

        Args:
            identity: all of it.
            then: the same of the run that is resumed; empty if none is.

        Raises:
            CheckpointError: they differ.
        """
        if then:
            self.require_same_run(then, identity)
        self._identity = dict(identity)
        self._saved_at = time.monotonic()

    def is_due(self, step: int, *, is_last: bool = False) -> bool:
        """Say whether a state of so many steps should be saved now."""
        if not self.can_save or step == self._saved_step:
            return False
        since = time.monotonic() - self._saved_at
        if is_last:
            return since > min(_AT_THE_END_S, self._every_s or _AT_THE_END_S)
        is_time = self._every_s is not None and since >= self._every_s
        return is_time or (self._every_steps is not None and step % self._every_steps == 0)

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint, and remove those that it makes needless.

        Args:
            snapshot: the state; one that is saved already is not written again.

        Returns:
            Its folder.

        Raises:
            CheckpointError: the disk refuses; the checkpoints before are as they were.
        """
        path = self.path(snapshot.step)
        if self.is_new(snapshot.step):
            with self.making(snapshot.step) as aside:
                self.settle(aside, snapshot)
        return path

    def is_new(self, step: int) -> bool:
        """Say whether a state of so many steps is not saved yet."""
        return step != self._saved_step

    def path(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.folder / f"step-{step:08d}"

    def aside(self, step: int) -> Path:
        """Name the folder in which the checkpoint of a step is made."""
        return partial_of(self.path(step))

    @contextmanager
    def making(self, step: int) -> Iterator[Path]:
        """Give the folder to write a checkpoint into; see `save` for the rest.

        Raises:
            CheckpointError: the disk refuses.
        """
        path = self.path(step)
        self._saved_at = time.monotonic()  # after a failure too: it is not tried at every step
        for left in self.folder.glob("*.partial"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        if path.exists():  # damaged, or it would have been resumed from
            shutil.rmtree(path, ignore_errors=True)
        try:
            with written_whole(path, advice=_ADVICE) as aside:
                yield aside
        except CheckpointError:
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # if it is empty
            raise
        self._saved_step = step
        kept = sorted(other for other in self._steps() if other <= step)[-self._keep :]
        for other in self._steps():  # a later one is of a future that was given up
            if other not in kept:
                shutil.rmtree(self.path(other), ignore_errors=True)
        self._saved_at = time.monotonic()

    def settle(
        self,
        aside: Path,
        snapshot: Snapshot,
        *,
        parts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write what makes a folder a checkpoint.

        Args:
            aside: the folder.
            snapshot: the state.
            parts: size and hash of the files that hold its tensors, where processes have written
                them; None: they are written here.
        """
        if parts is None:
            for name, tensors in snapshot.tensors.items():
                plain = {key: tensor.detach().contiguous() for key, tensor in tensors.items()}
                save_file(plain, aside / f"{name}.safetensors", metadata={"format": "pt"})
        lines = [json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in snapshot.log]
        (aside / _LOG).write_text("".join(lines), encoding="utf-8")
        told = parts or {}
        files = {**told, **facts_of(path for path in aside.iterdir() if path.name not in told)}
        index = {
            "schema": SCHEMA if parts is None else SCHEMA_IN_PARTS,
            "step": snapshot.step,
            "identity": self._identity,
            "progress": dict(snapshot.progress),
            "files": files,
        }
        text = json.dumps({**index, "sha256": _hash(index)}, indent=2, allow_nan=False) + "\n"
        (aside / _INDEX).write_text(text, encoding="utf-8")

    def hint(self) -> str:
        """Say in a sentence what of the run is saved; empty if nothing is."""
        steps = self._steps()
        return f" It is saved at step {max(steps):,}." if steps else ""

    def add_hint(self, error: BiddableError) -> None:
        """Tell with what ended the run what is saved of it, and whether that can be gone on from.

        Args:
            error: its text grows, and it says whether the run can be resumed.
        """
        hint = self.hint()
        error.is_resumable = bool(hint) and not error.recurs
        if hint and error.recurs:
            hint = f" To begin anew, delete {self.folder} first."
        error.args = (f"{error}{hint}",)

    def remove(self) -> None:
        """Clear up after a run that is whole, unless they are to stay."""
        if not self._stays:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        matches = [_NAME.fullmatch(path.name) for path in self.folder.iterdir()]
        return [int(match[1]) for match in matches if match]


def facts_of(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Give size and SHA-256 of some files by their names, hashed on all cores."""
    ordered = sorted(files)
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(hash_file, ordered)
        return {
            file.name: {"size": file.stat().st_size, "sha256": sha256}
            for file, sha256 in zip(ordered, hashes, strict=True)
        }


def _read(folder: Path) -> tuple[dict[str, Any], Snapshot]:
    """Read a checkpoint after all of its sizes and hashes were found right.

    Raises:
        CheckpointError: it is not whole.
    """
    try:
        index: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        told = index.pop("sha256")
        if told != _hash(index):
            raise CheckpointError(f"{folder / _INDEX}: is damaged, by its hash.")
        schema, known = index["schema"], (SCHEMA, SCHEMA_IN_PARTS)
        if schema not in known:
            raise CheckpointError(
                f"{folder}: has schema {schema}, and this version reads {known[0]} and {known[1]}."
            )
        _require_whole(folder, index["files"])
        tensors = {
            name.removesuffix(".safetensors"): _load(folder / name)
            for name in index["files"]
            if schema == SCHEMA and name.endswith(".safetensors")
        }
        text = (folder / _LOG).read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(f"{folder}: cannot be read: {reason}.") from error
    log = [json.loads(line) for line in text.splitlines()]
    is_in_parts = schema == SCHEMA_IN_PARTS
    return index, Snapshot(index["step"], tensors, index["progress"], log, is_in_parts)


def _load(path: Path) -> dict[str, Tensor]:
    # copied, for they are mapped: the run would go on to read a file that it removes itself
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _require_whole(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, facts in files.items():  # before any is read to its end
        size = (folder / name).stat().st_size
        if size != facts["size"]:
            raise CheckpointError(f"{folder / name}: is cut: {size:,} of {facts['size']:,} bytes.")
    found = facts_of(folder / name for name in files)
    for name, facts in files.items():
        if found[name]["sha256"] != facts["sha256"]:
            raise CheckpointError(f"{folder / name}: is damaged, by its hash.")


def _hash(index: Mapping[str, Any]) -> str:
    return hash_text(json.dumps(index, sort_keys=True, allow_nan=False))
