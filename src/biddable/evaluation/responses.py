"""Take responses that are ready, one ``{"prompt", "response"}`` a line, as answers to a suite.

A response belongs to the item whose prompt it repeats; the order is free. Nothing is guessed: a
prompt that no item has, and one that stands there too often, are refused by file and line. Items
without a response are left out and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biddable.data.readers import read_rows
from biddable.errors import EvaluationError, join_problems, nearest
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.asking import Answered, Asking, PromptForm, Tell
from biddable.evaluation.openai_form import CUT, ENDED, ended
from biddable.evaluation.sample import Sample
from biddable.evaluation.words import half_pair_problem

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Ready:
    line: int
    response: str
    finish_reason: str | None


class ReadyResponses:
    """A file of responses as a source of answers; see ``AnswerSource``.

    Attributes:
        missing: the items of the last suite that it had no response to, as they are named.
    """

    template: str | None = None
    manifest: dict[str, Any] | None = None
    taught: PromptForm | None = None
    is_ready = True
    cache: AnswerCache | None = None

    def __init__(self, path: str | Path) -> None:
        """Read the file.

        Args:
            path: JSON lines, or another kind of file that rows are read from; keys beside prompt
                and response are passed over, but for ``finish_reason`` (``stop`` or ``length``).

        Raises:
            DataError: it cannot be read.
            EvaluationError: lines are malformed; all are named.
        """
        self.name = self.source = str(path)
        self.missing: list[str] = []
        self._ready: dict[str, list[_Ready]] = {}
        problems = []
        for line, row in read_rows(path):
            problem = _problem(row)
            if problem:
                problems.append(f"{path}:{line}: {problem}")
                continue
            ready = _Ready(line, row["response"], row.get("finish_reason"))
            self._ready.setdefault(_folded(row["prompt"]), []).append(ready)
        if problems:
            raise EvaluationError(join_problems(problems))

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Give each item its response; None where there is none.

        Raises:
            EvaluationError: no response belongs to an item, or prompts stand there too often.
        """
        asked: dict[str, list[int]] = {}
        for n, sample in enumerate(samples):
            asked.setdefault(self._key(sample), []).append(n)
        problems = []
        for prompt, ready in self._ready.items():
            places = asked.get(prompt, [])
            if places and len(ready) not in (1, len(places)):
                lines = ", ".join(str(entry.line) for entry in ready)
                problems.append(
                    f'{self.name}:{ready[0].line}: the prompt "{prompt[:_SHOWN]}" stands in '
                    f"{len(ready)} lines ({lines}), and {len(places)} of the items ask it; keep "
                    "one response for each."
                )
        if problems:
            raise EvaluationError(join_problems(problems))
        found: list[Answered | None] = [None] * len(samples)
        for prompt, places in asked.items():
            ready = self._ready.get(prompt, [])
            for place, n in enumerate(places if ready else ()):
                entry = ready[place if len(ready) > 1 else 0]
                found[n] = Answered(entry.response, ended(entry.finish_reason))
        self.missing += [
            samples[n].source or samples[n].id for n, answer in enumerate(found) if answer is None
        ]
        return found

    def answered(self, samples: Sequence[Sample]) -> list[Sample]:
        """Give the items that there is a response to.

        Args:
            samples: all items of a suite.

        Raises:
            EvaluationError: there are responses to prompts that no item has; all are named.
        """
        known = {key for sample in samples for key in _keys_of(sample)}
        strange = [(prompt, r[0].line) for prompt, r in self._ready.items() if prompt not in known]
        problems = [
            f'{self.name}:{line}: no item of the suite asks "{prompt[:_SHOWN]}".'
            f"{nearest(prompt[:400], [k[:400] for k in known]) if n < 3 else ''}"
            for n, (prompt, line) in enumerate(strange)
        ]
        if problems:
            raise EvaluationError(join_problems(problems))
        return [sample for sample in samples if self._key(sample) in self._ready]

    def _key(self, sample: Sample) -> str:
        """Choose under which of its texts a response to an item is looked for."""
        keys = _keys_of(sample)
        return next((key for key in keys if key in self._ready), keys[0])


def _keys_of(sample: Sample) -> list[str]:
    """Give all that a file may call the prompt of an item: the whole of it, or its last turn."""
    return [_folded(sample.instruction), _folded(sample.messages[-1].text)]


def _folded(text: str) -> str:
    return " ".join(text.split())


def _problem(row: dict[str, Any]) -> str | None:
    for key in ("prompt", "response"):
        if key not in row:
            close = nearest(key, row)
            return f'lacks "{key}"; a line has "prompt" and "response".{close}'
        if not isinstance(row[key], str):
            return f'"{key}" is {str(row[key])[:_SHOWN]!r}; expected a text.'
        broken = half_pair_problem(row[key])
        if broken:
            return f'"{key}" {broken}'
    reason = row.get("finish_reason")
    if reason not in (None, ENDED, CUT):
        shown = f'"{reason}"' if isinstance(reason, str) else repr(reason)
        return (
            f'"finish_reason" is {shown[:_SHOWN]}; expected "{ENDED}" (it ended by itself), "{CUT}"'
            " (it was cut), or null or no such key (not known)."
        )
    return None
