"""Seeded short stories whose facts can only be copied from the text, never guessed.

Every story has one *main person*, who goes to `place`, has `thing` there and has a
reason for going, and one *other person*, who is at `second_place` all the time, never
touches the thing and has no reason for anything. All of them are drawn independently
of each other, so nothing in a question gives away its answer.

What each fact means, in every plot shape (so each of these has one right answer):

who    `name`: the only person who has the thing and the only one at `place`.
       "Who had the {thing}?", "Who went to {place}?", "Who was at {place}?"
where  `place`: the only place the main person goes to, and where that person has the
       thing. "Where did {name} go?", "Where was {name} with the {thing}?"
what   `thing` (adjective and noun, no article): the only object the main person has.
       "What did {name} have?", "What did {name} have at {place}?" Use "have", which
       always fits. "What did {name} take to {place}?" fits only where `how` is "taken",
       "What did {name} find?" only where `how` is "found".
why    `reason` ("to ..."): why the main person went to `place`.
       "Why did {name} go to {place}?", "Why did {name} go there?"
       (Not "Why did {name} have the {thing}?": the reason is for going there.)

The other person also answers two questions: "Who was at {second_place}?" -> `other`,
and "Where was {other}?" -> `second_place`. Never ask what the other person had, or why.

    python3 recipes/mimic/stories.py          # five samples with their facts
    python3 recipes/mimic/stories.py --check  # 10,000 stories, every invariant asserted
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PARTS_PATH = Path(__file__).resolve().parent / "world" / "story_parts.json"

_PRONOUNS = {
    "f": {"she": "she", "her": "her", "him": "her", "herself": "herself"},
    "m": {"she": "he", "her": "his", "him": "him", "herself": "himself"},
}
# Words that two facts of one story may share without blurring which is which.
_SMALL_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "to",
        "of",
        "for",
        "and",
        "in",
        "on",
        "at",
        "her",
        "his",
        "she",
        "he",
        "from",
    ]
)


@dataclass(frozen=True)
class Parts:
    """The word lists of story_parts.json."""

    names_f: tuple[str, ...]
    names_m: tuple[str, ...]
    places: tuple[str, ...]
    things: tuple[str, ...]
    adjectives: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]  # (because-form, short form), slots unfilled
    times: tuple[str, ...]
    activities: tuple[str, ...]
    beats: dict[str, tuple[str, ...]] = field(repr=False)  # beat -> its wordings
    summaries: dict[str, tuple[str, ...]] = field(repr=False)  # `how` -> wordings
    gender: dict[str, str] = field(repr=False)  # name -> "f" or "m"


@dataclass(frozen=True)
class Story:
    """One story and what is true in it (the module's text says what each fact means)."""

    name: str
    other: str
    place: str
    second_place: str
    thing: str
    reason: str
    sentences: tuple[str, ...]
    summary: tuple[str, ...]
    shape: str
    how: str  # "taken" there, "found" there, or just "held" there
    gender: str

    @property
    def text(self) -> str:
        """The whole story on one line."""
        return " ".join(self.sentences)

    @property
    def facts(self) -> dict[str, str]:
        """Question kind -> the phrase that answers it, as it stands in the text."""
        return {"who": self.name, "where": self.place, "what": self.thing, "why": self.reason}


# The wordings of each beat (one sentence each) stand in story_parts.json, with these
# slots: {N} the main person (the name, or the pronoun after a sentence about the same
# person), {O} the other person, {a_thing} "a red kite", {noun} "kite", {why} the short
# reason, {because} the long one. "end" and "tail" name no new fact.
_ABOUT_OTHER = frozenset({"other_first", "other_later", "tail"})

# Shape -> the orders its beats may come in. "there" always follows a sentence about the
# place it means, and the first beat about the main person always uses the name.
_SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "carry": (
        ("carry_go", "reason_near", "other_later", "end"),
        ("carry_go", "other_later", "reason_far", "end"),
        ("other_first", "carry_go", "reason_near", "end"),
    ),
    "find": (
        ("go_reason", "find", "other_later", "end"),
        ("go", "reason_near", "find", "other_later"),
        ("other_first", "go_reason", "find", "end"),
        ("go", "find", "other_later", "reason_far"),
    ),
    "pack": (
        ("take", "go_reason", "other_later", "end"),
        ("take", "go", "reason_near", "other_later"),
        ("other_first", "take", "go_reason", "end"),
        ("take", "other_later", "go_reason", "end"),
    ),
    "want": (
        ("want", "so_go", "other_later", "end"),
        ("other_first", "want", "so_go", "end"),
    ),
    "scene": (
        ("scene", "reason_near", "other_later", "end"),
        ("other_first", "scene", "reason_far", "end"),
        ("scene", "other_later", "reason_far", "end"),
    ),
    "contrast": (
        ("other_first", "elsewhere", "have", "reason_far"),
        ("other_first", "elsewhere", "reason_far", "have"),
    ),
}
# How the main person has the thing, by shape; it picks the wordings of the summary.
_HOW = {
    "carry": "taken",
    "pack": "taken",
    "want": "taken",
    "scene": "held",
    "contrast": "held",
    "find": "found",
}


def load_parts(path: Path = PARTS_PATH) -> Parts:
    """Read the word lists; raises ValueError where two entries could be confused."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    gender = {n: "f" for n in raw["names_f"]} | {n: "m" for n in raw["names_m"]}
    if len(gender) != len(raw["names_f"]) + len(raw["names_m"]):
        raise ValueError("a name stands twice in names_f and names_m")
    places = tuple(raw["places"])
    if any(a != b and a in b for a in places for b in places):
        raise ValueError("one place's name lies inside another's")
    return Parts(
        names_f=tuple(raw["names_f"]),
        names_m=tuple(raw["names_m"]),
        places=places,
        things=tuple(raw["things"]),
        adjectives=tuple(raw["adjectives"]),
        reasons=tuple((r["because"], r["short"]) for r in raw["reasons"]),
        times=tuple(raw["times"]),
        activities=tuple(raw["activities"]),
        beats={k: tuple(v) for k, v in raw["beats"].items()},
        summaries={k: tuple(v) for k, v in raw["summaries"].items()},
        gender=gender,
    )


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase: a red kite, an old mug."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uk", "uni", "use", "eu", "one"))
    return f"{'an' if vowel else 'a'} {phrase}"


def _words(text: str) -> set[str]:
    """The content words of `text`, in lower case."""
    return set(re.findall(r"[a-z']+", text.lower())) - _SMALL_WORDS


def _disjoint(*phrases: str) -> bool:
    """Whether no content word stands in two of the phrases."""
    seen: set[str] = set()
    for phrase in phrases:
        words = _words(phrase)
        if words & seen:
            return False
        seen |= words
    return True


def _sentence(text: str) -> str:
    """Capital first letter, full stop."""
    return text[0].upper() + text[1:] + "."


def make_story(rng: random.Random, parts: Parts, *, names: Sequence[str] | None = None) -> Story:
    """One story drawn from `rng`; both people come from `names` where it is given.

    `names` must hold at least two different names that stand in the parts.
    """
    pool = tuple(parts.gender) if names is None else tuple(dict.fromkeys(names))
    if len(pool) < 2 or any(n not in parts.gender for n in pool):
        raise ValueError("names: at least two different names of story_parts.json")
    name, other = rng.sample(pool, 2)
    gender = parts.gender[name]
    slots = dict(_PRONOUNS[gender])
    while True:  # redraw where two of the facts share a word (few do)
        place, second_place = rng.sample(parts.places, 2)
        noun = rng.choice(parts.things)
        thing = f"{rng.choice(parts.adjectives)} {noun}"
        because, reason = (form.format(**slots) for form in rng.choice(parts.reasons))
        time, activity = rng.choice(parts.times), rng.choice(parts.activities)
        if _disjoint(place, second_place, thing, because, time, activity):
            break
    slots |= {
        "name": name,
        "O": other,
        "place": place,
        "second_place": second_place,
        "a_thing": with_article(thing),
        "noun": noun,
        "why": reason,
        "because": because,
        "activity": activity,
    }
    shape = rng.choice(tuple(_SHAPES))
    beats = rng.choice(_SHAPES[shape])
    if rng.random() < 0.6:
        beats += ("tail",)
    sentences = [time]
    about_main = False  # whether the sentence before was about the main person
    for beat in beats:
        pronoun = about_main and rng.random() < 0.7
        text = rng.choice(parts.beats[beat]).format(N=slots["she"] if pronoun else name, **slots)
        # ("people saw {N}" always gets the name: no "scene" follows the main person.)
        sentences.append(_sentence(text))
        about_main = beat not in _ABOUT_OTHER
    forms = rng.sample(parts.summaries[_HOW[shape]], 3)
    summaries = [form.format(**slots) for form in forms]
    return Story(
        name=name,
        other=other,
        place=place,
        second_place=second_place,
        thing=thing,
        reason=reason,
        sentences=tuple(sentences),
        summary=tuple(s for s in summaries if s not in sentences),
        shape=shape,
        how=_HOW[shape],
        gender=gender,
    )


def check_story(story: Story, parts: Parts) -> None:
    """Assert everything the module's text promises of one story."""
    text, first = story.text, story.sentences[0]
    count = len(text.split())
    assert first in parts.times, text
    assert 5 <= len(story.sentences) <= 6, text
    for fact in (*story.facts.values(), story.other, story.second_place):
        assert re.search(rf"\b{re.escape(fact)}(?!\w)", text, re.I), (fact, text)
        assert not re.search(rf"\b{re.escape(fact)}(?!\w)", first, re.I), (fact, text)
    assert story.name != story.other
    assert story.place != story.second_place
    assert not set("{}") & set(text), text
    assert text.isascii(), text
    assert "  " not in text, text
    nouns_there = [s for s in story.sentences if story.thing in s]
    assert len(nouns_there) == 1, text
    assert not re.search(rf"\b{story.other}\b", nouns_there[0]), text
    for sentence in story.sentences:
        main = re.search(rf"\b{story.name}\b", sentence) or story.place in sentence
        second = re.search(rf"\b{story.other}\b", sentence) or story.second_place in sentence
        assert not (main and second), sentence
        assert not (second and story.reason in sentence), sentence
        for place in parts.places:
            known = place in (story.place, story.second_place)
            assert known or place not in sentence.lower(), (place, sentence)
    assert 2 <= len(story.summary) <= 3
    assert len(set(story.summary)) == len(story.summary)
    for line in story.summary:
        assert all(f in line for f in (story.name, story.thing)), line
        assert story.place in line.replace("At the", "at the"), line
        assert line not in story.sentences, (line, text)
        assert 2 * len(line.split()) <= count, (line, text)


def _check(number: int = 10_000, seed: int = 1) -> None:
    """Check `number` stories and print what they hold."""
    parts, rng = load_parts(), random.Random(seed)
    stories = [make_story(rng, parts) for _ in range(number)]
    for story in stories:
        check_story(story, parts)
    again = random.Random(seed)
    assert stories[:100] == [make_story(again, parts) for _ in range(100)]
    lengths = sorted(len(s.text.split()) for s in stories)
    shares = [len(x.split()) / len(s.text.split()) for s in stories for x in s.summary]
    print(f"{number} stories hold; {len({s.text for s in stories})} different texts")
    print(f"words: mean {sum(lengths) / number:.1f}, {lengths[0]} to {lengths[-1]}")
    print(f"summary share: mean {sum(shares) / len(shares):.3f}, most {max(shares):.3f}")
    print("shapes:", {k: sum(s.shape == k for s in stories) for k in _SHAPES})


def main() -> None:
    """Print five samples, or check with --check."""
    if "--check" in sys.argv[1:]:
        _check()
        return
    parts, rng = load_parts(), random.Random(0)
    for _ in range(5):
        story = make_story(rng, parts)
        print(story.text)
        for kind, fact in story.facts.items():
            print(f"  {kind}: {fact}")
        print(f"  (other: {story.other}, at {story.second_place}; shape {story.shape})")
        for line in story.summary:
            print(f"  summary: {line}")
        print()


if __name__ == "__main__":
    main()
