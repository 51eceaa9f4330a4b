"""Check a file of rows: gather what every look at it finds, and count what is in it.

The looks are in modules of their own: ``check_rows`` (a row by itself), ``duplicates``, ``leaks``,
``language`` and ``lengths``. ``check_report`` and ``check_page`` show what was found here.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from biddable.data.check_rows import COMMON_CONTROLS, look_at_rows
from biddable.data.conversation import Conversation
from biddable.data.duplicates import duplicate_findings
from biddable.data.files import tell_passed_over
from biddable.data.language import detect_languages, language_findings
from biddable.data.leaks import (
    Item,
    benchmark_findings,
    benchmark_items,
    entity_findings,
    held_out_findings,
)
from biddable.data.lengths import (
    RowLength,
    Truncation,
    describe_lengths,
    ledger,
    measure_characters,
    measure_tokens,
    outlier_findings,
)
from biddable.data.near import Signature, common_pairs, signer
from biddable.data.problems import Problem
from biddable.data.readers import ReadOptions, examine, read_rows
from biddable.data.segments import ChatTemplate
from biddable.data.unfinished import ends_with_stops
from biddable.data.wording import answer_of, prompt_of, whole_text
from biddable.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 1_000
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Rows:
    """Hold the rows of a file as far as they can be read.

    Attributes:
        path: the file.
        num_rows: rows in it, the unreadable ones too.
        conversations: the readable ones.
        problems: of the others.
        passed_over: files of a folder that are not data.
    """

    path: str
    num_rows: int
    conversations: Sequence[Conversation]
    problems: Sequence[Problem] = ()
    passed_over: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ruler:
    """Hold what rows are measured with.

    Attributes:
        name: said beside the lengths, as they are this tokenizer's alone.
        template: renders the rows.
        tokenizer: encodes them.
        max_seq_len: tokens a row may have; None for no limit.
        reads: tokens that its model takes, noted where there is no limit; None if it is not known.
    """

    name: str
    template: ChatTemplate
    tokenizer: PreTrainedTokenizerBase
    max_seq_len: int | None = None
    reads: int | None = None


@dataclass(frozen=True, slots=True)
class Against:
    """Hold what the rows must not be shared with.

    Attributes:
        held_out: the rows that are asked later; None if there are none.
        entity_key: the key whose value may be on one side only.
        benchmark: texts of benchmarks.
    """

    held_out: Rows | None = None
    entity_key: str | None = None
    benchmark: Sequence[Item] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Hold what was found in a file.

    Attributes:
        path: the file.
        num_rows: rows in it.
        problems: errors first, then by line.
        lengths: percentiles of prompts, answers and rows.
        truncation: what the length limit costs.
        languages: rows by the language of their answer, where it is sure.
        categories: rows by their own category.
        row_lengths: of each row that could be measured.
        notes: what else is to be known: files passed over, what the template does.
    """

    path: str
    num_rows: int
    problems: list[Problem]
    lengths: dict[str, Any]
    truncation: Truncation
    languages: dict[str, int]
    categories: dict[str, int]
    row_lengths: list[RowLength]
    notes: Sequence[str] = ()

    @property
    def errors(self) -> list[Problem]:
        """Give the findings that cannot be learned from, or do harm for certain."""
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """Give the findings to look at."""
        return [problem for problem in self.problems if problem.severity == "warning"]

    def as_dict(self) -> dict[str, Any]:
        """Give the report as plain values, for a program to read."""
        return {
            "file": self.path,
            "rows": self.num_rows,
            "errors": [problem.as_dict() for problem in self.errors],
            "warnings": [problem.as_dict() for problem in self.warnings],
            "counts": dict(Counter(problem.code for problem in self.problems).most_common()),
            "truncation": {name: getattr(self.truncation, name) for name in Truncation.__slots__},
            "lengths": self.lengths,
            "languages": self.languages,
            "categories": self.categories,
            "notes": list(self.notes),
        }


def read_for_check(path: str | Path, *, options: ReadOptions = ReadOptions()) -> Rows:
    """Read what can be read of a file, and say what is wrong with the rest.

    Args:
        path: the file, or a folder of files.
        options: the format, if it is not to be recognised, and the roles.

    Raises:
        DataError: there is no such file, or a folder holds none that can be read.
    """
    name = str(path)
    try:
        reading = examine(path, options=options)
    except DataError as error:
        if not Path(path).is_file():
            raise
        return Rows(name, 0, (), [Problem("unreadable", _without_place(error), name, error.line)])
    found = (reading.num_rows, reading.conversations, reading.problems, reading.passed_over)
    return Rows(name, *found)


def read_benchmark(path: str | Path) -> list[Item]:
    """Read the texts of a benchmark, whatever its keys are.

    Args:
        path: JSON, JSON lines, CSV with a header, or one text a line.

    Raises:
        DataError: it cannot be read, or holds no text long enough to be looked for.
    """
    place = Path(path)
    if place.suffix not in (".csv", ".txt"):
        rows = read_rows(path)
    else:
        try:
            lines = place.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read: {error}.", path=path) from None
        table = csv.DictReader(lines)
        rows = (
            [(table.line_num, dict(row)) for row in table]
            if place.suffix == ".csv"
            else [(number, {"text": line}) for number, line in enumerate(lines, start=1)]
        )
    items = benchmark_items(rows, str(path))
    if not items:
        raise DataError("has no text of five words or more to look for.", path=path)
    return items


def check(
    rows: Rows, *, ruler: Ruler | None = None, against: Against | None = None, processes: int = 1
) -> CheckReport:
    """Look at all rows of a file.

    Args:
        rows: see ``read_for_check``.
        ruler: measures tokens; None measures characters.
        against: held-out rows and benchmarks.
        processes: share the looking; 1 looks in this one.

    Returns:
        What was found, errors first.
    """
    conversations = rows.conversations
    with ProcessPoolExecutor(processes) if processes > 1 else nullcontext() as pool:
        is_usual = ends_with_stops(conversations)
        look = partial(look_at_rows, controls=_controls(ruler), is_usual_to_stop=is_usual)
        problems = [*rows.problems]
        for found in _share_out(look, conversations, pool):
            problems += found
        problems += duplicate_findings(
            conversations, _sign([whole_text(row) for row in conversations], pool)
        )
        spoken = _share_out(detect_languages, [_exchange(row) for row in conversations], pool)
        prompts = [prompt_of(row) for row in conversations]
        in_other_languages, languages = language_findings(conversations, spoken, prompts)
        problems += in_other_languages
        if against is not None:
            problems += _shared_findings(rows, against, pool)
    lengths, found = _measure(conversations, ruler)
    problems += found
    problems += outlier_findings(conversations, lengths, "tokens" if ruler else "characters")
    known = [length for length in lengths if length]
    categories = Counter(row.category for row in conversations if row.category)
    return CheckReport(
        path=rows.path,
        num_rows=rows.num_rows,
        problems=sorted(problems, key=lambda p: (p.severity, p.path or "", p.line or 0, p.code)),
        lengths=describe_lengths(known, f"tokens of {ruler.name}" if ruler else "characters"),
        truncation=ledger(known, ruler.max_seq_len if ruler else None),
        languages=languages,
        categories=dict(categories.most_common()),
        row_lengths=known,
        notes=[*_notes(rows, ruler), *_too_long_to_read(known, ruler)],
    )


def _shared_findings(rows: Rows, against: Against, pool: Executor | None) -> list[Problem]:
    problems: list[Problem] = []
    held_out = against.held_out
    if held_out is not None:
        prompts = [prompt_of(row) or whole_text(row) for row in rows.conversations]
        asked = [prompt_of(row) or whole_text(row) for row in held_out.conversations]
        common = common_pairs(prompts)
        problems += held_out.problems
        problems += held_out_findings(
            rows.conversations,
            held_out.conversations,
            train_signatures=_share_out(signer(common), prompts, pool),
            held_out_signatures=_share_out(signer(common), asked, pool),
        )
        if against.entity_key is not None:
            key = against.entity_key
            problems += entity_findings(rows.conversations, held_out.conversations, key)
    if against.benchmark:
        problems += benchmark_findings(rows.conversations, against.benchmark)
    return problems


def _measure(
    conversations: Sequence[Conversation], ruler: Ruler | None
) -> tuple[Sequence[RowLength | None], list[Problem]]:
    if ruler is None:
        return [measure_characters(row) for row in conversations], []
    return measure_tokens(
        conversations, ruler.template, ruler.tokenizer, max_seq_len=ruler.max_seq_len
    )


def _notes(rows: Rows, ruler: Ruler | None) -> list[str]:
    passed_over = [tell_passed_over(rows.passed_over)] if rows.passed_over else []
    return [*passed_over, *(ruler.template.notes if ruler else ())]


def _too_long_to_read(lengths: Sequence[RowLength], ruler: Ruler | None) -> list[str]:
    if ruler is None or ruler.max_seq_len is not None or ruler.reads is None:
        return []
    most = ruler.reads
    num = sum(length.total > most for length in lengths)
    rows = "1 row has" if num == 1 else f"{num:,} rows have"
    told = f"{rows} more than {most:,} tokens, all that {ruler.name.partition(',')[0]} reads, and"
    return [f"{told} training it would drop them; --model MODEL measures for yours"] if num else []


def _sign(texts: Sequence[str], pool: Executor | None) -> list[Signature]:
    return _share_out(signer(common_pairs(texts)), texts, pool)


def _share_out(
    look: Callable[[Sequence[T]], list[R]], items: Sequence[T], pool: Executor | None
) -> list[R]:
    """Give the items to all processes in pieces, and join what comes back in order."""
    if pool is None:
        return look(items)
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]
    return [found for part in pool.map(look, chunks) for found in part]


def _controls(ruler: Ruler | None) -> tuple[str, ...]:
    """List the texts that a template or tokenizer gives a meaning."""
    if ruler is None:
        return COMMON_CONTROLS
    added = ruler.tokenizer.added_tokens_decoder.values()
    special = {str(token) for token in added if token.special}
    own = {*special, *ruler.template.markers, ruler.template.stop_text, ruler.template.bos_text}
    return tuple(sorted({*COMMON_CONTROLS, *own} - {""}))


def _exchange(row: Conversation) -> tuple[str, str]:
    """Give the last question and its answer."""
    asked = [message.content for message in row.messages if message.role == "user"]
    return (asked[-1] if asked else "", answer_of(row))


def _without_place(error: DataError) -> str:
    place = f"{error.path}:{error.line}: " if error.line else f"{error.path}: "
    return str(error).removeprefix(place)
