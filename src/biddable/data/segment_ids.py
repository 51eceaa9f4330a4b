"""Encode segments, and prove that what is learned reads, in ids, as it was rendered.

A control token becomes its one id; plain text never does, whatever it spells. Texts are encoded
as they would be in the middle of the whole, so that the ids are those of the whole text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, count, pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from biddable.data.id_lists import IdLists
from biddable.data.pieces import decode_lists, encode_texts
from biddable.data.segments import ChatTemplate, Segment
from biddable.errors import TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Text = tuple[str, bool]  # plain text, and whether it is encoded as one that opens a text


class SegmentIds:
    """Encode the segments of many rows in one call of the tokenizer, which uses all cores."""

    def __init__(
        self,
        rendered: Iterable[Sequence[Segment]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        control_tokens: frozenset[str],
    ) -> None:
        """Encode all segments, and read back the learned ones.

        Args:
            rendered: the rows.
            tokenizer: encodes them.
            control_tokens: what no plain text may become.

        Raises:
            TemplateError: a plain text cannot be kept from becoming a control token.
        """
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self._eats_after = {str(token) for token in added if token.rstrip}
        self._eats_before = {str(token) for token in added if token.lstrip}
        self._controls = _control_ids(control_tokens, tokenizer)
        self._opening = self._find_opening()
        self._reopens = bool(self._opening) and self._opens_after_control()
        self._is_even = not (self._eats_after or self._eats_before or self._opening)
        rows = [self._texts(row) for row in rendered]
        self._controls |= _control_ids(
            {segment.text for row in rows for segment, _ in row if segment.special}, tokenizer
        )
        of_control = {name: number for number, name in enumerate(self._controls)}
        of_text: defaultdict[_Text, int] = defaultdict(count(len(of_control)).__next__)
        self._numbers = [
            of_control[segment.text] if segment.special else of_text[text]
            for row in rows
            for segment, text in row
        ]
        self._learned = np.array([segment.learned for row in rows for segment, _ in row], np.bool_)
        self._ends = list(accumulate(map(len, rows), initial=0))
        self._start = of_control.get(tokenizer.bos_token or "")
        texts = list(of_text)
        lists = self._encode_placed(texts)
        self._lists = IdLists.of([[token_id] for token_id in self._controls.values()]) + lists
        self._problems = self._read_back(texts, lists, first=len(of_control))

    def rows(self) -> tuple[IdLists, NDArray[np.bool_]]:
        """Give the rows.

        Returns:
            lists: the ids of each row, N in all.
            loss_mask: (N,), True where the token itself is learned; never the first of a row,
                which nothing predicts.
        """
        parts = self._lists.take(np.array(self._numbers, np.int64))
        loss_mask = np.repeat(self._learned, parts.lengths)
        rows = IdLists(parts.ids, parts.offsets[self._ends])
        loss_mask[rows.offsets[:-1][rows.lengths > 0]] = False
        return rows, loss_mask

    def problems(self) -> dict[int, str]:
        """Say why some rows cannot be learned faithfully, by their numbers."""
        found: dict[int, str] = {}
        for row, (start, end) in enumerate(pairwise(self._ends)):
            numbers = self._numbers[start:end]
            learned = compress(numbers, self._learned[start:end]) if self._problems else ()
            problem = next(filter(None, map(self._problems.get, learned)), None)
            if problem:
                found[row] = problem
            elif numbers[:2] == [self._start, self._start]:
                found[row] = (
                    f"the row opens with {self._tokenizer.bos_token!r} twice; the template should"
                    " write it once."
                )
        return found

    def _texts(self, segments: Sequence[Segment]) -> list[tuple[Segment, _Text]]:
        """Give each segment with its text as it is encoded."""
        if self._is_even:  # the same wherever it stands
            return [(segment, (segment.text, True)) for segment in segments]
        return list(self._placed_texts(segments))

    def _placed_texts(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, _Text]]:
        """Give each segment with its text as it is encoded in its place.

        Some vocabularies have tokens that swallow the blanks beside them. An answer keeps its own.
        """
        before = None
        for at, segment in enumerate(segments):
            text = segment.text
            after_control = before is not None and before.special
            if not segment.special and not segment.learned:
                if before and after_control and before.text in self._eats_after:
                    text = text.lstrip()
                after = segments[at + 1] if at + 1 < len(segments) else None
                if after and after.special and after.text in self._eats_before:
                    text = text.rstrip()
            yield segment, (text, before is None or (after_control and self._reopens))
            before = segment

    def _find_opening(self) -> list[int]:
        """Give the ids of a newline if the tokenizer sets a blank before what opens a text."""
        newline, alone, after = self._encode(["\n", "a b", "\na b"])
        is_same = after == newline + alone
        return newline if newline and not is_same and after[: len(newline)] == newline else []

    def _opens_after_control(self) -> bool:
        """Tell whether the tokenizer sets that blank after every control token too."""
        control = next((t for t in self._controls if t not in self._eats_after), "")
        whole = self._tokenizer(f"{control}a b", add_special_tokens=False)["input_ids"]
        return bool(control) and whole[1:] == self._encode(["a b"])[0]

    def _encode_placed(self, texts: list[_Text]) -> IdLists:
        if not self._opening:
            return self._encode([text for text, _ in texts])
        led = list(self._encode([text if opens else f"\n{text}" for text, opens in texts]))
        cut = len(self._opening)
        merged = [
            n
            for n, ((_, opens), ids) in enumerate(zip(texts, led, strict=True))
            if not opens and ids[:cut] != self._opening
        ]
        alone = self._encode([texts[n][0] for n in merged])
        for n, (_, opens) in enumerate(texts):
            if not opens:
                led[n] = led[n][cut:]
        for n, ids in zip(merged, alone, strict=True):
            led[n] = ids
        return IdLists.of(led)

    def _encode(self, texts: list[str]) -> IdLists:
        if not texts:
            return IdLists.of([])
        lists = encode_texts(texts, self._tokenizer)
        # A control token that the tokenizer was not told is special is still found in plain text.
        forbidden = list(self._controls.values())
        if not np.isin(lists.ids, forbidden).any():
            return lists
        rows = list(lists)
        for text, ids in zip(texts, rows, strict=True):
            if not set(forbidden).isdisjoint(ids):
                parts = self._cut_controls(text)
                if text in parts:
                    raise TemplateError(
                        f"a message holds a control token that cannot be cut ({text[:20]!r});"
                        " give the tokenizer an eos_token that no text holds."
                    )
                ids[:] = chain.from_iterable(self._encode(parts))
        return IdLists.of(rows)

    def _cut_controls(self, text: str) -> list[str]:
        """Cut each spelled control token in two, so that no part of it is one."""
        spelled = (token for token in self._controls if token in text)
        halves = ((token[: len(token) // 2], token[len(token) // 2 :]) for token in spelled)
        cuts = (f"(?<={re.escape(left)})(?={re.escape(right)})" for left, right in halves)
        return re.split("|".join(cuts) or "(?!)", text)

    def _read_back(self, texts: list[_Text], lists: IdLists, *, first: int) -> dict[int, str]:
        """Decode what is learned, and say of which texts the ids do not read as the text does.

        Args:
            texts: all plain texts.
            lists: their ids.
            first: the number of the first of them.
        """
        numbers = np.unique(np.array(self._numbers, np.int64)[self._learned]) - first
        numbers = numbers[numbers >= 0]
        lists = led = lists.take(numbers)
        if self._opening:
            opening = [[] if texts[n][1] else self._opening for n in numbers.tolist()]
            led = IdLists.of([left + ids for left, ids in zip(opening, lists, strict=True)])
        unknown = self._tokenizer.unk_token_id
        has_unknown = unknown is not None and unknown in lists.ids
        problems: dict[int, str] = {}
        readings = decode_lists(led, self._tokenizer)
        for at, (number, read) in enumerate(zip(numbers.tolist(), readings, strict=True)):
            text, opens = texts[number]
            expected = text if opens or not self._opening else f"\n{text}"
            if has_unknown and unknown in lists[at]:
                problems[first + number] = (
                    f"the vocabulary cannot write all of {_short(text)}: a part became"
                    f" {self._tokenizer.unk_token!r}. Take it out, or use a tokenizer that can."
                )
            elif read != expected and not self._is_normal_form(expected, read):
                problems[first + number] = (
                    f"{_short(text)} reads {_short(read)} in this"
                    " tokenizer's ids, so it cannot be learned as it is; reword it, or use another"
                    " tokenizer."
                )
        return problems

    def _is_normal_form(self, text: str, read: str) -> bool:
        """Tell whether ids read as the text does once the tokenizer's own normaliser is done."""
        backend: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        normalizer = getattr(backend, "normalizer", None)
        if normalizer is None:
            return False
        blank = re.compile("[\\s\u2581]+")
        one, other = (blank.sub("", str(normalizer.normalize_str(t))) for t in (text, read))
        return one == other


def stop_ids(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Give the ids that end an answer, that of a plain answer first."""
    return cast("list[int]", tokenizer.convert_tokens_to_ids(list(template.stop_texts)))


def _control_ids(tokens: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    names = sorted(tokens)
    ids = cast("list[int]", tokenizer.convert_tokens_to_ids(names))
    # A text that the vocabulary cannot write holds the unknown token, and spells nothing by it.
    unknown = (None, tokenizer.unk_token_id)
    return {name: i for name, i in zip(names, ids, strict=True) if i not in unknown}


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
