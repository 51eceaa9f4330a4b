"""Search an answer for a regular expression, for a limited time."""

from __future__ import annotations

import regex

SEARCH_LIMIT_S = 1.0


def find_pattern(pattern: str, text: str, *, whole: bool = False) -> tuple[str, str]:
    r"""Search with the package ``regex``, which reads what ``re`` reads and can be stopped.

    Args:
        pattern: as ``re`` takes it, flags within it such as ``(?i)`` included.
        text: the answer.
        whole: whether the pattern has to fit all of it, blanks around it left out.

    Returns:
        What is wrong, empty if nothing is; and what is right.

    Example:
        >>> find_pattern(r"[A-Z]{2}-\d+", "Your code is AB-12.")
        ('', 'fits the pattern')
        >>> find_pattern(r"(a|a)+$", "a" * 5000 + "b")[0].startswith("the pattern took longer")
        True
    """
    compiled = regex.compile(pattern)
    search = compiled.fullmatch if whole else compiled.search
    try:
        found = search(text.strip() if whole else text, timeout=SEARCH_LIMIT_S)
    except TimeoutError:
        return f"the pattern took longer than {SEARCH_LIMIT_S:g} s on this answer", ""
    return "" if found else f"does not fit the pattern {pattern}", "fits the pattern"


def pattern_problem(pattern: str) -> str | None:
    """Say why a text is no regular expression; None if it is one.

    Example:
        >>> pattern_problem("(a")
        'check of kind "pattern" has a pattern that cannot be read: missing ) at position 2'
    """
    try:
        regex.compile(pattern)
    except regex.error as error:
        return f'check of kind "pattern" has a pattern that cannot be read: {error}'
    return None
