"""Show rows as the model will see them, with what it learns marked: in the terminal, as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.text import Text

from biddable.counting import counted
from biddable.data.encoding import EncodingReport, Example, encode_shown
from biddable.data.problems import Problem
from biddable.data.readers import Reading
from biddable.data.segments import ChatTemplate
from biddable.errors import DataError, join_problems, once_each

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEARNED_STYLE = "bold green underline"
PROMPT_STYLE = "dim"
BORDER = "│"
SPELLED = "⟨text⟩"  # before text that reads as a control token and is none

_CONTEXT = 2  # some tokenizers drop the space of the first token that they decode
_LONGEST_CHARACTER = 8  # more ids than any one character takes


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold what one token reads as; several, where only together they make a character.

    Attributes:
        text: the text.
        ids: one id; more where the character takes more.
        learned: whether it is learned.
        special: whether it is a control token.
    """

    text: str
    ids: tuple[int, ...]
    learned: bool
    special: bool = False


def pieces(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[Piece]:
    """Decode a row token by token, so that the texts together read as the whole does."""
    controls = _controls(tokenizer)
    found: list[Piece] = []
    ids, start = example.input_ids, 0
    for end in range(1, len(ids) + 1):
        context, new = ids[max(start - _CONTEXT, 0) : start], ids[start:end]
        before, after = _decode(context, tokenizer), _decode([*context, *new], tokenizer)
        text = after[len(before) :] if after.startswith(before) else _decode(new, tokenizer)
        goes_on = (
            end < len(ids)
            and ids[end] not in controls
            and example.loss_mask[end] == example.loss_mask[start]
        )
        if text.endswith("\ufffd") and goes_on and len(new) < _LONGEST_CHARACTER:
            continue  # the character's first bytes
        is_special = len(new) == 1 and new[0] in controls
        found.append(Piece(text, tuple(new), example.loss_mask[start], is_special))
        start = end
    return found


def encode_for_preview(
    reading: Reading, template: ChatTemplate, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Example], EncodingReport, list[Problem]]:
    """Encode the rows that can be shown.

    Args:
        reading: the rows, and what is wrong with those that could not be read.
        template: renders them.
        tokenizer: encodes them.

    Returns:
        examples: of the rows that can be shown.
        report: what became of all rows; the others are dropped in it.
        problems: of the others, in the order of their lines.

    Raises:
        DataError: no row can be shown; all problems are named.
    """
    rows = reading.conversations
    examples, report, refused = encode_shown(rows, template, tokenizer)
    problems = [*reading.problems]
    for number, reason in refused.items():
        problems.append(Problem("template", reason, rows[number].path, rows[number].line))
    problems.sort(key=lambda problem: (problem.path or "", problem.line or 0))
    if problems and not examples:
        raise DataError(join_problems(once_each(map(str, problems))))
    report.require_kept()
    first_of_row = {(p.path, p.line): str(p) for p in reversed(problems)}
    dropped = [*report.dropped, *reversed(first_of_row.values())]
    return examples, replace(report, num_rows=reading.num_rows, dropped=dropped), problems


def find_rows(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    search: str | None = None,
    start: int = 1,
) -> list[Example]:
    """Choose the rows to show.

    Args:
        examples: all rows.
        tokenizer: decodes them.
        search: a text that they hold, in any case; None for all.
        start: leave out those before the Nth, counted from 1 before the search.
    """
    rest = examples[start - 1 :]
    if search is None:
        return list(rest)
    wanted = search.casefold()
    return [e for e in rest if wanted in _decode(e.input_ids, tokenizer).casefold()]


def preview(
    found: Sequence[Example],
    report: EncodingReport,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int,
    borders: bool = False,
) -> RenderableType:
    """Show the first of some rows, decoded from their ids, and the share that is learned.

    Learned text is coloured and stands in ⟦ ⟧, which shows without colour too; text that only
    spells a control token has a mark before it.

    Args:
        found: the rows to show.
        report: what became of all rows; the last line tells it.
        tokenizer: decodes them.
        limit: rows shown.
        borders: whether to put a mark between tokens.
    """
    shown: list[Text] = []
    controls = sorted(_controls(tokenizer).values(), key=len, reverse=True)
    for example in found[:limit]:
        shown.append(Text(f"{example.source}  {_share(example)}", style="bold"))
        shown += [_marked(example, tokenizer, controls, borders=borders), Text("")]
    num_shown, num_all = min(limit, len(found)), report.num_examples or report.num_kept
    told = f"{num_shown:,} of {counted(num_all, 'row')} shown."
    if len(found) < num_all:
        told = f"{len(found):,} of {counted(num_all, 'row')} found, {num_shown:,} of them shown."
    more = f"{told} All: {report.summary()}"
    if report.dropped:
        shown.append(Text(join_problems(once_each(report.dropped))))
    if any(SPELLED in text.plain for text in shown):
        shown.append(Text(f"After {SPELLED} stands text that only spells a control token."))
    return Group(*shown, Text(more))


def preview_page(
    found: Sequence[Example],
    report: EncodingReport,
    tokenizer: PreTrainedTokenizerBase,
    *,
    limit: int,
    title: str,
    caption: str = "",
) -> str:
    """Write rows as one HTML page that can be searched and needs no other file.

    Args:
        found: the rows to show.
        report: what became of all rows.
        tokenizer: decodes them.
        limit: rows on the page; the page says how many are not.
        title: its heading.
        caption: a line below it.

    Returns:
        The page. Nothing that a row holds is taken for HTML.
    """
    environment = Environment(
        loader=PackageLoader("biddable.data", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    shown = ((example, _page_runs(example, tokenizer)) for example in found[:limit])
    rows = (
        {"source": e.source, "tokens": len(e.input_ids), "learned": sum(e.loss_mask), "runs": runs}
        for e, runs in shown
    )
    return environment.get_template("preview.html.j2").render(
        rows=rows,
        report=report,
        num_found=len(found),
        num_shown=min(limit, len(found)),
        title=title,
        caption=caption,
    )


def _page_runs(
    example: Example, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[bool, list[tuple[Piece, str]]]]:
    """Group a row's pieces by whether they are learned, each with what its tooltip says."""
    for is_learned, run in groupby(pieces(example, tokenizer), key=lambda piece: piece.learned):
        yield is_learned, [(piece, " ".join(map(str, piece.ids))) for piece in run]


def _share(example: Example) -> str:
    num_learned, num_ids = sum(example.loss_mask), len(example.input_ids)
    return (
        f"{counted(num_ids, 'token')}, {num_learned} learned ({100 * num_learned / num_ids:.0f} %)"
    )


def _controls(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Give the control tokens by their ids."""
    added = tokenizer.added_tokens_decoder.items()
    ids = {*tokenizer.all_special_ids, *(n for n, token in added if token.special)}
    return {token_id: str(tokenizer.convert_ids_to_tokens(token_id)) for token_id in ids}


def _marked(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    controls: Sequence[str],
    *,
    borders: bool,
) -> Text:
    spelled = re.compile("|".join(map(re.escape, controls)) or r"(?!)")
    text = Text()
    between = BORDER if borders else ""
    for is_learned, run in groupby(pieces(example, tokenizer), key=lambda piece: piece.learned):
        texts = []
        for is_special, same in groupby(run, key=lambda piece: piece.special):
            part = between.join(piece.text for piece in same)
            texts.append(part if is_special else spelled.sub(rf"{SPELLED}\g<0>", part))
        joined = between.join(texts)
        if is_learned:
            text.append(f"⟦{joined}⟧", style=LEARNED_STYLE)
        else:
            text.append(joined, style=PROMPT_STYLE)
    return text


def _decode(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
