"""Read the numbers of an answer: signs, separators of thousands, fractions, percents, units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_OPERAND = r"\d+(?:[.,]\d+)*"
_OPERATOR = r"(?:[-+*/^x×·÷−–]|\*\*|plus|minus|times|multiplied\s+by|divided\s+by|over)"
_SUM = re.compile(rf"{_OPERAND}(?:\s*{_OPERATOR}\s*{_OPERAND})+(?:\s*=)?", re.IGNORECASE)
_SPACES = "\u00a0\u2009\u202f"  # those that do not break, or are thin, are set between thousands
_MARKS = rf",.'’{_SPACES} "
_GROUPED = rf"\d{{1,3}}(?:[{_MARKS}]\d{{3}})+(?!\d)"
_NUMERAL = re.compile(
    rf"(?<![\w.])(?P<sign>[-−])?(?P<digits>{_GROUPED}(?:[.,]\d+)?|\d+(?:[.,]\d+)?)"
    r"(?P<exponent>[eE][-+]?\d+)?(?P<percent>\s?%|\s+per\s?cent\b)?"
)
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
_FRACTION = re.compile(
    r"(?<![\w.,/])(?P<sign>[-−])?(?:(?P<whole>\d+)(?:\s+|\s+and\s+))?(?P<top>\d+)\s?[/⁄]\s?(?P<bottom>\d+)"
    r"(?![\w/]|[.,]\d)"
)


def last_numbers(text: str) -> list[float]:
    """Read the last number of a text in each way that it can be meant; none without a number.

    A sum is no number of the answer's own, what follows it is. A comma or a dot before three
    digits may part thousands or decimals, a percent is also a share, and a fraction in lowest
    terms is a number (10/5 is a sum).

    Example:
        >>> last_numbers("7 + 5 = 12"), last_numbers("1,200"), last_numbers("3 1/2 cups")
        ([12.0], [1200.0, 1.2], [3.5])
        >>> last_numbers("It is 25 %."), last_numbers("7 + 5")
        ([25.0, 0.25], [])
    """
    text = _plain(text)
    fraction = _last_fraction(text)
    end = fraction[1] if fraction else 0
    matches = list(_NUMERAL.finditer(_SUM.sub(" ", text[end:])))
    if matches:
        return _readings(matches[-1])
    if fraction:
        return [fraction[0]]
    matches = list(_NUMERAL.finditer(_SUM.sub(" ", text)))
    return _readings(matches[-1]) if matches else []


def with_units(text: str, units: Mapping[str, float]) -> list[float]:
    """Read the last number that stands beside a unit, turned into the unit of factor 1.

    Args:
        text: the answer.
        units: spellings of units, with the factor that turns each into the one that is asked for.

    Example:
        >>> with_units("That is 5,200 m, or 5.2 km in 2 days.", {"km": 1, "m": 0.001})
        [5.2]
        >>> with_units("It costs $5 for 3 people.", {"$": 1, "dollars": 1})
        [5.0]
    """
    text = _plain(text)
    found: list[tuple[int, list[float]]] = []
    for unit, factor in units.items():
        spelt = r"\s+".join(re.escape(part) for part in unit.split())
        after = re.compile(rf"\s*-?\s?{spelt}(?!\w)", re.IGNORECASE if len(unit) > 2 else 0)
        before = re.compile(rf"(?<!\w){spelt}\s?\Z", re.IGNORECASE if len(unit) > 2 else 0)
        for start, end, readings in _all_numbers(text):
            if after.match(text, end) or before.search(text, 0, start):
                found.append((start, [factor * number for number in readings]))
    return max(found)[1] if found else []


def _plain(text: str) -> str:
    for sign, spelt in _VULGAR.items():
        text = text.replace(sign, f" {spelt}")
    return text


def _all_numbers(text: str) -> list[tuple[int, int, list[float]]]:
    """List numbers as (start, end, readings); the parts of a fraction are none of their own."""
    found = [(m.start(), m.end(), [_value(m)]) for m in _FRACTION.finditer(text) if _is_number(m)]
    fractions = list(found)
    for match in _NUMERAL.finditer(text):
        end = match.end("exponent") if match["exponent"] else match.end("digits")
        if not any(first <= match.start() < last for first, last, _ in fractions):
            found.append((match.start(), end, _readings(match)))
    return found


def _last_fraction(text: str) -> tuple[float, int] | None:
    """Find the last fraction in lowest terms that is not part of a sum, and where it ends."""
    sums = [match.span() for match in _SUM.finditer(text)]
    for match in reversed(list(_FRACTION.finditer(text))):
        start, end = match.start("top"), match.end("bottom")
        around = [text[a:b].strip() for a, b in sums if a < end and start < b]
        is_reduced = _is_number(match) and math.gcd(int(match["top"]), int(match["bottom"])) == 1
        if is_reduced and int(match["bottom"]) > 1 and all(s == text[start:end] for s in around):
            return _value(match), match.end()
    return None


def _is_number(match: re.Match[str]) -> bool:
    return int(match["bottom"]) > 0


def _value(match: re.Match[str]) -> float:
    value = int(match["whole"] or 0) + int(match["top"]) / int(match["bottom"])
    return -value if match["sign"] else value


def _readings(match: re.Match[str]) -> list[float]:
    """Give the values that digits may have; the likelier first, as English sets them."""
    marks = re.findall(rf"[{_MARKS}]", match["digits"])
    parts = re.split(rf"[{_MARKS}]", match["digits"])
    thousands, decimal = "".join(parts), f"{''.join(parts[:-1])}.{parts[-1]}"
    if not marks or (len(marks) > 1 and len(set(marks)) == 1):
        spelt = [thousands]
    elif len(marks) > 1 or len(parts[1]) != 3:
        spelt = [decimal]  # 1,234.5 or 1.234,5 or 7,5
    else:
        either = {",": [thousands, decimal], ".": [decimal, thousands]}
        spelt = either.get(marks[0], [thousands, parts[1]])  # a space may part two numbers
    sign, exponent = "-" if match["sign"] else "", match["exponent"] or ""
    values = [float(f"{sign}{text}{exponent}") for text in spelt]
    return values + [value / 100 for value in values] if match["percent"] else values
