"""Complete what is typed in a shell: names that come with the package, and models that lie here.

Where none of them fits, the shell goes on with files. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_EMBEDDED = ("mimic", "smollm2")  # as models/loading.py has them; importing it takes too long here
_MARKS = ("config.json", "adapter_config.json")


def model_names(incomplete: str) -> list[str]:
    """Offer models: embedded ones, runs, and GGUF files of the folder."""
    return _fitting(incomplete, [*_EMBEDDED, *_models_here()])


def template_names(incomplete: str) -> list[str]:
    """Offer chat templates."""
    from biddable.data.templates import TEMPLATE_NAMES

    return _fitting(incomplete, TEMPLATE_NAMES)


def suite_names(incomplete: str) -> list[str]:
    """Offer built-in suites."""
    from biddable.data.builtin import builtin_names

    return _fitting(incomplete, builtin_names("held_out"))


def data_names(incomplete: str) -> list[str]:
    """Offer built-in rows to train on."""
    from biddable.data.builtin import builtin_names

    return _fitting(incomplete, builtin_names("train"))


def _models_here() -> Iterator[str]:
    for pattern in ("*", "runs/*"):
        for path in sorted(Path().glob(pattern)):
            is_whole = any((path / mark).is_file() for mark in _MARKS)
            if path.suffix == ".gguf" or (is_whole and path.suffix != ".partial"):
                yield str(path)


def _fitting(incomplete: str, names: list[str] | tuple[str, ...]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
