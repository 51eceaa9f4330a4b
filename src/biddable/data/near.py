"""Tell which texts are nearly the same: MinHash proposes, the common word pairs decide."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from biddable.data.wording import split_words

NEAR = 0.8  # of the word pairs of both texts together, that both have
_MIN_PAIRS = 8  # below it, one other word decides; such texts are compared whole
_NUM_HASHES = 60
_BANDS = (12, 5)  # two texts at NEAR share a band with 99.2 %, at 0.5 with 32 %, at 0.2 with 0.4 %
_FACTORS = np.random.RandomState(1).randint(1, 2**63, _BANDS, np.uint64) | np.uint64(1)
_MAX_COMPARED = 200
_SAMPLE = 2_000
_COMMON = 0.25  # of the rows; pairs that more have are a template's, and tell no rows apart


@dataclass(frozen=True, slots=True)
class Signature:
    """Hold what a text is compared by.

    Attributes:
        pairs: hashes of its word pairs, each once, without those that many rows have.
        bands: of their MinHash, one number each; none if they are too few to be compared.
    """

    pairs: array[int]
    bands: array[int]


class NearIndex:
    """Find, among texts added before, one that is nearly the same."""

    def __init__(self) -> None:
        """Start empty."""
        # A band is nearly always one text's alone, and a list for each would take most of the room.
        self._first: dict[int, int] = {}
        self._others: dict[int, list[int]] = {}
        self._pairs: dict[int, array[int]] = {}

    def add(self, name: int, signature: Signature) -> None:
        """Remember a text; one too short to be compared is left out."""
        if signature.bands:
            self._pairs[name] = signature.pairs
        for band in signature.bands:
            if self._first.setdefault(band, name) != name:
                self._others.setdefault(band, []).append(name)

    def find(self, signature: Signature) -> tuple[int, float] | None:
        """Give the nearest text, and the share of word pairs in common; None if none is near."""
        candidates = {self._first[band] for band in signature.bands if band in self._first}
        for band in signature.bands:
            candidates.update(self._others.get(band, ()))
        if not candidates:
            return None
        own, size = set(signature.pairs), len(signature.pairs)
        names = [
            name for name in candidates if NEAR * size <= len(self._pairs[name]) <= size / NEAR
        ]
        scores = [
            (_share(own, set(self._pairs[name])), -name) for name in sorted(names)[:_MAX_COMPARED]
        ]
        best, name = max(scores, default=(0.0, 0))
        return (-name, best) if best >= NEAR else None


def common_pairs(texts: Sequence[str]) -> frozenset[int]:
    """Find the word pairs that so many of the texts have that they belong to a template.

    Args:
        texts: all of them; some, evenly chosen, are looked at.
    """
    chosen = texts[:: max(1, len(texts) // _SAMPLE)]
    if len(chosen) < 20:
        return frozenset()
    counts = Counter(pair for text in chosen for pair in _pairs(text))
    return frozenset(pair for pair, count in counts.items() if count > _COMMON * len(chosen))


def sign(texts: Iterable[str], common: frozenset[int] = frozenset()) -> list[Signature]:
    """Sign texts for comparison.

    Args:
        texts: each of any length.
        common: pairs to leave out, see ``common_pairs``.
    """
    from datasketch import MinHash

    told = [_pairs(text) - common for text in texts]
    kept = [pairs for pairs in told if len(pairs) >= _MIN_PAIRS]
    hashed = MinHash.generator(kept, num_perm=_NUM_HASHES, seed=1, hashfunc=_as_it_is)
    return [
        Signature(
            array("I", pairs),
            _bands(next(hashed).hashvalues) if len(pairs) >= _MIN_PAIRS else array("Q"),
        )
        for pairs in told
    ]


def _bands(hashes: NDArray[np.uint64]) -> array[int]:
    """Put the hashes of each band together, (60,) to 12 numbers; equal bands give equal ones."""
    mixed = (hashes.reshape(_BANDS) * _FACTORS).sum(axis=1, dtype=np.uint64)
    return array("Q", mixed.tolist())


def signer(common: frozenset[int]) -> partial[list[Signature]]:
    """Fix the pairs to leave out, so that only texts are left to give."""
    return partial(sign, common=common)


def _pairs(text: str) -> set[int]:
    # crc32: the same in every process, which hash() of a text is not.
    words = [word.encode("utf-8", "surrogatepass") for word in split_words(text)]
    return {crc32(right, crc32(left)) for left, right in pairwise(words)}


def _as_it_is(pair: int) -> int:
    return pair


def _share(one: set[int], other: set[int]) -> float:
    both = len(one & other)
    return both / (len(one) + len(other) - both)
