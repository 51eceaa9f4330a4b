"""Measure what tuning cost: how much worse the tuned model reads plain text than its base does.

Both read the same pages, in which nothing is answered. Told are the loss of both, how far apart
their next-token distributions are, and which kinds of token moved. docs/forgetting.md says how to
read the figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from transformers import PreTrainedTokenizerBase

from biddable.evaluation.local_model import longest_sequence
from biddable.evaluation.pages import Page
from biddable.evaluation.token_classes import CLASSES, token_classes
from biddable.models.loading import LoadedModel
from biddable.models.token_scores import Floats, TokenScores, score_tokens

NUM_RESAMPLES = 2_000
NUM_MOVED = 8
_LONGEST_ROW = 2_048
_CONTEXT_CHARS = 40
_MIN_MOVED = 0.01  # nats; a token that moved less is not listed
Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Read:
    """Hold a page as one tokenizer reads it, N of its tokens scored.

    Attributes:
        ids: those that are read, N + 1.
        spans: of each scored token in the text; none if the tokenizer cannot tell.
        num_bytes: of the scored part of the text.
    """

    ids: list[int]
    spans: Spans
    num_bytes: int


def measure_forgetting(
    base: LoadedModel,
    instruct: LoadedModel,
    pages: Sequence[Page],
    *,
    stop_ids: Sequence[int] = (),
) -> dict[str, Any]:
    """Let both models read pages.

    Args:
        base: the model before tuning.
        instruct: the model after it.
        pages: plain text.
        stop_ids: ids that end an answer, to tell whether the tuned model wants to end in the text.

    Returns:
        The ``forgetting`` block of comparison.json, without its prompts and answers. What needs the
        same tokens on both sides is None where the tokenizers differ.
    """
    read = {name: _read(pages, m.tokenizer) for name, m in (("base", base), ("instruct", instruct))}
    is_shared = [p.ids for p in read["base"]] == [p.ids for p in read["instruct"]]
    longest = min(longest_sequence(base), longest_sequence(instruct), _LONGEST_ROW)
    watched = [n for n in stop_ids if n < _num_rows(base)]
    scores: list[TokenScores] = []
    if is_shared:
        scores = _scored([base.model, instruct.model], read["base"], longest, watched=watched)
        nll = [[s.nll[0] for s in scores], [s.nll[1] for s in scores]]
    else:
        nll = [
            [s.nll[0] for s in _scored([model.model], read[name], longest)]
            for name, model in (("base", base), ("instruct", instruct))
        ]
    sums = np.array([[values.sum() for values in side] for side in nll])  # (2, pages)
    counts = np.array([[len(values) for values in side] for side in nll])
    num_bytes = np.array([[page.num_bytes for page in side] for side in read.values()])
    result = {
        "num_pages": len(pages),
        "num_tokens": int(counts[0].sum()),
        "num_bytes": int(num_bytes[0].sum()),
        "same_tokens": is_shared,
        **_losses(sums, counts, num_bytes, is_shared=is_shared),
        "kl_to_base": None,
        "stop_probability": None,
        "by_kind": _by_kind(pages, sums, num_bytes),
        "by_class": None,
        "moved": None,
    }
    if not is_shared:
        return result | {"num_instruct_tokens": int(counts[1].sum())}
    kls = [_kl(score) for score in scores]
    kl_sums = np.array([kl.sum() for kl in kls])
    result["kl_to_base"] = float(kl_sums.sum() / counts[0].sum())
    result["kl_to_base_ci95"] = page_interval(kl_sums, counts[0])
    if watched:
        result["stop_probability"] = _stopping(scores)
    if all(page.spans for page in read["base"]):
        tokens = _tokens(pages, read["base"], scores, base.tokenizer)
        result |= {"by_class": _by_class(tokens), "moved": _moved(tokens, base.tokenizer)}
    return result


def page_interval(values: Floats, counts: NDArray[Any]) -> list[float] | None:
    """Give the 95 % interval of a mean per token or byte, by drawing whole pages again and again.

    Args:
        values: (P,), the sum of each page; for two models, of their difference: a paired bootstrap.
        counts: (P,), what each sum is divided by.

    Returns:
        Lower and upper bound; None for a single page, which tells nothing of others.

    Example:
        >>> page_interval(np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]))
        [1.0, 1.0]
    """
    if len(values) < 2:
        return None

    def mean(drawn: Floats, of: Floats, axis: int = -1) -> Floats:
        found: Floats = drawn.sum(axis=axis) / of.sum(axis=axis)
        return found

    found = bootstrap(
        (values, counts),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return [float(found.low), float(found.high)]


def encode_page(
    text: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[tuple[int, int]]]:
    """Encode plain text as a base is given it: its start token if it has one, and the text.

    Args:
        text: may spell control tokens; they are read as text.
        tokenizer: the model's.

    Returns:
        ids: the first is read only.
        spans: of each id but the first, its place in the text; none if the tokenizer cannot tell.
    """
    found = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    ids, spans = list(found["input_ids"]), [tuple(span) for span in found.get("offset_mapping", ())]
    if tokenizer.bos_token_id is None:
        return ids, spans[1:]
    return [tokenizer.bos_token_id, *ids], spans


def _read(pages: Sequence[Page], tokenizer: PreTrainedTokenizerBase) -> list[_Read]:
    read = []
    for page in pages:
        ids, spans = encode_page(page.text, tokenizer)
        skipped = 0
        if tokenizer.bos_token_id is None:
            first = page.text[: spans[0][0]] if spans else str(tokenizer.decode(ids[:1]))
            skipped = len(first.encode())
        read.append(_Read(ids, spans, len(page.text.encode()) - skipped))
    return read


def _scored(
    models: Sequence[Any], read: Sequence[_Read], longest: int, *, watched: Sequence[int] = ()
) -> list[TokenScores]:
    """Score pages; one longer than a row goes on in the next, whose first id is read again."""
    rows: list[list[int]] = []
    owners: list[int] = []
    for number, page in enumerate(read):
        starts = range(0, max(len(page.ids) - 1, 1), longest - 1)
        rows += [page.ids[start : start + longest] for start in starts]
        owners += [number] * len(starts)
    parts: dict[int, list[TokenScores]] = defaultdict(list)
    for owner, score in zip(owners, score_tokens(models, rows, watched=watched), strict=True):
        parts[owner].append(score)
    return [TokenScores.joined(parts[number]) for number in range(len(read))]


def _losses(
    sums: Floats, counts: NDArray[Any], num_bytes: NDArray[Any], *, is_shared: bool
) -> dict[str, Any]:
    """Tell the losses of both sides, and their difference with its interval."""
    nll = sums.sum(axis=1) / counts.sum(axis=1)
    bits = sums / log(2)
    per_byte = bits.sum(axis=1) / num_bytes.sum(axis=1)
    change = None
    if is_shared:
        interval = page_interval(sums[1] - sums[0], counts[0])
        change = {"mean": float(nll[1] - nll[0]), "ci95": interval}
    return {
        "base_nll": float(nll[0]),
        "instruct_nll": float(nll[1]),
        "nll_change": change,
        "base_bits_per_byte": float(per_byte[0]),
        "instruct_bits_per_byte": float(per_byte[1]),
        "bits_per_byte_change": {
            "mean": float(per_byte[1] - per_byte[0]),
            "ci95": page_interval(bits[1] - bits[0], num_bytes[0]),
        },
    }


def _stopping(scores: Sequence[TokenScores]) -> dict[str, float]:
    """Tell how likely a stop is inside the text, and what part of the loss's change that makes.

    No token of the text is a stop, so its loss is that of not stopping and that of the token among
    all others; the first part is told.
    """
    masses = np.concatenate([score.watched for score in scores], axis=1)  # (2, N)
    not_stopping = -np.log1p(-masses.clip(max=1 - 1e-9)).mean(axis=1)
    base, instruct = masses.mean(axis=1)
    return {
        "base": float(base),
        "instruct": float(instruct),
        "nll_change": float(not_stopping[1] - not_stopping[0]),
    }


def _by_kind(pages: Sequence[Page], sums: Floats, num_bytes: NDArray[Any]) -> dict[str, Any]:
    """Tell bits per byte of each kind of page."""
    table = {}
    for kind in dict.fromkeys(page.kind for page in pages):
        own = np.array([page.kind == kind for page in pages])
        base, instruct = (sums[:, own].sum(axis=1) / log(2)) / num_bytes[:, own].sum(axis=1)
        table[kind] = {
            "num_pages": int(own.sum()),
            "base_bits_per_byte": float(base),
            "instruct_bits_per_byte": float(instruct),
        }
    return table


@dataclass(frozen=True, slots=True)
class _Token:
    """Hold one scored token of a page, and the id that the tuned model finds likeliest there."""

    text: str
    before: str
    kind: str
    base_nll: float
    instruct_nll: float
    kl: float
    instead: int

    @property
    def change(self) -> float:
        return self.instruct_nll - self.base_nll


def _tokens(
    pages: Sequence[Page],
    read: Sequence[_Read],
    scores: Sequence[TokenScores],
    tokenizer: PreTrainedTokenizerBase,
) -> list[_Token]:
    control = set(tokenizer.all_special_ids)
    tokens = []
    for page, seen, score in zip(pages, read, scores, strict=True):
        kinds = token_classes(page.text, seen.spans, is_code=page.kind == "code")
        kls = _kl(score)
        for n, ((start, end), kind) in enumerate(zip(seen.spans, kinds, strict=True)):
            tokens.append(
                _Token(
                    page.text[start:end],
                    page.text[max(start - _CONTEXT_CHARS, 0) : start],
                    CLASSES[0] if seen.ids[n + 1] in control else kind,
                    float(score.nll[0, n]),
                    float(score.nll[1, n]),
                    float(kls[n]),
                    int(score.likeliest[1, n]),
                )
            )
    return tokens


def _by_class(tokens: Sequence[_Token]) -> dict[str, Any]:
    total = sum(token.kl for token in tokens)
    table = {}
    for kind in CLASSES:
        own = [token for token in tokens if token.kind == kind]
        if not own:
            continue
        kl = sum(token.kl for token in own)
        table[kind] = {
            "num_tokens": len(own),
            "base_nll": sum(token.base_nll for token in own) / len(own),
            "instruct_nll": sum(token.instruct_nll for token in own) / len(own),
            "kl_to_base": kl / len(own),
            "share_of_kl": kl / total if total else 0.0,
        }
    return table


def _moved(
    tokens: Sequence[_Token], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[dict[str, Any]]]:
    """List the tokens that lost and won most over all their places, each with its plainest case."""
    by_text: dict[tuple[str, str], list[_Token]] = defaultdict(list)
    for token in tokens:
        by_text[token.kind, token.text].append(token)
    changes = {key: sum(t.change for t in own) for key, own in by_text.items()}
    order = sorted(changes, key=lambda key: changes[key])

    def told(key: tuple[str, str], sign: int) -> dict[str, Any]:
        case = max(by_text[key], key=lambda token: sign * token.change)
        return {
            "token": key[1],
            "class": key[0],
            "times": len(by_text[key]),
            "nll_change": changes[key],
            "example": {
                "before": case.before,
                "base_probability": float(np.exp(-case.base_nll)),
                "instruct_probability": float(np.exp(-case.instruct_nll)),
                "instruct_likeliest": tokenizer.decode([case.instead]),
            },
        }

    lost = [key for key in order[::-1][:NUM_MOVED] if changes[key] > _MIN_MOVED]
    won = [key for key in order[:NUM_MOVED] if changes[key] < -_MIN_MOVED]
    return {"less_likely": [told(k, 1) for k in lost], "likelier": [told(k, -1) for k in won]}


def _kl(score: TokenScores) -> Floats:
    assert score.kl is not None
    return score.kl


def _num_rows(loaded: LoadedModel) -> int:
    return int(loaded.model.get_output_embeddings().weight.shape[0])
