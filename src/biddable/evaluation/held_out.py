"""Find the rows that a run held out, so that its model is judged on them and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from biddable.data.readers import read_rows
from biddable.data.splits import split_rows
from biddable.errors import CheckpointError, DataError, EvaluationError
from biddable.manifest import hash_file

_ROWS = "held_out.jsonl"


@contextmanager
def suite_for(model: str, folder: str | Path, given: str | None = None) -> Iterator[str]:
    """Name the suite that a model is judged on; what fails meanwhile leaves the folder as it was.

    Args:
        model: as `suite_of` takes it.
        folder: likewise.
        given: a suite that was named; then nothing is written.
    """
    if given is not None:
        yield given
        return
    target = Path(folder) / _ROWS
    was = target.read_bytes() if target.is_file() else None
    made = [place for place in (target.parent, *target.parent.parents) if not place.exists()]
    try:
        yield suite_of(model, folder)
    except BaseException:
        if was is not None:
            target.write_bytes(was)
        else:
            target.unlink(missing_ok=True)
        with suppress(OSError):  # others have put something there by now
            for place in made:
                place.rmdir()
        raise


def suite_of(model: str, folder: str | Path) -> str:
    """Name the suite that a model is judged on where none is given.

    Args:
        model: a model's name; ``mimic``, or a run folder.
        folder: rows that were cut off the run's training file are written here, held_out.jsonl.

    Returns:
        What ``load_suite`` takes.

    Raises:
        EvaluationError: the model is no run, or its run held out nothing.
        DataError: the file is gone, or has changed since the run.
        CheckpointError: the folder cannot be written.
    """
    path = Path(model) / "manifest.json"
    if model == "mimic":
        return model
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings = manifest.get("config", {}).get("data", {})
    if settings.get("held_out"):
        return str(settings["held_out"])
    if not settings.get("held_out_rows"):
        raise EvaluationError(
            f"{model}: no run that held out rows, so there is nothing to judge it on; name a"
            " suite: mimic, or a file."
        )
    target = Path(folder) / _ROWS
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _held_out_rows(manifest)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror}.") from error
    return str(target)


def _held_out_rows(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    settings, described = manifest["config"]["data"], manifest["data"]["held_out"]
    files = described.get("files") or [described]  # a run of 0.1.0 names one
    rows: list[tuple[int, dict[str, Any]]] = []
    for file in files:
        if file["sha256"] is None:
            raise EvaluationError(
                f"{file['file']}: from the hub, where it may change, so what the run held out is"
                " not known; name a suite."
            )
        rows += read_rows(file["file"])
        if hash_file(file["file"]) != file["sha256"]:
            raise DataError(
                "has changed since the run, so what it held out is not known; name a suite.",
                path=file["file"],
            )
    _, held_out = split_rows(
        [row for _, row in rows],
        held_out_rows=settings["held_out_rows"],
        shuffle_seed=settings["shuffle_seed"],
    )
    return held_out
