"""Import the packages of the extra ``measure`` when a check needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from biddable.errors import EvaluationError, how_to_install


def measuring(name: str, *, needed_for: str) -> Any:
    """Import a module of the extra ``measure``.

    Args:
        name: of the module.
        needed_for: what cannot be checked without it, as the message says it.

    Raises:
        EvaluationError: its package is not installed.

    Example:
        >>> measuring("no_such_module", needed_for="checking rhymes")
        Traceback (most recent call last):
            ...
        biddable.errors.EvaluationError: checking rhymes needs the package no_such_module: \
pip install -c constraints.txt -e '.[measure]' in biddable's checkout.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise EvaluationError(
            f"{needed_for} needs the package {package}: {how_to_install('measure')}."
        ) from error
