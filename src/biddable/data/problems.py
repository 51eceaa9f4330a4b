"""Say what is wrong with a row: where it stands, what was found, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from biddable.errors import DataError


@dataclass(frozen=True, slots=True)
class Problem:
    """Hold one finding about one row.

    Attributes:
        code: short and stable, for programs: ``empty-text``, ``near-duplicate``.
        message: what was found, what is allowed, what to do.
        path: the file, if there is one.
        line: 1-based line in that file.
        message_index: 1-based message in that row, where it is about one.
        severity: whether the row cannot be learned from, or is to be looked at.
    """

    code: str
    message: str
    path: str | None = None
    line: int | None = None
    message_index: int | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        """Put the place in front.

        Example:
            >>> str(Problem("empty-text", "empty response.", path="train.jsonl", line=412))
            'train.jsonl:412: empty response.'
        """
        return str(DataError(self.message, path=self.path, line=self.line))
