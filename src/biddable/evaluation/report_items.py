"""Show items on the page: what was asked, what each side answered, and why it was judged so.

Items are plain HTML that opens without a script; the page's script only hides what a filter leaves
out. The turns of a conversation are one card. Long outputs are cut so that the page stays small,
and it says where all of them stand.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from biddable.evaluation.report_facts import CHANGES, Row, Told, change_in, told_by_side
from biddable.evaluation.terminal import judged_in_words, why_not
from biddable.evaluation.turns import conversations_of, unit_of

MAX_BYTES = 2_600_000  # of all items; the rest of the page has 0.4 MB left of three
BEHAVIOURS = {
    "refusal": "refuses",
    "mimicry": "mimics",
    "run_on": "runs on",
    "empty": "says nothing",
    "repetition": "loops",
    "wrong_language": "wrong language",
}

_LIMITS = (1500, 1000, 700, 500, 350, 240, 160, 100)  # characters of a text, until all fits
_HEADING = 140
_REASON = 160
_OPEN = 3  # of what broke and of what was fixed, so that a reader sees at once what an item is
_NAMES = {
    "broken": "Broken",
    "fixed": "Fixed",
    "neither": "Wrong in both",
    "both": "Right in both",
    None: "Not checked",
}


@dataclass(frozen=True, slots=True)
class Group:
    """Hold the items to which the same happened.

    Attributes:
        key: ``fixed``, ``broken``, ``neither``, ``both``, or empty where nothing was checked.
        name: as a heading.
        meaning: in words.
        html: of its items.
        num_items: how many cards they have on the page.
    """

    key: str
    name: str
    meaning: str
    html: str
    num_items: int


@dataclass(frozen=True, slots=True)
class Items:
    """Hold what the page shows of the items.

    Attributes:
        groups: what broke first.
        unit: what a card is, ``item`` or ``conversation``.
        limit: characters after which a text is cut.
        is_cut: whether some text was.
        num_left_out: cards that found no room.
    """

    groups: list[Group]
    unit: str
    limit: int
    is_cut: bool
    num_left_out: int


def items_of(rows: Sequence[Row], sides: Sequence[Told], *, max_bytes: int = MAX_BYTES) -> Items:
    """Write the items as HTML that takes no more than so many bytes, a card for a conversation.

    Texts are cut shorter until all items fit. Where even the shortest are too many, items are left
    out, those that are right in both first.

    Args:
        rows: as samples.jsonl has them.
        sides: in the page's order.
        max_bytes: of all items together, in UTF-8.
    """
    if len({row["ring"] for row in rows}) == 1:  # which tells nothing
        rows = [{**row, "ring": ""} for row in rows]
    cards = conversations_of(rows)
    place = bisect_left(_LIMITS, True, key=lambda n: _size(cards, sides, n) <= max_bytes)
    limit = _LIMITS[min(place, len(_LIMITS) - 1)]
    order: list[str | None] = [*CHANGES, None]
    ranked = sorted(cards, key=lambda turns: order.index(change_in(turns)))
    shown, room = [], max_bytes
    for n, turns in enumerate(ranked):
        text = _card(turns, sides, limit, number=n)
        room -= len(text.encode("utf-8"))
        if room < 0:
            break
        shown.append((change_in(turns), text))
    groups = []
    for change in order:
        own = [text for name, text in shown if name == change]
        if own:
            opened = "".join(own[:_OPEN]) if change in ("broken", "fixed") else ""
            opened = opened.replace('<details class="it"', '<details open class="it"')
            rest = own[_OPEN:] if opened else own
            meaning = CHANGES.get(change or "", "no check tells whether an answer is right")
            html = opened + "".join(rest)
            groups.append(Group(change or "", _NAMES[change], meaning, html, len(own)))
    longest = max((len(text) for row in rows for text in _texts(row)), default=0)
    return Items(groups, unit_of(cards), limit, longest > limit, len(cards) - len(shown))


def behaviour_counts(rows: Iterable[Row], sides: Sequence[Told]) -> dict[str, dict[str, int]]:
    """Count, for each side and for any of them, the cards in which it behaved in each way."""
    counts: dict[str, Counter[str]] = {key: Counter() for key in ("", *(s.key for s in sides))}
    for turns in conversations_of(rows):
        found = _behaviours(turns)
        for side, behaviour in found:
            if side in counts:
                counts[side][behaviour] += 1
        counts[""].update({behaviour for side, behaviour in found if side in counts})
    return {side: {name: found[name] for name in BEHAVIOURS} for side, found in counts.items()}


def cut(text: str, limit: int) -> tuple[str, int]:
    """Cut a text, and say how many characters are left out; a few are not worth a cut.

    Example:
        >>> cut("abcdef", 4), cut("a" * 200, 40)[1]
        (('abcdef', 0), 160)
    """
    if len(text) <= limit + limit // 5 + 4:
        return text, 0
    return text[:limit], len(text) - limit


def _size(cards: Iterable[Sequence[Row]], sides: Sequence[Told], limit: int) -> int:
    return sum(len(_card(turns, sides, limit, number=0).encode("utf-8")) for turns in cards)


def _texts(row: Row) -> Iterable[str]:
    yield row["instruction"]
    yield row["reference"] or ""
    for told in told_by_side(row).values():
        yield told["output"]


def _behaviours(turns: Sequence[Row]) -> list[tuple[str, str]]:
    """List how each side behaved in some turn, each way once."""
    found = [
        (side, name)
        for row in turns
        for side, told in told_by_side(row).items()
        for name in BEHAVIOURS
        if (told[name] == "full" if name == "refusal" else told.get(name))
    ]
    return list(dict.fromkeys(found))


def _card(turns: Sequence[Row], sides: Sequence[Told], limit: int, *, number: int) -> str:
    """Show a conversation, which most often is one item: what was asked, and what each answered."""
    first, places = turns[0], {side.key: n for n, side in enumerate(sides)}
    heading = " ".join(first["instruction"].split())
    is_whole = heading == first["instruction"].strip() and len(heading) <= _HEADING
    heading = heading if len(heading) <= _HEADING else heading[: _HEADING - 1] + "…"
    shown = []
    for n, row in enumerate(turns, 1):
        word = f"<b>turn {n}</b>" if len(turns) > 1 else ""
        asked = f'<p class="told">{word}{_text(row["instruction"], "", limit)}</p>'
        shown.append(("" if is_whole and n == 1 else asked) + _answers(row, sides, limit))
    marks = " ".join(f"{places[s]}:{name}" for s, name in _behaviours(turns) if s in places)
    ids = ", ".join(str(row["id"]) for row in turns)
    category = str(first["category"]).replace("_", " ")
    where = " · ".join(filter(None, (category, first["ring"], ids)))
    return (
        f'<details class="it" id="item-{number}" data-k="{change_in(turns) or ""}"'
        f' data-c="{escape(first["category"])}" data-r="{escape(first["ring"])}" data-b="{marks}">'
        f'<summary><span class="q">{escape(heading)}</span>'
        f'<span class="w">{escape(where)}</span></summary>{"".join(shown)}</details>'
    )


def _answers(row: Row, sides: Sequence[Told], limit: int) -> str:
    """Show side by side what all answered in one turn, the base's other forms folded away."""
    told = told_by_side(row)
    other = ("base_templated", "base_fewshot")
    there = [(side, n) for n, side in enumerate(sides) if side.key in told]
    first = [_side(s, told[s.key], n, limit) for s, n in there if s.key not in other]
    rest = [_side(s, told[s.key], n, limit) for s, n in there if s.key in other]
    if row["reference"]:
        text = _text("", row["reference"], limit)
        rest.append(f'<div class="a"><h4>reference answer</h4><pre>{text}</pre></div>')
    more = ""
    if rest:
        more = (
            '<details class="o"><summary>the base with other prompts, and the reference</summary>'
            f'<div class="as">{"".join(rest)}</div></details>'
        )
    return f'<div class="as">{"".join(first)}</div>{more}'


def _side(side: Told, told: Mapping[str, object], place: int, limit: int) -> str:
    """Show what one side answered; what came after the answer, or in its place, is grey."""
    output, answer = str(told["output"]).strip(), str(told["answer"])
    is_apart = output.startswith(answer)
    text = _text(answer if is_apart else "", output[len(answer) :] if is_apart else output, limit)
    return (
        f'<div class="a s{place}"><h4>{escape(side.label)}</h4>{_judged(told, min(limit, _REASON))}'
        f"<pre>{text or '<i>(nothing)</i>'}</pre></div>"
    )


def _judged(told: Mapping[str, object], limit: int) -> str:
    """Say how an output was judged, and why: the check's reason, and that of each behaviour."""
    reasons, (is_right, verdict) = told.get("reasons"), judged_in_words(told)
    said = dict(reasons) if isinstance(reasons, Mapping) else {}
    if told["refusal"] == "none" or told.get("refuses_rightly") is not None:
        said.pop("refusal", None)  # plain answers are most of all; a verdict on refusals has it
    why = [str(reason) for reason in said.values() if reason != told.get("why")]
    if is_right is None and told["mimicry"]:
        is_right, verdict = False, f"✗ {why_not(told)}"
    kind = {True: "ok", False: "no", None: "soft"}[is_right]
    text = "; ".join(cut(part, limit)[0] for part in (verdict, *why))
    return f'<p class="{kind}">{escape(text)}</p>'


def _text(first: str, rest: str, limit: int) -> str:
    kept, num_cut = cut(first, limit)
    html = str(escape(kept))
    if num_cut == 0 and rest:
        kept, num_cut = cut(rest, max(limit - len(first), limit // 5))
        html += f"<i>{escape(kept)}</i>"
    elif rest:
        num_cut += len(rest)
    return html + (f"<em>… {num_cut:,} characters more</em>" if num_cut else "")
