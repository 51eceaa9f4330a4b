"""Encode segments, and prove that what is learned reads, in ids, as it was rendered.

A control token becomes its one id; plain text never does, whatever it spells. Texts are encoded
as they would be in the middle of the whole, so that the ids are those of the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from biddable.data.pieces import encode_texts
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
        controls: set[str] = set()
        plain: dict[_Text, bool] = {}
        for row in rendered:
            for segment, text in self._texts(row):
                if segment.special:
                    controls.add(segment.text)
                else:
                    plain[text] = plain.get(text, False) or segment.learned
        self._controls |= _control_ids(controls, tokenizer)
        self._plain = dict(zip(plain, self._encode_placed(list(plain)), strict=True))
        self._problems = self._read_back([text for text, learned in plain.items() if learned])

    def of(self, segments: Sequence[Segment]) -> list[list[int]]:
        """Give the ids of each segment of a row."""
        return [
            [self._controls[segment.text]] if segment.special else self._plain[text]
            for segment, text in self._texts(segments)
        ]

    def problem(self, segments: Sequence[Segment]) -> str:
        """Say why a row cannot be learned faithfully; empty if it can."""
        for segment, text in self._texts(segments):
            if segment.learned and text in self._problems:
                return self._problems[text]
        start = [segment.text for segment in segments[:2] if segment.special]
        if len(start) == 2 and start[0] == start[1] == self._tokenizer.bos_token:
            return f"the row opens with {start[0]!r} twice; the template should write it once."
        return ""

    def _texts(self, segments: Sequence[Segment]) -> Iterable[tuple[Segment, _Text]]:
        """Give each segment with its text as it is encoded."""
        if self._is_even:  # the same wherever it stands
            return [(segment, (segment.text, True)) for segment in segments]
        return self._placed_texts(segments)

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

    def _encode_placed(self, texts: list[_Text]) -> list[list[int]]:
        if not self._opening:
            return self._encode([text for text, _ in texts])
        led = self._encode([text if opens else f"\n{text}" for text, opens in texts])
        cut = len(self._opening)
        merged = [
            n
            for n, ((_, opens), ids) in enumerate(zip(texts, led, strict=True))
            if not opens and ids[:cut] != self._opening
        ]
        alone = self._encode([texts[n][0] for n in merged]) if merged else []
        for n, (_, opens) in enumerate(texts):
            if not opens:
                led[n] = led[n][cut:]
        for n, ids in zip(merged, alone, strict=True):
            led[n] = ids
        return led

    def _encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        rows = encode_texts(texts, self._tokenizer)
        # A control token that the tokenizer was not told is special is still found in plain text.
        forbidden = set(self._controls.values())
        for text, ids in zip(texts, rows, strict=True):
            if not forbidden.isdisjoint(ids):
                parts = self._cut_controls(text)
                if text in parts:
                    raise TemplateError(
                        f"a message holds a control token that cannot be cut ({text[:20]!r});"
                        " give the tokenizer an eos_token that no text holds."
                    )
                ids[:] = [token_id for part in self._encode(parts) for token_id in part]
        return rows

    def _cut_controls(self, text: str) -> list[str]:
        """Cut each spelled control token in two, so that no part of it is one."""
        spelled = (token for token in self._controls if token in text)
        halves = ((token[: len(token) // 2], token[len(token) // 2 :]) for token in spelled)
        cuts = (f"(?<={re.escape(left)})(?={re.escape(right)})" for left, right in halves)
        return re.split("|".join(cuts) or "(?!)", text)

    def _read_back(self, texts: list[_Text]) -> dict[_Text, str]:
        """Decode what is learned, and say of which texts the ids do not read as the text does."""
        ids = [self._plain[text] for text in texts]
        led = [
            ([] if opens else self._opening) + i for (_, opens), i in zip(texts, ids, strict=True)
        ]
        problems: dict[_Text, str] = {}
        unknown = self._tokenizer.unk_token_id
        for text, own, read in zip(texts, ids, self._decode(led), strict=True):
            expected = text[0] if text[1] or not self._opening else f"\n{text[0]}"
            if unknown is not None and unknown in own:
                problems[text] = (
                    f"the vocabulary cannot write all of {_short(text[0])}: a part became"
                    f" {self._tokenizer.unk_token!r}. Take it out, or use a tokenizer that can."
                )
            elif read != expected and not self._is_normal_form(expected, read):
                problems[text] = (
                    f"{_short(text[0])} reads {_short(read)} in this"
                    " tokenizer's ids, so it cannot be learned as it is; reword it, or use another"
                    " tokenizer."
                )
        return problems

    def _decode(self, rows: list[list[int]]) -> list[str]:
        if not rows:
            return []
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is not None:
            return cast("list[str]", backend.decode_batch(rows, skip_special_tokens=False))
        return self._tokenizer.batch_decode(
            rows, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

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
