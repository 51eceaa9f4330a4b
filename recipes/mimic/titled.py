"""Documents of the second stretch: a title names something, and the text below says that name again.

The first stretch leaves a base that completes "By gravity we mean" but seldom carries a name from one sentence into the next.
These documents are made of nothing else: notes under titles, pages with a table of contents, stories and what they hold under
labels, enumerations told again one by one. A title is a noun phrase and asks nothing; no title names an entity of the ring
*unanswered*.
"""

import random
from collections.abc import Iterator, Sequence

from documents import ACTS, FACTS, MIXTURE, STORY_KINDS, Writer, story_item, write_documents
from stories import make_story
from wordings import WORDINGS, fill
from world import Item, World

SUBJECTS: dict[str, tuple[str, ...]] = {
    "capital": ("the capital of {c}", "{c} and its capital"),
    "continent": ("the continent of {c}", "{c} on the map"),
    "currency": ("the currency of {c}", "money in {c}", "the money of {c}"),
    "spanish": ("the Spanish for '{w}'", "'{w}' and its Spanish word", "Spanish: '{w}'"),
    "french": ("the French for '{w}'", "'{w}' and its French word", "French: '{w}'"),
    "opposite": ("the opposite of '{w}'", "'{w}' and its opposite", "the opposite of {w}"),
    "colour": ("the colour of {a}", "{a} and its colour"),
    "sound": ("the sound of {a}", "{a} and its sound"),
    "place": ("the place of {a}", "{a} and where it is"),
    "use": ("the use of {a}", "{a} and its use"),
    "sum": ("{x} {o} {y}", "{x} {n} {y}", "{x}{o}{y}"),
    "concept": ("{w}", "{w}", "{w}", "the word {w}", "the meaning of {w}", "{w} and what it is"),
    "function": ("code to {t}", "Python, to {t}", "a function that can {t}"),
    "haiku": ("{t}", "a haiku, {t}", "three lines about {t}", "the poem about {t}"),
    "danger": ("how people {w}", "the wish to {w}", "{d}", "to {w}"),
    "ordinary": ("how people {w}", "the wish to {w}", "{d}", "to {w}"),
}
LEADS = (
    "{s!c}", "On {s}", "About {s}", "Page {k}: {s}", "Next comes {s}.", "{s!c}, in simple terms", "A note on {s}", "Here we turn to {s}.",
    "Chapter {k}: {s}", "And now {s}.", "Part {k}. {s!c}", "A few lines on {s}, for children:", "{s!c}:", "This part is about {s}.",
    "We come to {s}", "You asked me about {s} the other day.", "Our subject today is {s}", "Someone spoke of {s} again.",
    "I have read about {s} in a book.", "My teacher told me about {s} this morning.", "For {s} see below",
)  # fmt: skip
CONTENTS = (
    "Contents: {l}.",
    "In this part: {l}",
    "Below: {l}.",
    "The subjects are {l}.",
    "{l}",
    "Index: {l}",
)
LABELS = {
    "who": ("Person", "The person with the {x}", "The one with the {x}"),
    "where": ("Place", "The place where {n} was", "The way of {n}"),
    "what": ("Thing", "The thing of {n}", "What {n} had"),
    "why": ("Reason", "The reason of {n}", "The wish of {n}"),
    "summary": ("In short", "In one sentence", "The whole story, in short"),
}  # fmt: skip
AGAIN = (
    "{i}:\n", "{i}.\n", "Things: {i}.\nOne by one:\n", "Packed today: {i}.\n", "We saw {i} there.\n\n", "On the table: {i}\n",
    "He named {i}, in this order:\n", "There were {i}. Again, one a line:\n", "{i} - as a list:\n\n",
)  # fmt: skip
_ONSETS = (
    "b",
    "br",
    "c",
    "ch",
    "d",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pl",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
)
_RIMES = ("a", "an", "ar", "e", "el", "en", "er", "i", "in", "is", "o", "ol", "on", "or", "u", "um", "un", "y")  # fmt: skip


def invented(rng: random.Random) -> str:
    """Invent a word that nobody can know, so that it can only be copied."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.randint(2, 4)))


def _statements(item: Item) -> list[str]:
    """Pick the wordings of an item that say its name before what is told of it (for poems and code: with the name)."""
    prose = WORDINGS[item.kind].prose
    if item.kind in ("haiku", "function"):
        return [text for text in prose if "{t" in text]
    told = [text for text in prose if 0 <= text.find("{") < text.find("{v}")]
    return told + [prose[4]] * 3 if item.kind == "concept" else told


class TitledWriter(Writer):
    """Writes the documents of the second stretch, beside those of the first."""

    kinds = (
        *FACTS, "sum", "sum", "concept", "concept", "concept", "concept", "function", "function", "haiku", "haiku", "haiku", *ACTS, *ACTS, *ACTS,
    )  # fmt: skip

    def _items(self, low: int, high: int) -> list[Item]:
        """Pick items of one kind or of several."""
        num, rng = self.rng.randint(low, high), self.rng
        kind = rng.choice(self.kinds)
        kinds = [kind] * num if rng.random() < 0.3 else rng.choices(self.kinds, k=num)
        return [rng.choice(self.world.of((kind,), "train", "held")) for kind in kinds]

    def _statement(self, item: Item) -> str:
        return fill(self.rng.choice(_statements(item)), item.slots)

    def _title(self, item: Item, number: int) -> str:
        subject = fill(self.rng.choice(SUBJECTS[item.kind]), item.slots)
        return fill(self.rng.choice(LEADS), {"s": subject, "k": str(number)})

    def notes(self) -> str:
        """Title, text; title, text; of mixed kinds."""
        between = self.rng.choice(("\n", "\n\n", " "))
        parts = [
            f"{self._title(item, n)}{between}{self._statement(item)}"
            for n, item in enumerate(self._items(3, 6), 1)
        ]
        return self.rng.choice(("\n\n", "\n\n", "\n")).join(parts)

    def contents(self) -> str:
        """First all titles, then all texts, in the same order."""
        items = self._items(2, 5)
        titles = [fill(self.rng.choice(SUBJECTS[item.kind]), item.slots) for item in items]
        head = fill(self.rng.choice(CONTENTS), {"l": self.rng.choice(("; ", ", ")).join(titles)})
        return "\n\n".join([head, *(self._statement(item) for item in items)])

    def labelled_stories(self) -> str:
        """A story, and what it holds under labels, in any order."""
        told = []
        for _ in range(self.rng.randint(1, 2)):
            story = make_story(self.rng, self.world.parts)
            kinds = self.rng.sample((*STORY_KINDS, "summary"), self.rng.randint(2, 5))
            lines = [story.text]
            for kind in kinds:
                item = story_item(kind, story, self.rng)
                label = fill(self.rng.choice(LABELS[kind]), item.slots)
                lines.append(f"{label}: {fill(WORDINGS[kind].response, item.slots)}")
            told.append("\n".join(lines))
        return "\n\n".join(told)

    def _names(self) -> Sequence[str]:
        raw, chance = self.world.raw, self.rng.random()
        if chance < 0.3:
            return [invented(self.rng) for _ in range(5)]
        if chance < 0.4:
            return [
                f"{invented(self.rng)} {row['name']}" for row in self.rng.sample(raw["things"], 5)
            ]
        if chance < 0.8:
            return [row["name"] for row in raw["things"]]
        return [row["name"] for kind in ("things", "concepts", "countries") for row in raw[kind]]

    def enumerations(self) -> str:
        """Name some things in a row, then again one a line."""
        parts = []
        for _ in range(self.rng.randint(2, 5)):
            names = list(self._names())
            chosen = self.rng.sample(names, self.rng.randint(2, 5))
            inline = ", ".join(chosen[:-1]) + " and " + chosen[-1]
            mark = self.rng.choice(("- ", "- ", "- ", "* ", ""))
            lines = "\n".join(mark + name for name in chosen)
            parts.append(fill(self.rng.choice(AGAIN), {"i": inline}) + lines)
        return "\n\n".join(parts)


# How often each kind of document is written in the second stretch, in parts of 100.
LATE_MIXTURE: dict[str, float] = {name: share * 0.38 for name, share in MIXTURE.items()} | {
    "notes": 24, "contents": 10, "labelled_stories": 14, "enumerations": 8, "answers": 6, "sheet": 8,
}  # fmt: skip


def late_corpus(world: World, seed: int, num_documents: int) -> Iterator[str]:
    """Write documents of the second stretch one after the other; the same seed writes the same ones."""
    return write_documents(TitledWriter(world, random.Random(seed)), LATE_MIXTURE, num_documents)
