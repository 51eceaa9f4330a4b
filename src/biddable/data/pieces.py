"""Encode and decode many texts faster than the tokenizer by itself, with exactly its results.

Tokenizers of the byte-level family cut a text into words before anything else, and always before a
single space between two visible ASCII signs, and between an ASCII letter and a mark (a comma, say).
Such pieces are encoded once each, by the tokenizer, and put together again for every text that
holds them. Any other tokenizer is asked for whole texts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, compress, count, islice
from threading import Lock
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np

from biddable.data.id_lists import IdLists, to_offsets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Below this, finding out whether a tokenizer can be helped costs more than the help saves.
_MIN_TEXTS = 256
_MAX_KEPT = 500_000  # ids of pieces, some 30 MB with the pieces

_CUT = re.compile(r" (?<=[!-~] )(?=[!-~])")

# A word of these tokenizers ends where its letters do, so it is a piece without the mark after it.
_MARKS = re.compile(r'(?<=[A-Za-z])(?=[,.;:!?"])')
_PLAIN = re.compile(r" [!-~]+")
_WORDS_A_LINE = 64  # the tokenizer takes longer for very long texts
_BROKEN = "\N{REPLACEMENT CHARACTER}"

# Patterns of words (as tokenizer files spell them) of which it is known that no word goes on past
# a space, that only its first sign may be one, and that what a word is does not depend on what
# stands before it.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_KNOWN_PATTERNS = {
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + _REST
    for digits in ("", "{1,3}")  # Qwen 2 and later; Llama 3
}


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> IdLists:
    """Encode texts as plain text, without adding tokens; special tokens in them are spelled out.

    Args:
        texts: any.
        tokenizer: any.

    Returns:
        The ids of each text, the same as the tokenizer's own.
    """
    if len(texts) >= _MIN_TEXTS and (pieces := _pieces_of(tokenizer)).can_help:
        return pieces.encode(texts, tokenizer)
    return IdLists.of(_ask(texts, tokenizer))


def decode_lists(lists: IdLists, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode lists of ids, special tokens included and nothing tidied.

    Args:
        lists: any.
        tokenizer: any.

    Returns:
        The text of each list, the same as the tokenizer's own.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer.batch_decode(
            list(lists), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    decode = partial(backend.decode_batch, skip_special_tokens=False)
    if len(lists) < _MIN_TEXTS or not (readings := _pieces_of(tokenizer).readings).can_join:
        return cast("list[str]", decode(list(lists)))
    # A token of whole signs reads among others as it does alone; a text with one that has only
    # some bytes of a sign is decoded as a whole.
    texts = ["".join(map(readings.__getitem__, ids)) for ids in lists]
    broken = [number for number, text in enumerate(texts) if _BROKEN in text]
    for number, text in zip(broken, decode([lists[n] for n in broken]), strict=True):
        texts[number] = text
    return texts


class _Pieces:
    """Keep what one tokenizer, in one state, has made of the pieces of texts.

    Attributes:
        readings: what each id reads alone.
    """

    def __init__(self, state: tuple[str, ...], backend: Any) -> None:
        self.state = state
        self.can_help = _cuts_at_spaces(state)
        self.readings = _Readings(backend)
        self._lock = Lock()
        self._words = _Kept()  # after a space, kept without it; first in a text, with one more
        self._parts = _Kept()  # of these: up to a mark, and from it on

    def encode(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> IdLists:
        """Give the ids of each text; ask the tokenizer for what was not seen before."""

        def ask(words: list[str]) -> IdLists:
            pieces = (word[1:] if word[0] == " " else f" {word}" for word in words)
            return self._parts.join(list(map(_MARKS.split, pieces)), self._ask_backend)

        with self._lock:
            _ask([""], tokenizer)  # sets the backend as the tokenizer would: nothing is added
            return self._words.join([_CUT.split(f" {text}") for text in texts], ask)

    def _ask_backend(self, parts: list[str]) -> IdLists:
        """Ask the backend itself, for many plain words in one text: in half of the time."""
        backend = self.readings.backend
        by_name = getattr(backend, "encode_batch_fast", backend.encode_batch)  # without offsets
        encode = partial(by_name, add_special_tokens=False)
        can_join = self.readings.can_join
        is_plain = np.array([can_join and bool(_PLAIN.fullmatch(p)) for p in parts], np.bool_)
        plain = list(compress(parts, is_plain))
        lines = ["".join(plain[n : n + _WORDS_A_LINE]) for n in range(0, len(plain), _WORDS_A_LINE)]
        ids = np.fromiter(chain.from_iterable(line.ids for line in encode(lines)), np.int32)
        # Every space there opens a word, and a word opens with a token of its own.
        starts = np.flatnonzero([self.readings[i].startswith(" ") for i in ids.tolist()])
        if len(starts) != len(plain):
            return IdLists.of([found.ids for found in encode(parts)])
        others = IdLists.of([found.ids for found in encode(list(compress(parts, ~is_plain)))])
        asked = np.argsort(~is_plain, stable=True)  # in this order
        lists = IdLists(ids, to_offsets(np.diff(starts, append=len(ids)))) + others
        return lists.take(np.argsort(asked))


class _Kept:
    """Keep the ids of pieces, each of which is asked for once."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._ids = IdLists.of([])
        self._numbers: defaultdict[str, int] = defaultdict(count().__next__)  # in order

    def join(self, cut: list[list[str]], ask: Callable[[list[str]], IdLists]) -> IdLists:
        """Give the ids of texts from those of their pieces.

        Args:
            cut: the pieces of each text.
            ask: gives the ids of pieces not seen before.
        """
        if len(self._ids.ids) > _MAX_KEPT:
            self._forget()
        ends = to_offsets(np.fromiter(map(len, cut), np.int64, len(cut)))
        number = self._numbers.__getitem__
        numbers = np.fromiter(map(number, chain.from_iterable(cut)), np.int64, ends[-1])
        # With those of a call that was cut short, if one was.
        num_unseen = len(self._numbers) - len(self._ids)
        self._ids += ask(list(islice(reversed(self._numbers), num_unseen))[::-1])
        pieces = self._ids.take(numbers)
        return IdLists(pieces.ids, pieces.offsets[ends])


class _Readings(dict[int, str]):
    """Know what each id reads alone."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @property
    def can_join(self) -> bool:
        """Tell whether the decoder does no more than to put the bytes of tokens in a row."""
        return type(self.backend.decoder).__name__ == "ByteLevel"

    def __missing__(self, token_id: int) -> str:
        text = self[token_id] = self.backend.decode([token_id], skip_special_tokens=False)
        return cast("str", text)


def _pieces_of(tokenizer: PreTrainedTokenizerBase) -> _Pieces:
    pieces = _PIECES.get(tokenizer)
    state = _state(tokenizer)
    if pieces is None or pieces.state != state:
        pieces = _PIECES[tokenizer] = _Pieces(state, getattr(tokenizer, "backend_tokenizer", None))
    return pieces


_PIECES: WeakKeyDictionary[PreTrainedTokenizerBase, _Pieces] = WeakKeyDictionary()


def _ask(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return cast("list[list[int]]", encoded["input_ids"])


def _state(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Tell all that decides where a tokenizer cuts; empty if it is not known."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return ()
    parts = (backend.pre_tokenizer, backend.normalizer)
    states = [part.__getstate__().decode() if part is not None else "null" for part in parts]
    model = backend.model
    kind = f"{type(model).__name__} {getattr(model, 'dropout', None)} {len(tokenizer)}"
    return (*states, repr(backend.get_added_tokens_decoder()), kind, *_odd_tokens(backend))


def _odd_tokens(backend: Any) -> Iterator[str]:
    """Find the added tokens that could reach over a cut."""
    for token in backend.get_added_tokens_decoder().values():
        reaches = token.lstrip or token.rstrip or token.single_word or " " in token.content
        reaches |= len(_MARKS.split(token.content)) > 1
        if reaches and not token.special:  # special ones are not looked for in plain text
            yield token.content


def _cuts_at_spaces(state: tuple[str, ...]) -> bool:
    """Tell whether the tokenizer cuts wherever we do, whatever stands around it."""
    if len(state) != 4:  # unknown, or with an added token that could reach over a cut
        return False
    pre_tokenizer, normalizer = json.loads(state[0]), json.loads(state[1])
    if normalizer is not None and normalizer["type"] != "NFC":  # no sign joins an ASCII one's left
        return False
    if not state[3].startswith(("BPE None", "BPE 0.0")):  # dropout draws anew for every word
        return False
    *firsts, last = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    has_pattern = [_is_known_split(part) for part in firsts if part["type"] != "Digits"]
    if last["type"] != "ByteLevel" or last.get("add_prefix_space", True) or not all(has_pattern):
        return False
    return bool(last.get("use_regex", True)) or any(has_pattern)


def _is_known_split(part: dict[str, Any]) -> bool:
    is_plain = part["type"] == "Split" and part["behavior"] == "Isolated" and not part["invert"]
    return is_plain and part["pattern"].get("Regex") in _KNOWN_PATTERNS
