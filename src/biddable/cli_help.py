"""Write a verb's help in words: what an option takes, not the type that holds it here."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

_WORDS = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}
_TYPE = re.compile(r"<(?:list\[)?([^<>]*?)(?: range)?\]?>$")


class PlainCommand(TyperCommand):
    """Be a verb whose help reads as other programs' help does."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name what must be given by its name alone; brackets stay around what may be given."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the lists of arguments and options."""
        records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                name, meaning = record
                if param.param_type_name == "argument":
                    records["argument"].append((_TYPE.sub("", name).rstrip(), meaning))
                else:
                    records["option"].append((in_words(name), meaning))
        for kind, found in records.items():
            if found:
                with formatter.section(f"{kind.title()}s"):
                    formatter.write_dl(found)


def in_words(name: str) -> str:
    """Say what an option takes.

    Example:
        >>> in_words("--rank <int range>"), in_words("--suite <list[str]>"), in_words("--json")
        ('--rank INTEGER', '--suite TEXT', '--json')
        >>> in_words("--to <merged|adapter>"), in_words("--out DIR")
        ('--to merged|adapter', '--out DIR')
    """
    return _TYPE.sub(lambda found: _WORDS.get(found[1], found[1]), name)
