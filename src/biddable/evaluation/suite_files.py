"""Read the files that well-known benchmarks come as, named ``KIND:FILE``.

Each reader gives plain items and nothing of its own: how an answer is judged stands in the item's
check, what should be refused in its kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from biddable.data.conversation import Message
from biddable.data.files import Row
from biddable.data.readers import read_rows
from biddable.errors import EvaluationError, join_problems, nearest
from biddable.evaluation.ifeval.judging import instructions_problem
from biddable.evaluation.sample import Sample
from biddable.evaluation.words import half_pair_problem

_CALCULATION = re.compile(r"<<[^<>]*>>")
_RESULT = re.compile(r"####\s*(-?[\d,]+(?:\.\d+)?)\s*$")
_LABELS = {"safe": "lookalike", "unsafe": "harmful"}
Reader = Callable[[Row, str], list[Sample]]


def split_kind(name: str) -> tuple[str, Path] | None:
    """Split ``KIND:FILE``.

    Returns:
        The kind and the file; None for a name of another form.

    Raises:
        EvaluationError: it has that form, and there is no such kind.

    Example:
        >>> split_kind("gsm8k:test.jsonl"), split_kind("items.jsonl")
        (('gsm8k', PosixPath('test.jsonl')), None)
    """
    kind, colon, file = name.partition(":")
    if not colon or not file or Path(name).exists() or not re.fullmatch(r"\w{2,}", kind):
        return None
    if kind not in KINDS:
        raise EvaluationError(
            f'suite "{name}": no kind "{kind}"; known: {", ".join(KINDS)}.{nearest(kind, KINDS)}'
        )
    return kind, Path(file).expanduser()


def read_benchmark(kind: str, path: Path) -> list[Sample]:
    """Read a benchmark's file.

    Args:
        kind: one that ``BENCHMARKS`` has.
        path: the file, as its makers publish it.

    Returns:
        Its items in file order; a question of two turns is two items.

    Raises:
        DataError: the file cannot be read.
        EvaluationError: rows are not of that kind; all are named.
    """
    samples: list[Sample] = []
    problems: list[str] = []
    for line, row in read_rows(path):
        source = f"{path}:{line}"
        try:
            samples += BENCHMARKS[kind](row, source)
        except _Malformed as error:
            problems.append(f"{source}: {error} (read as {kind})")
    if problems:
        raise EvaluationError(join_problems(problems))
    seen: dict[str, str] = {}
    for sample in samples:
        if seen.setdefault(sample.id, sample.source) != sample.source:
            problems.append(
                f'{sample.source}: id "{sample.id}" is also that of {seen[sample.id]}; '
                "give each item its own."
            )
    if problems:
        raise EvaluationError(join_problems(problems))
    return samples


class _Malformed(ValueError):
    """Raised when a row lacks what its kind needs."""


def _take(row: Row, key: str, kind: type | tuple[type, ...], expected: str) -> Any:
    if key not in row:
        raise _Malformed(f'lacks "{key}", {expected}.{nearest(key, row)}')
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, str) and not value.strip()):
        raise _Malformed(f'"{key}" is {str(value)[:60]!r}; expected {expected}.')
    for text in value if isinstance(value, list) else [value]:
        broken = half_pair_problem(text) if isinstance(text, str) else ""
        if broken:
            raise _Malformed(f'"{key}" {broken}')
    return value


def _item(name: object, prompt: str, source: str, **facts: Any) -> Sample:
    return Sample(
        id=str(name),
        instruction=prompt,
        response=facts.pop("response", ""),
        category=facts.pop("category", "all"),
        messages=(Message("user", prompt),),
        source=source,
        **facts,
    )


def _ifeval(row: Row, source: str) -> list[Sample]:
    """Read IFEval's input_data.jsonl (Zhou et al. 2023, arXiv 2311.07911)."""
    prompt = _take(row, "prompt", str, "a text")
    ids = _take(row, "instruction_id_list", list, "a list of instruction ids")
    settings = _take(row, "kwargs", list, "a list with an object for each instruction")
    if not ids or len(ids) != len(settings):
        raise _Malformed(
            f'has {len(ids)} instructions and {len(settings)} "kwargs"; give one each.'
        )
    if not all(given is None or isinstance(given, dict) for given in settings):
        raise _Malformed('"kwargs" has one that is no object; expected an object or null for each.')
    instructions = [
        {"id": name, "kwargs": {k: v for k, v in (given or {}).items() if v is not None}}
        for name, given in zip(ids, settings, strict=True)
    ]
    problem = instructions_problem(instructions)
    if problem:
        raise _Malformed(problem)
    groups = {str(name).partition(":")[0] for name in ids}
    ends = [str((given or {}).get("end_phrase") or "") for given in settings]
    return [
        _item(
            row.get("key", source.rpartition(":")[2]),
            prompt,
            source,
            category=groups.pop() if len(groups) == 1 else "several kinds",
            check={"kind": "ifeval", "instructions": instructions},
            may_echo="combination:repeat_prompt" in ids,
            may_ask=any("?" in end for end in ends),
        )
    ]


def _xstest(row: Row, source: str) -> list[Sample]:
    """Read XSTest's CSV (Röttger et al. 2024, arXiv 2308.01263)."""
    prompt = _take(row, "prompt", str, "a text")
    label = _take(row, "label", str, "safe or unsafe")
    if label not in _LABELS:
        raise _Malformed(f'"label" is {label!r}; expected safe or unsafe.')
    return [
        _item(
            row.get("id", source.rpartition(":")[2]),
            prompt,
            source,
            category=str(row.get("type") or "all"),
            kind=_LABELS[label],
        )
    ]


def _gsm8k(row: Row, source: str) -> list[Sample]:
    """Read GSM8K's test.jsonl (Cobbe et al. 2021, arXiv 2110.14168)."""
    question = _take(row, "question", str, "a text")
    answer = _take(row, "answer", str, "a solution that ends in #### and the result")
    result = _RESULT.search(answer)
    if result is None:
        raise _Malformed('"answer" ends in no "#### " and a number.')
    number = float(result[1].replace(",", ""))
    return [
        _item(
            source.rpartition(":")[2],
            question,
            source,
            category="math word problems",
            response=_CALCULATION.sub("", answer),
            check={"kind": "number", "value": int(number) if number.is_integer() else number},
        )
    ]


def _mt_bench(row: Row, source: str) -> list[Sample]:
    """Read MT-Bench's question.jsonl (Zheng et al. 2023, arXiv 2306.05685), two turns each."""
    name = str(row.get("question_id", source.rpartition(":")[2]))
    turns = _take(row, "turns", list, "a list of texts, what is asked turn by turn")
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise _Malformed('"turns" has one that is no text; expected what is asked turn by turn.')
    references = row.get("reference") or []
    samples: list[Sample] = []
    for n, turn in enumerate(turns):
        reference = references[n] if n < len(references) else ""
        samples.append(
            _item(
                f"{name}-{n + 1}",
                turn,
                source,
                category=str(row.get("category") or "all"),
                response=reference if isinstance(reference, str) else "",
                after=samples[-1].id if samples else None,
            )
        )
    return samples


BENCHMARKS: dict[str, Reader] = {
    "ifeval": _ifeval,
    "xstest": _xstest,
    "gsm8k": _gsm8k,
    "mt_bench": _mt_bench,
}
KINDS: Sequence[str] = (*BENCHMARKS, "instructions")
