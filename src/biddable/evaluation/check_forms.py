"""Say how a check is written, and what is wrong with one that is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from biddable.errors import nearest
from biddable.evaluation.ifeval.judging import instructions_problem
from biddable.evaluation.pattern_search import pattern_problem
from biddable.evaluation.schemas import schema_problem

Check = Mapping[str, Any]

# Keys of each kind, with the type of their value; those marked "!" must be there.
_TEXTS, _NUMBER = "a list of texts", "a number"
_KEYS: dict[str, dict[str, str]] = {
    "contains": {"all": _TEXTS, "any": _TEXTS, "none": _TEXTS, "max_words": _NUMBER},
    "number": {
        "value": "!" + _NUMBER,
        "units": "an object of units with their factors",
        "tolerance": _NUMBER,
        "max_words": _NUMBER,
    },
    "lines": {
        "count": "!" + _NUMBER,
        "contains": _TEXTS,
        "distinct": _NUMBER,
        "min_words": _NUMBER,
        "max_words": _NUMBER,
    },
    "list": {"items": "!" + _TEXTS},
    "set": {"items": "!" + _TEXTS},
    "pattern": {"pattern": "!a regular expression", "whole": "true or false"},
    "syllables": {"lines": "!a list of whole numbers"},
    "similar": {"reference": "!a text", "min_rouge_l": "!" + _NUMBER},
    "python": {"reference": "!a text", "tests": "a list of [expression, repr] pairs"},
    "summary": {"text": "!a text", "all": "!" + _TEXTS, "max_share": _NUMBER},
    "json": {"value": "an object or a list", "schema": "an object"},
    "ifeval": {"instructions": "!a list of instructions"},
    "refuses": {},
    "all": {"checks": "!a list of checks"},
}
KINDS = tuple(_KEYS)


def check_problem(check: object) -> str | None:
    """Say what is wrong with a check; None if it is well formed.

    Example:
        >>> check_problem({"kind": "contain", "all": ["x"]})
        'check has kind "contain"; known: contains, number, lines, list, set, pattern, syllables, \
similar, python, summary, json, ifeval, refuses, all. Did you mean "contains"?'
    """
    if not isinstance(check, Mapping) or not isinstance(check.get("kind"), str):
        return f'check is {check!r}; expected an object with a "kind" ({", ".join(KINDS)}).'
    kind = check["kind"]
    if kind not in _KEYS:
        known = ", ".join(KINDS)
        return f'check has kind "{kind}"; known: {known}.{nearest(kind, KINDS)}'
    keys = _KEYS[kind]
    for key in check.keys() - {"kind"} - keys.keys():
        known = ", ".join(keys) or "none"
        return f'check of kind "{kind}" has key "{key}"; known: {known}.{nearest(str(key), keys)}'
    for key, expected in keys.items():
        if key not in check:
            if expected.startswith("!"):
                return f'check of kind "{kind}" lacks "{key}", {expected[1:]}.'
        elif not _IS[expected.removeprefix("!")](check[key]):
            found = repr(check[key])[:60]
            return (
                f'check of kind "{kind}" has {found} as "{key}"; expected {expected.lstrip("!")}.'
            )
    if kind == "contains" and not any(check.get(key) for key in ("all", "any", "none")):
        return 'check of kind "contains" asks for nothing; give "all", "any" or "none".'
    return _PROBLEMS[kind](check) if kind in _PROBLEMS else None


def judges_whole(check: Check | None) -> bool:
    """Tell whether a check is for all that a model wrote, run-ons included, as IFEval's is."""
    return check is not None and check["kind"] == "ifeval"


def needs_running(check: Check | None) -> bool:
    """Tell whether an answer can be right by code that has to be run: Python with tests.

    Example:
        >>> code = {"kind": "python", "reference": "x = 1", "tests": [["x", "1"]]}
        >>> needs_running({"kind": "all", "checks": [code]}), needs_running({"kind": "refuses"})
        (True, False)
    """
    if check is None:
        return False
    return any(map(needs_running, check.get("checks", ()))) or (
        check["kind"] == "python" and bool(check.get("tests"))
    )


def _json_problem(check: Check) -> str | None:
    if ("value" in check) == ("schema" in check):
        return 'check of kind "json" takes either "value" or "schema".'
    return schema_problem(check["schema"]) if "schema" in check else None


def _all_problem(check: Check) -> str | None:
    if any(isinstance(part, Mapping) and part.get("kind") == "ifeval" for part in check["checks"]):
        return 'check of kind "ifeval" stands alone; give it as the item\'s check.'
    return next(filter(None, map(check_problem, check["checks"])), None)


_PROBLEMS: dict[str, Callable[[Check], str | None]] = {
    "json": _json_problem,
    "pattern": lambda check: pattern_problem(check["pattern"]),
    "ifeval": lambda check: instructions_problem(check["instructions"]),
    "all": _all_problem,
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_filled(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(e, str) and e.strip() for e in value)


def _is_test(pair: Any) -> bool:
    return (
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
    )


_IS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "a regular expression": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "an object": lambda value: isinstance(value, dict),
    "an object or a list": lambda value: isinstance(value, dict | list),
    "an object of units with their factors": lambda value: (
        isinstance(value, dict) and bool(value) and all(map(_is_number, value.values()))
    ),
    "a list of [expression, repr] pairs": lambda value: (
        isinstance(value, list | tuple) and all(map(_is_test, value))
    ),
    "a list of checks": _is_filled,
    "a list of instructions": _is_filled,
    "a list of whole numbers": lambda value: (
        _is_filled(value) and all(isinstance(n, int) and n > 0 for n in value)
    ),
    _NUMBER: _is_number,
    _TEXTS: _is_texts,
}
