"""Read the items that models are judged on.

An item is an instruction with a reference response and, as a rule, a machine check. Any instruction
file is a suite as well, and so are prompts alone: without checks, it gives the loss on the
responses that there are, how outputs behave, and answers side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from biddable.data.builtin import builtin_names, builtin_path, create_instruction_dataset
from biddable.data.conversation import Message
from biddable.data.files import Row
from biddable.data.readers import conversations_from_rows, read_rows
from biddable.errors import DataError, EvaluationError, join_problems, nearest
from biddable.evaluation.check_forms import check_problem
from biddable.evaluation.sample import Kind, Ring, Sample
from biddable.evaluation.suite_files import BENCHMARKS, KINDS, read_benchmark, split_kind
from biddable.evaluation.words import half_pair_problem

HEADLINE_RINGS = ("entity", "wording")
NUM_SHOTS = 3

_MAX_SHOT_CHARS = 160
_SHOTS = (
    ("Which planet is closest to the Sun?", "The planet closest to the Sun is Mercury."),
    ("Put these words in alphabetical order: pear, fig, apple.", "apple, fig, pear"),
    ("Correct the spelling: 'recieve'.", "The correct spelling is 'receive'."),
)
_TEXTS = ("instruction", "response", "category", "id", "entity")
_FLAGS = ("may_echo", "may_ask")
_CHOICES = {"ring": get_args(Ring), "kind": get_args(Kind)}
_KEYS = (*_TEXTS, *_FLAGS, *_CHOICES, "check")
_OF_A_PROMPT = {"prompt", *_KEYS} - {"response", "check"}  # nothing to learn, nothing to judge by


def load_suite(name_or_path: str | Path) -> list[Sample]:
    """Load a suite.

    Args:
        name_or_path: the name of a built-in suite, as ``mimic`` or ``general``; ``KIND:FILE`` for a
            file of a well-known benchmark (``ifeval``, ``xstest``, ``gsm8k``, ``mt_bench``) or of
            ``instructions``, whose checks are passed over; or a file: of items, rows that have a
            ``check``, of prompts alone, or of instructions in any format that can be trained on.

    Returns:
        The samples in file order.

    Raises:
        EvaluationError: there is no such suite, or items in it are malformed; all are named.
        DataError: the file cannot be read, or is of no known format.
    """
    named = split_kind(str(name_or_path))
    if named is not None and named[0] in BENCHMARKS:
        return read_benchmark(*named)
    path = named[1] if named is not None else _find(str(name_or_path))
    rows = read_rows(path)
    if named is not None:
        rows = [(line, {k: v for k, v in row.items() if k != "check"}) for line, row in rows]
    has_checks = any("check" in row for _, row in rows)
    if has_checks or all(row.keys() <= _OF_A_PROMPT for _, row in rows):
        return samples_from_rows(rows, path=str(path), needs_check=has_checks)
    try:
        conversations = conversations_from_rows(rows, path=str(path))
    except DataError as error:
        kinds = ", ".join(f"{kind}:{path.name}" for kind in BENCHMARKS)
        raise DataError(
            f"{error} A published benchmark is named with its kind: {kinds}. Prompts alone are rows"
            f" with no other keys than {', '.join(sorted(_OF_A_PROMPT))}."
        ) from None
    if any(conversation.text is not None for conversation in conversations):
        raise EvaluationError(
            f"{path}: rows of plain text ask nothing; name a file of instructions."
        )
    return [
        Sample(
            id=str(conversation.line),
            instruction="\n\n".join(m.text for m in conversation.messages[:-1]),
            response=conversation.messages[-1].content,
            category=conversation.category or "all",
            messages=conversation.messages[:-1],
            source=conversation.source,
        )
        for conversation in conversations
    ]


def samples_from_rows(
    rows: Sequence[tuple[int, Row]], *, path: str | None = None, needs_check: bool = True
) -> list[Sample]:
    """Turn rows of items that are already in memory into samples.

    Args:
        rows: pairs of (1-based line, item).
        path: what the rows are called in messages.
        needs_check: an item without a check is malformed.

    Raises:
        EvaluationError: items are malformed; all are named.
    """
    problems: list[str] = []
    samples = []
    seen: dict[str, int] = {}
    for line, row in rows:
        source = f"{path}:{line}" if path else f"item {line}"
        if "prompt" in row and "instruction" not in row:
            row = {"instruction" if key == "prompt" else key: row[key] for key in row}
        found = _problems(row, needs_check=needs_check)
        name = str(row.get("id", line))
        if not found and seen.setdefault(name, line) != line:
            found = [f'id "{name}" is also that of line {seen[name]}; give each item its own.']
        problems += [f"{source}: {text}" for text in found]
        if not found:
            samples.append(_sample(row, name, source))
    if problems:
        raise EvaluationError(join_problems(problems))
    return samples


def fewshot_examples(suite: str | Path = "") -> list[tuple[str, str]]:
    """Give the three fixed examples that a prompt of a suite is opened with.

    Args:
        suite: for a built-in one they are short rows of one turn of its training split, each of
            another category and none of them refused; for a file, and for a built-in suite that
            nothing is trained on, they are general ones.

    Returns:
        Pairs of instruction and response, never of the items that are judged.
    """
    if str(suite) not in builtin_names():
        return list(_SHOTS)
    shots: dict[str, tuple[str, str]] = {}
    for row in create_instruction_dataset(str(suite), "train"):
        pair = (row["instruction"], row["response"])
        is_short = len("".join(pair)) <= _MAX_SHOT_CHARS and "\n" not in "".join(pair)
        is_plain = row.get("kind") != "harmful" and len(row.get("messages", ())) <= 2
        if is_short and is_plain and len(shots) < NUM_SHOTS:
            shots.setdefault(str(row.get("category")), pair)
    return list(shots.values())


def is_headline(sample: Sample) -> bool:
    """Tell whether an item counts in the headline; the ring *unanswered* is shown on its own."""
    return sample.ring in HEADLINE_RINGS


def _find(name: str) -> Path:
    if name in builtin_names("held_out"):
        return builtin_path(name, "held_out")
    path = Path(name).expanduser()
    if not path.exists() and path.suffix == "" and path.name == name:
        names = builtin_names("held_out")
        raise EvaluationError(
            f'no suite "{name}"; known: {", ".join(names)}, the path of a file of items or '
            f"instructions, or KIND:FILE with a kind of {', '.join(KINDS)}.{_hint(name, names)}"
        )
    return path


def _hint(name: str, names: Sequence[str]) -> str:
    """Suggest a suite, or a kind, which a file has to follow."""
    if name in KINDS:
        return f" Name its file: {name}:FILE."
    return nearest(name, [*names, *KINDS])


def _problems(row: Row, *, needs_check: bool) -> list[str]:
    problems = [
        f'key "{key}" is unknown; known: {", ".join(_KEYS)}.{nearest(key, _KEYS)}'
        for key in sorted(row.keys() - set(_KEYS))
    ]
    problems += [
        f'lacks "{key}"; an item has "instruction" (or "prompt"), "check" and, if there is one, '
        'a right "response".'
        for key in ("instruction", "check")
        if key not in row and (needs_check or key != "check")
    ]
    for key, value in row.items():
        broken = half_pair_problem(value) if key in _TEXTS and isinstance(value, str) else ""
        problems += [f'"{key}" {broken}'] if broken else []
        expected = ""
        if key in _TEXTS and not (isinstance(value, str) and value.strip()):
            expected = "a text that is not empty"
        elif key in _FLAGS and not isinstance(value, bool):
            expected = "true or false"
        elif key in _CHOICES and value not in _CHOICES[key]:
            expected = ", ".join(_CHOICES[key])
        if expected:
            hint = nearest(str(value), _CHOICES.get(key, ()))
            problems.append(f'"{key}" is {value!r}; expected {expected}.{hint}')
    problem = check_problem(row["check"]) if "check" in row else None
    return [*problems, problem] if problem else problems


def _sample(row: dict[str, Any], name: str, source: str) -> Sample:
    known = {key: row[key] for key in (*_FLAGS, *_CHOICES, "check", "entity") if key in row}
    return Sample(
        id=name,
        instruction=row["instruction"],
        response=row.get("response", ""),
        category=row.get("category", "all"),
        messages=(Message("user", row["instruction"]),),
        source=source,
        **known,
    )
