"""Tell which texts are nearly the same: MinHash proposes, the common word pairs decide."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

from biddable.data.wording import split_words

if TYPE_CHECKING:
    from datasketch import LeanMinHash

NEAR = 0.8  # of the word pairs of both texts together, that both have
_MIN_PAIRS = 8  # below it, one other word decides; such texts are compared whole
_NUM_HASHES = 60
_BANDS = (12, 5)  # two texts at NEAR share a band with 99.2 %, at 0.5 with 32 %, at 0.2 with 0.4 %
_MAX_COMPARED = 200
_SAMPLE = 2_000
_COMMON = 0.25  # of the rows; pairs that more have are a template's, and tell no rows apart


@dataclass(frozen=True, slots=True)
class Signature:
    """Hold what a text is compared by.

    Attributes:
        pairs: hashes of its word pairs, each once, without those that many rows have.
        minhash: of these; None if they are too few to be compared.
    """

    pairs: array[int]
    minhash: LeanMinHash | None


class NearIndex:
    """Find, among texts added before, one that is nearly the same."""

    def __init__(self) -> None:
        """Start empty."""
        from datasketch import MinHashLSH

        self._lsh = MinHashLSH(num_perm=_NUM_HASHES, params=_BANDS)
        self._signatures: dict[int, Signature] = {}

    def add(self, name: int, signature: Signature) -> None:
        """Remember a text; one too short to be compared is left out."""
        if signature.minhash is not None:
            self._lsh.insert(name, signature.minhash)
            self._signatures[name] = signature

    def find(self, signature: Signature) -> tuple[int, float] | None:
        """Give the nearest text, and the share of word pairs in common; None if none is near."""
        minhash = signature.minhash
        if minhash is None or not self._signatures:
            return None
        own, size = set(signature.pairs), len(signature.pairs)
        names = [
            name
            for name in self._lsh.query(minhash)
            if NEAR * size <= len(self._signatures[name].pairs) <= size / NEAR
        ]
        scores = [
            (_share(own, set(self._signatures[name].pairs)), -name)
            for name in sorted(names)[:_MAX_COMPARED]
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
    from datasketch import LeanMinHash, MinHash

    told = [_pairs(text) - common for text in texts]
    kept = [pairs for pairs in told if len(pairs) >= _MIN_PAIRS]
    hashed = MinHash.generator(kept, num_perm=_NUM_HASHES, seed=1, hashfunc=_as_it_is)
    return [
        Signature(
            array("I", pairs), LeanMinHash(next(hashed)) if len(pairs) >= _MIN_PAIRS else None
        )
        for pairs in told
    ]


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
