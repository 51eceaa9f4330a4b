"""Name what can go wrong, in one tree whose root the command line shows without a traceback.

- BiddableError
    - ConfigError
    - DataError
    - TemplateError
    - CheckpointError
    - TrainingError
    - RunStopped
    - EvaluationError
    - ExportError

A message says where, what was found, what is allowed and what to do. The lowest module of the
package: it imports nothing of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from types import MappingProxyType

MAX_SHOWN_PROBLEMS = 20


class BiddableError(Exception):
    """Raised through its children; the command line shows it in one line, without a traceback.

    Attributes:
        is_told: another process of the same run says it; the command line only ends with it.
        is_resumable: the run is saved; the command line says how it goes on.
        recurs: the same run, resumed, would end in the same way; only another one helps.
    """

    is_told = False
    is_resumable = False
    recurs = False


class ConfigError(BiddableError):
    """Raised when a setting, a config file or the name of a model or data set is not usable."""


class DataError(BiddableError):
    """Raised when a file of rows cannot be read, or a row in it cannot be learned from.

    Attributes:
        path: the file, if there is one.
        line: 1-based line in that file.
        message_index: 1-based message in that row, for callers; the text names it itself.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | PathLike[str] | None = None,
        line: int | None = None,
        message_index: int | None = None,
    ) -> None:
        """Put ``path:line:`` in front of the message, as far as they are known.

        Example:
            >>> str(DataError("empty response.", path="train.jsonl", line=412))
            'train.jsonl:412: empty response.'
        """
        self.path = None if path is None else fspath(path)
        self.line = line
        self.message_index = message_index
        super().__init__(_place(self.path, line) + message)


class TemplateError(BiddableError):
    """Raised when a chat template is unknown, or cannot render a conversation faithfully.

    Attributes:
        rows: the reason by the 0-based number of each conversation that cannot be rendered, where
            several were given.
    """

    rows: Mapping[int, str] = MappingProxyType({})


class CheckpointError(BiddableError):
    """Raised when a run or model folder cannot be written, is in the way, or is not whole."""


class TrainingError(BiddableError):
    """Raised when training cannot go on, as with a loss or gradient that is not a number."""


class RunStopped(BiddableError):
    """Raised when a run was told to stop, has saved itself, and can be resumed.

    Attributes:
        exit_code: what the process should end with: 128 and the signal's number.
    """

    is_resumable = True

    def __init__(self, message: str, *, exit_code: int) -> None:
        """Take what to say, and how to end."""
        super().__init__(message)
        self.exit_code = exit_code


class EvaluationError(BiddableError):
    """Raised when an item's check is malformed, or two models cannot be compared fairly."""


class ExportError(BiddableError):
    """Raised when a model cannot be written in the form that was asked for."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is closest to a mistyped one.

    Args:
        name: what was found.
        known: what is allowed.

    Returns:
        A sentence that starts with a space, ready to append; empty if nothing is close.

    Example:
        >>> nearest("chatlm", ["inst", "alpaca", "chatml"])
        ' Did you mean "chatml"?'
        >>> nearest("zzz", ["inst", "alpaca"])
        ''
    """
    by_lower = {candidate.lower(): candidate for candidate in sorted(known, reverse=True)}
    close = difflib.get_close_matches(name.lower(), sorted(by_lower), n=1, cutoff=0.6)
    return f' Did you mean "{by_lower[close[0]]}"?' if close else ""


def how_to_install(extra: str | None = None) -> str:
    """Say how to get the package, or the packages of an extra: from the checkout.

    Example:
        >>> how_to_install("serve")
        "pip install -c constraints.txt -e '.[serve]' in biddable's checkout"
    """
    what = f"'.[{extra}]'" if extra else "."
    return f"pip install -c constraints.txt -e {what} in biddable's checkout"


def join_problems(problems: Sequence[str], *, limit: int = MAX_SHOWN_PROBLEMS) -> str:
    """Join gathered problems into one message: the first ones in full, the rest counted.

    Args:
        problems: one line each, in the order found.
        limit: how many are shown.

    Returns:
        The problems, one a line.

    Example:
        >>> print(join_problems(["a.jsonl:1: empty.", "a.jsonl:2: empty."], limit=1))
        a.jsonl:1: empty.
        ... and 1 more
    """
    shown = list(problems[:limit])
    if len(problems) > limit:
        shown.append(f"... and {len(problems) - limit} more")
    return "\n".join(shown)


def once_each(problems: Iterable[str], *, few: int = 3) -> list[str]:
    """Tell a fault that more than a few rows share once, with its first row and their number.

    Args:
        problems: each a place, a colon, and what is wrong there.
        few: so many rows with the same fault are still named one by one.

    Example:
        >>> once_each(["a:1: no stop.", "a:2: no stop.", "a:3: empty."], few=1)
        ['a:1: no stop. (and so in 1 more)', 'a:3: empty.']
    """
    shared: dict[str, list[str]] = {}
    for problem in problems:
        shared.setdefault(problem.partition(": ")[2], []).append(problem)
    found: list[str] = []
    for same in shared.values():
        more = f" (and so in {len(same) - 1:,} more)"
        found += same if len(same) <= few else [same[0] + more]
    return found


def _place(path: str | None, line: int | None) -> str:
    if path is None:
        return "" if line is None else f"line {line}: "
    return f"{path}: " if line is None else f"{path}:{line}: "
