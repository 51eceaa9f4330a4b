"""Let a model at a URL judge two sides' answers, each pair in both orders.

Off unless asked for, and apart from the comparison's own figures: it writes judge.json beside them.
Every reply is kept in judge_replies.jsonl as it comes, so a judge that was cut off goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biddable.errors import EvaluationError
from biddable.evaluation.answer_cache import key_of
from biddable.evaluation.answer_pairs import SAMPLES, AnswerPair, TwoSides
from biddable.evaluation.judge_prompt import SYSTEM, Letter, messages_of, read_verdict
from biddable.evaluation.preferences import Preference, summarise
from biddable.evaluation.statistics import mcnemar, rate
from biddable.evaluation.url_model import UrlModel
from biddable.manifest import hash_file, hash_text, write_json

RESULT, REPLIES = "judge.json", "judge_replies.jsonl"
MAX_NEW_TOKENS = 512

_PARALLEL = 4
_FAILURES_IN_A_ROW = 5
_TOLD = 200  # characters of a reply that are shown

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Ask:
    """Hold one question: a pair in one order."""

    pair: AnswerPair
    is_after_first: bool
    payload: dict[str, Any]
    key: str


@dataclass(slots=True)
class _Replies:
    """Hold the texts by key, and how often and why there was none."""

    texts: dict[str, str]
    num_failed: int = 0
    first_failure: str | None = None


def judge(
    sides: TwoSides,
    model: UrlModel,
    *,
    num_items: int | None = None,
    seed: int = 0,
    max_new_tokens: int = MAX_NEW_TOKENS,
    on_event: Tell = lambda _: None,
) -> dict[str, Any]:
    """Have pairs judged in both orders, and write judge.json.

    Args:
        sides: of ``read_two_sides``.
        model: the judge.
        num_items: how many pairs, drawn; None for all.
        seed: of the draw.
        max_new_tokens: longest reply.
        on_event: told how many questions are answered.

    Returns:
        What judge.json says.

    Raises:
        EvaluationError: the judge fails again and again, or decides nothing.
        CheckpointError: the folder cannot be written.
    """
    pairs = sides.some(num_items, seed=seed)
    asks = [
        _ask(pair, is_first, model, max_new_tokens)
        for pair in pairs
        if not pair.is_same
        for is_first in (False, True)
    ]
    replies = _collect(asks, model, sides.folder / REPLIES, on_event)
    result = _result(sides, pairs, asks, replies)
    result["samples_sha256"] = hash_file(sides.folder / SAMPLES)
    result["judge"] = {
        "url": model.url,
        "model": model.described["id"],
        "decoding": {"temperature": 0.0, "max_new_tokens": max_new_tokens},
        "prompt_sha256": hash_text(SYSTEM),
    }
    write_json(sides.folder / RESULT, result)
    return result


def verdict_of(before_first: Letter | None, after_first: Letter | None) -> float | None:
    """Settle an item by the verdicts of both orders.

    Args:
        before_first: with the side ``before`` as answer A.
        after_first: with the side ``after`` as answer A.

    Returns:
        1 if ``after`` won in both orders, 0 if it lost in both, 0.5 otherwise; None where a verdict
        is missing.

    Example:
        >>> verdict_of("B", "A"), verdict_of("A", "A"), verdict_of(None, "A")
        (1.0, 0.5, None)
    """
    if before_first is None or after_first is None:
        return None
    return {("B", "A"): 1.0, ("A", "B"): 0.0}.get((before_first, after_first), 0.5)


def position_bias(verdicts: Sequence[tuple[Letter, Letter]]) -> dict[str, Any]:
    """Say how much the place of an answer decided.

    Args:
        verdicts: of each item in both orders.

    Returns:
        ``agreement``: rate of items decided alike in both orders; ``first_both`` and
        ``second_both``: items where one place won both times; ``p``: exact, that neither place is
        favoured there.

    Example:
        >>> found = position_bias([("A", "A"), ("B", "A"), ("tie", "tie")])
        >>> found["first_both"], found["second_both"], found["agreement"]["n"]
        (1, 0, 3)
    """
    counts = Counter(verdicts)
    alike = counts["A", "B"] + counts["B", "A"] + counts["tie", "tie"]
    first, second = counts["A", "A"], counts["B", "B"]
    return {
        "agreement": rate(alike, len(verdicts)),
        "first_both": first,
        "second_both": second,
        "p": mcnemar(first, second),
    }


def _ask(pair: AnswerPair, is_after_first: bool, model: UrlModel, limit: int) -> _Ask:
    payload = {
        "messages": messages_of(pair, is_after_first=is_after_first),
        "model": model.described["id"],
        "temperature": 0.0,
        "max_tokens": limit,
        "stream": False,
    }
    key = key_of(url=model.url, model=model.described, request=payload)
    return _Ask(pair, is_after_first, payload, key)


def _collect(asks: Sequence[_Ask], model: UrlModel, path: Path, on_event: Tell) -> _Replies:
    """Ask what was not answered before, writing down each reply as it comes."""
    kept = _read_replies(path)
    wanted = {ask.key: ask for ask in asks}  # equal questions are asked once
    replies = _Replies({key: kept[key] for key in wanted if key in kept})
    missing = [ask for key, ask in wanted.items() if key not in kept]
    if not missing:
        return replies
    in_a_row = 0
    try:
        with path.open("a", encoding="utf-8") as file, ThreadPoolExecutor(_PARALLEL) as pool:
            running = {pool.submit(model.complete, ask.payload): ask for ask in missing}
            try:
                for future in as_completed(running):
                    in_a_row = 0 if _keep(future, running[future], replies, file) else in_a_row + 1
                    if in_a_row >= _FAILURES_IN_A_ROW:
                        raise EvaluationError(
                            f"{model.name}: {in_a_row} questions in a row failed, the first with:"
                            f" {replies.first_failure} {len(replies.texts)} of {len(wanted)} are"
                            " answered and kept; judge again and it goes on there."
                        )
                    on_event({"judged": f"{len(replies.texts)} of {len(wanted)} questions"})
            finally:
                pool.shutdown(cancel_futures=True)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written: {error.strerror}.") from error
    return replies


def _keep(future: Future[dict[str, Any]], ask: _Ask, replies: _Replies, file: Any) -> bool:
    try:
        text = future.result()["text"]
    except EvaluationError as error:
        replies.num_failed += 1
        replies.first_failure = replies.first_failure or str(error)
        return False
    replies.texts[ask.key] = text
    order = "after_first" if ask.is_after_first else "before_first"
    row = {"key": ask.key, "id": ask.pair.id, "order": order, "reply": text}
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()  # a killed process loses none that it has
    return True


def _read_replies(path: Path) -> dict[str, str]:
    """Read what was kept, mending a last line that was cut off."""
    if not path.is_file():
        return {}
    found = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in text.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            found[str(row["key"])] = str(row["reply"])
    return found


def _result(
    sides: TwoSides, pairs: Sequence[AnswerPair], asks: Sequence[_Ask], replies: _Replies
) -> dict[str, Any]:
    read = {key: read_verdict(text) for key, text in replies.texts.items()}
    by_item: dict[str, dict[bool, Letter | None]] = {}
    for ask in asks:
        by_item.setdefault(ask.pair.id, {})[ask.is_after_first] = read.get(ask.key)
    items = []
    for pair in pairs:
        found = by_item.get(pair.id, {})
        value = 0.5 if pair.is_same else verdict_of(found.get(False), found.get(True))
        orders = {"before_first": found.get(False), "after_first": found.get(True)}
        items.append((pair, value, orders))
    judged = [Preference(p.cluster, value, p.gap) for p, value, _ in items if value is not None]
    malformed = [text for key, text in replies.texts.items() if read[key] is None]
    if not judged:
        raise EvaluationError(_nothing(replies, malformed))
    both = [(o["before_first"], o["after_first"]) for _, _, o in items]
    return {
        "schema": 1,
        "suite": sides.suite,
        "sides": {"before": sides.before, "after": sides.after},
        "models": sides.models,
        **summarise(judged),
        "num_items": len(pairs),
        "num_identical": sum(pair.is_same for pair in pairs),
        "num_unjudged": len(pairs) - len(judged),
        "questions": {
            "n": len({ask.key for ask in asks}),
            "answered": len(replies.texts),
            "malformed": len(malformed),
            "failed": replies.num_failed,
            "first_failure": replies.first_failure,
        },
        "position": position_bias([(a, b) for a, b in both if a and b]),
        "items": [_told(sides, *item) for item in items],
    }


def _told(
    sides: TwoSides, pair: AnswerPair, value: float | None, orders: dict[str, Letter | None]
) -> dict[str, Any]:
    won = {1.0: sides.after, 0.0: sides.before, 0.5: "tie"}
    return {
        "id": pair.id,
        "category": pair.category,
        "winner": None if value is None else won[value],
        "orders": None if pair.is_same else orders,
        "gap": pair.gap,
    }


def _nothing(replies: _Replies, malformed: Sequence[str]) -> str:
    if not malformed:
        return f"no item was judged in both orders: {replies.first_failure}"
    first = malformed[0]
    return (
        f"{len(malformed)} of {len(replies.texts)} replies give no verdict, so no item has one in"
        ' both orders; expected a last line such as "Verdict: A", found'
        f' "{first.strip()[-_TOLD:]}". Take another judge, or give it more room'
        " with --max-new-tokens."
    )
