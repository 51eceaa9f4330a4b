"""Read the rows of a data set on the Hugging Face hub by its name, without running its code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from biddable.data.files import COMPRESSED, ENDINGS, FileRow
from biddable.data.tables import without_nulls
from biddable.errors import DataError
from biddable.hub import asked_if_it_answers, hub_answers, why_no_answer

_NAME = re.compile(
    r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?::(?P<split>[\w.\-\[\]%:+]+))?"
)


def is_hub_name(source: str) -> bool:
    """Tell whether a name that is no path here may be one on the hub.

    Example:
        >>> is_hub_name("org/name"), is_hub_name("org/name/config:test"), is_hub_name("a/b.jsonl")
        (True, True, False)
    """
    is_file = source.lower().endswith((*ENDINGS, *COMPRESSED))
    return not is_file and _NAME.fullmatch(source) is not None


def iter_hub(source: str, *, streaming: bool = False) -> Iterator[FileRow]:
    """Read the rows of ``org/name``, ``org/name:split`` or ``org/name/config:split``.

    Args:
        source: the split is ``train`` if none is named.
        streaming: read while downloading, and keep nothing.

    Yields:
        The rows, numbered from 1; a null is a missing key.

    Raises:
        DataError: there is no such data set or split, or the hub cannot be reached.
    """
    parts = _NAME.fullmatch(source)
    assert parts is not None, source
    split = parts["split"] or "train"
    import datasets

    number = 0
    try:
        with asked_if_it_answers():
            rows: Any = datasets.load_dataset(
                parts["name"], parts["config"], split=split, streaming=streaming
            )
        for number, row in enumerate(rows, start=1):
            cells = {key: value for key, value in row.items() if value is not None}
            yield FileRow(source, number, without_nulls(cells))
    except Exception as error:  # the library has no common base for what can go wrong out there
        place = number + 1 if number else None
        raise DataError(_why(error), path=source, line=place) from error
    if not number:
        raise DataError(f"has no rows in its split {split}.", path=source)


def _why(error: Exception) -> str:
    """Say what was tried, and what to do."""
    if isinstance(error, ConnectionError) and not hub_answers():
        return (
            "no such file or folder here, nor a data set in the hub's cache, and"
            f" {why_no_answer()}. Check the name and the connection (HF_ENDPOINT names a mirror),"
            " or name a file."
        )
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"no such file or folder here, and as a data set on the hub it cannot be read ({reason})."
        " Check the name, the split and the connection."
    )
