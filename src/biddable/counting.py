"""Say how many there are of something."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Write a number and what it counts, which takes an s unless it is one.

    Example:
        >>> counted(1, "row"), counted(0, "row"), counted(2000, "held-out row")
        ('1 row', '0 rows', '2,000 held-out rows')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
