"""Read the pages on which forgetting is measured: plain text, in which nothing is answered.

``english`` was written for this project. ``mimic`` is of the embedded base's small world, made by
the recipe's generator with a seed of its own, and none of it was in the base's pretraining.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from biddable.data.readers import read_rows
from biddable.errors import EvaluationError, nearest

BUILT_IN_PAGES = ("english", "mimic")
MAX_CHARS = 400_000  # of all pages together: about 100,000 tokens
_FOLDER = Path(__file__).parents[1] / "assets" / "data"
_PLAIN_ENDINGS = (".txt", ".md")
_MIN_PAGE_CHARS, _MAX_PAGE_CHARS = 1_500, 10_000


@dataclass(frozen=True, slots=True)
class Page:
    """Hold one page.

    Attributes:
        text: all of it.
        kind: what it is, as ``story`` or ``code``; ``text`` where that is not known.
    """

    text: str
    kind: str = "text"


def read_pages(name_or_path: str | Path) -> list[Page]:
    """Read pages; what is longer than 10,000 characters becomes several.

    Args:
        name_or_path: ``english`` or ``mimic`` for built-in ones, or a file: plain text (.txt, .md),
            cut at empty lines, or rows with a ``text`` and, if known, a ``kind``.

    Returns:
        Pages in file order.

    Raises:
        EvaluationError: there is no such text, or none in it.
        DataError: the file cannot be read.
    """
    name = str(name_or_path)
    path = _FOLDER / f"{name}_pages.jsonl" if name in BUILT_IN_PAGES else Path(name).expanduser()
    if not path.is_file():
        raise EvaluationError(
            f"{name}: no such text; expected {', '.join(BUILT_IN_PAGES)}, or a file of plain text"
            f' (.txt, .md) or of rows with a "text".{nearest(name, BUILT_IN_PAGES)}'
        )
    if path.suffix.lower() in _PLAIN_ENDINGS:
        pages = [Page(text) for text in cut_into_pages(_read(path))]
    else:
        pages = _from_rows(path)
    if not pages:
        raise EvaluationError(f"{path}: holds no text; give some pages.")
    return [Page(part, page.kind) for page in pages for part in _parts(page.text)]


def cut_into_pages(text: str) -> list[str]:
    r"""Cut a text at empty lines into pages of 1,500 characters and some more.

    Example:
        >>> [len(page) for page in cut_into_pages("\n\n".join(["a" * 1000] * 5))]
        [2002, 2002, 1000]
    """
    pages: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if pages and len(pages[-1]) < _MIN_PAGE_CHARS:
            pages[-1] += "\n\n" + block
        elif block.strip():
            pages.append(block)
    return pages


def choose(pages: list[Page], *, max_chars: int = MAX_CHARS) -> list[Page]:
    """Take pages from all over a long text, evenly, until so many characters are there.

    Args:
        pages: all there are.
        max_chars: of the pages that are taken; the first is taken in any case.

    Returns:
        Pages in their order.

    Example:
        >>> [page.text for page in choose([Page(c * 10) for c in "abcd"], max_chars=20)]
        ['aaaaaaaaaa', 'cccccccccc']
    """
    total = sum(len(page.text) for page in pages)
    num = max(int(len(pages) * min(1, max_chars / max(total, 1))), 1)
    return [pages[n * len(pages) // num] for n in range(num)]


def _parts(text: str) -> list[str]:
    starts = range(0, len(text), _MAX_PAGE_CHARS)
    return [part for part in (text[n : n + _MAX_PAGE_CHARS] for n in starts) if part.strip()]


def _from_rows(path: Path) -> list[Page]:
    pages = []
    for line, row in read_rows(path):
        text, kind = row.get("text"), row.get("kind", "text")
        if not (isinstance(text, str) and text.strip()):
            raise EvaluationError(
                f'{path}:{line}: has no "text"; every row is one page, {{"text": ...}}, and may'
                ' name its "kind".'
            )
        pages.append(Page(text, str(kind)))
    return pages


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read as UTF-8 text: {error}.") from error
