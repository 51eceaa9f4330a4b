"""Encode many texts faster than the tokenizer by itself, with exactly its ids.

Tokenizers of the byte-level family cut a text into words before anything else, and always before a
single space between two visible ASCII signs. Such pieces are encoded once each, by the tokenizer,
and put together again for every text that holds them. Any other tokenizer is asked for whole texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Below this, finding out whether a tokenizer can be helped costs more than the help saves.
_MIN_TEXTS = 256
_MAX_KEPT = 200_000  # pieces, some 40 MB
_MAX_KEPT_CHARS = 64  # a longer piece is hardly seen again

_CUT = re.compile(r" (?<=[!-~] )(?=[!-~])")

# Patterns of words (as tokenizer files spell them) of which it is known that no word goes on past
# a space, that only its first sign may be one, and that what a word is does not depend on what
# stands before it.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_KNOWN_PATTERNS = {
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + digits + _REST
    for digits in ("", "{1,3}")  # Qwen 2 and later; Llama 3
}


def encode_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Encode texts as plain text, without adding tokens; special tokens in them are spelled out.

    Args:
        texts: any.
        tokenizer: any.

    Returns:
        The ids of each text, the same as the tokenizer's own.
    """
    if len(texts) < _MIN_TEXTS:
        return _ask(texts, tokenizer)
    pieces = _PIECES.get(tokenizer)
    state = _state(tokenizer)
    if pieces is None or pieces.state != state:
        pieces = _PIECES[tokenizer] = _Pieces(state)
    return pieces.encode(texts, tokenizer) if pieces.can_help else _ask(texts, tokenizer)


class _Pieces:
    """Keep the ids of the pieces that one tokenizer, in one state, has encoded."""

    def __init__(self, state: tuple[str, ...]) -> None:
        self.state = state
        self.can_help = _cuts_at_spaces(state)
        self._starts: dict[str, list[int]] = {}  # what stood first in a text
        self._words: dict[str, list[int]] = {}  # what stood after a space, kept without it

    def encode(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """Give the ids of each text; ask the tokenizer for the pieces not seen before."""
        if len(self._starts) + len(self._words) > _MAX_KEPT:
            self._starts.clear()
            self._words.clear()
        cut = [_CUT.split(text) for text in texts]
        starts = {pieces[0] for pieces in cut} - self._starts.keys()
        words = set().union(*(pieces[1:] for pieces in cut)) - self._words.keys()
        new_starts, new_words = sorted(starts), sorted(words)
        new = _ask_short([*new_starts, *(f" {word}" for word in new_words)], tokenizer)
        self._starts.update(zip(new_starts, new, strict=False))
        self._words.update(zip(new_words, new[len(new_starts) :], strict=True))
        find = self._words.__getitem__
        encoded = [
            [*self._starts[pieces[0]], *chain.from_iterable(map(find, pieces[1:]))]
            for pieces in cut
        ]
        for kept, pieces in ((self._starts, new_starts), (self._words, new_words)):
            for piece in pieces:
                if len(piece) > _MAX_KEPT_CHARS:
                    del kept[piece]
        return encoded


_PIECES: WeakKeyDictionary[PreTrainedTokenizerBase, _Pieces] = WeakKeyDictionary()


def _ask(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return cast("list[list[int]]", encoded["input_ids"])


def _ask_short(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Ask the backend itself, in a third of the time where texts are short."""
    _ask([""], tokenizer)  # sets the backend as the tokenizer would: no padding, no special tokens
    backend: Any = tokenizer.backend_tokenizer
    encode = getattr(backend, "encode_batch_fast", backend.encode_batch)  # without offsets
    return [found.ids for found in encode(texts, add_special_tokens=False)]


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
