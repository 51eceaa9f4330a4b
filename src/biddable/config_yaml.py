"""Read a YAML file of settings, with the line of every key, and refuse a key given twice."""

from __future__ import annotations

import math
import re
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from biddable.errors import ConfigError

Lines = dict[tuple[str, ...], int]
_DEEPEST = 5


def read_yaml(path: str | PathLike[str]) -> tuple[dict[str, Any], Lines]:
    """Read a file that holds one mapping.

    Returns:
        values: as written.
        lines: 1-based line of each key path; an item of a list is known by its number.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or YAML, or gives a key twice.
    """
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}: not UTF-8; save the file as UTF-8.") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{source}: no such file; give the path of a YAML config.") from error
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read: {error.strerror}.") from error
    return _parse(text, source)


def in_yaml(value: Any) -> str:
    """Write a value as YAML, where that takes one line, or as Python does.

    Example:
        >>> in_yaml({"keep": ["best", True]})
        '{keep: [best, true]}'
    """
    try:
        text = yaml.safe_dump(
            value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=math.inf
        )
    except yaml.YAMLError:
        return repr(value)
    line = str(text).removesuffix("...\n").strip()
    return repr(value) if "\n" in line else line


class _Loader(yaml.SafeLoader):
    """Read 1e-4 as a number, which YAML 1.1 takes for text, and refuse a key given twice."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    # PyYAML's own pattern asks for a dot in the mantissa and a sign in the exponent.
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _parse(text: str, source: str) -> tuple[dict[str, Any], Lines]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{source}: empty; it needs at least model, data and output.")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{source}:1: not a mapping; write `key: value` lines.")
        lines: Lines = {}
        _note_lines(node, (), lines, source=source)
        values = loader.construct_document(node)
        if not isinstance(values, dict):
            raise ConfigError(f"{source}:1: not a mapping; write `key: value` lines.")
    except RecursionError:
        raise ConfigError(f"{source}: not YAML: nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = source if mark is None else f"{source}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{place}: not YAML: {problem}.") from error
    return {str(key): value for key, value in values.items()}, lines


def _note_lines(
    node: yaml.MappingNode, prefix: tuple[str, ...], lines: Lines, *, source: str
) -> None:
    """Note the line of every key, as deep as a config goes, and refuse a repeated key."""
    for key_node, value_node in node.value:
        path = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if path in lines:
            raise ConfigError(
                f"{source}:{line}: {'.'.join(path)}: given twice, first in line {lines[path]}; "
                "remove one."
            )
        lines[path] = line
        if len(path) < _DEEPEST:  # an alias may stand inside what it stands for
            _note_below(value_node, path, lines, source=source)


def _note_below(node: yaml.Node, path: tuple[str, ...], lines: Lines, *, source: str) -> None:
    if isinstance(node, yaml.MappingNode):
        _note_lines(node, path, lines, source=source)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[*path, str(number)] = item.start_mark.line + 1
            if isinstance(item, yaml.MappingNode):
                _note_lines(item, (*path, str(number)), lines, source=source)
