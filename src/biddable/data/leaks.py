"""Find what is learned and later asked: held-out rows and benchmark texts among the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from biddable.data.conversation import Conversation
from biddable.data.near import NearIndex, Signature
from biddable.data.problems import Problem
from biddable.data.wording import prompt_of, same_text, split_words, whole_text

NGRAM = 13  # words; as in the contamination studies of GPT-3 and after
_MIN_WORDS = 5  # of a text that is looked for whole; shorter ones are everywhere
_KEY_WORDS = 4
_WHOLE = 0.9
Item = tuple[str, list[str]]  # place, and words


def count_shared(
    train: Iterable[Conversation], held_out: Sequence[Conversation]
) -> tuple[int, str]:
    """Count the held-out rows that are learned too, word for word, as the learned ones pass by.

    Only hashes of the held-out rows are kept, so that the learned ones need not fit in memory.

    Args:
        train: what is learned; all of it is read.
        held_out: what is measured.

    Returns:
        How many of the held-out rows are learned, and where the first of them is.

    Example:
        >>> from biddable.data.conversation import Message
        >>> rows = [Conversation((Message("user", "Hi"),), "a", line) for line in (1, 2)]
        >>> count_shared(rows, rows[:1])
        (1, 'a:1')
    """
    asked = [_digest(row) for row in held_out]
    wanted, first = set(asked), ""
    left = set(wanted)
    for row in train:
        if left and (digest := _digest(row)) in left:
            left.discard(digest)
            first = first or row.source
    return sum(digest not in left for digest in asked), first


def _digest(row: Conversation) -> bytes:
    said = repr((row.text, [(m.role, m.text, m.extra or ()) for m in row.messages], row.tools))
    return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def held_out_findings(
    train: Sequence[Conversation],
    held_out: Sequence[Conversation],
    *,
    train_signatures: Sequence[Signature],
    held_out_signatures: Sequence[Signature],
) -> list[Problem]:
    """Name the training rows whose prompt is asked in the held-out rows too.

    Args:
        train: what is learned.
        held_out: what is asked later.
        train_signatures: of the prompts.
        held_out_signatures: of the prompts.

    Returns:
        At the training row: error ``leak``, warning ``near-leak``.
    """
    asked = {same_text(prompt_of(row) or whole_text(row)): row for row in reversed(held_out)}
    near = NearIndex()
    for number, signature in enumerate(held_out_signatures):
        near.add(number, signature)
    problems = []
    for row, signature in zip(train, train_signatures, strict=True):
        same = asked.get(same_text(prompt_of(row) or whole_text(row)))
        found = None if same else near.find(signature)
        if same:
            text = f"is asked in the held-out {same.source} too; delete one of them."
            problems.append(Problem("leak", text, row.path, row.line))
        elif found:
            other, share = held_out[found[0]].source, 100 * found[1]
            text = (
                f"its prompt is nearly that of the held-out {other} ({share:.0f} % of the word"
                " pairs); delete one of them, or split by a key (data split --by KEY)."
            )
            problems.append(Problem("near-leak", text, row.path, row.line, None, "warning"))
    return problems


def entity_findings(
    train: Sequence[Conversation], held_out: Sequence[Conversation], key: str
) -> list[Problem]:
    """Name the training rows about an entity that the held-out rows are about too.

    Args:
        train: what is learned.
        held_out: what is asked later.
        key: of the rows, whose value is the entity.

    Returns:
        Errors: ``entity-leak``, and ``no-entity`` once if no row of a file has the key.
    """
    problems = [
        Problem(
            "no-entity", f'no row has the key "{key}"; give another --entity-key.', rows[0].path
        )
        for rows in (train, held_out)
        if rows and all(row.extra.get(key) is None for row in rows)
    ]
    asked = {
        str(row.extra[key]): row for row in reversed(held_out) if row.extra.get(key) is not None
    }
    for row in train:
        entity = row.extra.get(key)
        if entity is not None and str(entity) in asked:
            text = f'its {key} "{entity}" is held out in {asked[str(entity)].source} too; split'
            text += f" anew by it (data split --by {key})."
            problems.append(Problem("entity-leak", text, row.path, row.line))
    return problems


def benchmark_items(rows: Iterable[tuple[int, Mapping[str, Any]]], path: str) -> list[Item]:
    """Take the texts out of a benchmark's rows, whatever their keys are.

    Args:
        rows: pairs of line and row.
        path: of the file.

    Returns:
        The place and the words of each text that is long enough to be looked for.

    Example:
        >>> benchmark_items([(1, {"id": 7, "turns": ["Who wrote the first novel?", "Why?"]})], "b")
        [('b:1', ['who', 'wrote', 'the', 'first', 'novel'])]
    """
    texts = ((line, text) for line, row in rows for text in _strings(row))
    items = ((f"{path}:{line}", split_words(text)) for line, text in texts)
    return [(place, words) for place, words in items if len(words) >= _MIN_WORDS]


def benchmark_findings(
    conversations: Sequence[Conversation], items: Sequence[Item], *, ngram: int = NGRAM
) -> list[Problem]:
    """Name the rows that hold a piece of a benchmark's text.

    Args:
        conversations: what is learned.
        items: see ``benchmark_items``.
        ngram: words in a row that both have; a shorter text has to be there whole.

    Returns:
        ``benchmark-overlap``: an error where a whole text is there, else a warning.
    """
    index, totals = _index(items, ngram)
    problems = []
    for row in conversations:
        words = split_words(whole_text(row))
        hits: Counter[int] = Counter()
        seen: set[tuple[str, ...]] = set()
        for at, key in enumerate(zip(*(words[n:] for n in range(_KEY_WORDS)), strict=False)):
            for gram, number in index.get(key, {}).items():
                if gram not in seen and tuple(words[at : at + len(gram)]) == gram:
                    seen.add(gram)
                    hits.update(number)
        if hits:
            problems.append(_overlap(row, hits, totals=totals, items=items, ngram=ngram))
    return problems


def _overlap(
    row: Conversation,
    hits: Counter[int],
    *,
    totals: Sequence[int],
    items: Sequence[Item],
    ngram: int,
) -> Problem:
    number = max(hits, key=lambda item: (hits[item] / totals[item], -item))
    place, words = items[number]
    if hits[number] >= _WHOLE * totals[number]:
        text = f"holds a whole text of the benchmark {place} ({len(words)} words); delete the row."
        return Problem("benchmark-overlap", text, row.path, row.line)
    num_words = min(ngram + hits[number] - 1, len(words))
    text = f"shares {num_words} words in a row with the benchmark {place}; look, and delete the row"
    text += " if it is the item."
    return Problem("benchmark-overlap", text, row.path, row.line, None, "warning")


def _index(
    items: Sequence[Item], ngram: int
) -> tuple[dict[tuple[str, ...], dict[tuple[str, ...], list[int]]], list[int]]:
    """Order the n-grams of all items by their first words, and count them by item."""
    index: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
    totals = []
    for number, (_, words) in enumerate(items):
        size = min(ngram, len(words))
        grams = {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
        totals.append(len(grams))
        for gram in grams:
            index.setdefault(gram[:_KEY_WORDS], {}).setdefault(gram, []).append(number)
    return index, totals


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _strings(part)
