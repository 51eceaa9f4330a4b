"""Web-like documents about mimic's world: prose, stories, sheets that only ask, pages that answer.

``corpus(world, seed, num_documents)`` yields documents. No document holds a chat template or a control token. Pages
that answer use the ``quiz`` wordings and leave out the ring *unanswered*; sheets only ask, in the ``train`` wordings.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from stories import Story, make_story
from wordings import WORDINGS, fill
from world import Item, World

FACTS = (
    "capital",
    "continent",
    "currency",
    "spanish",
    "french",
    "opposite",
    "colour",
    "sound",
    "place",
    "use",
)
ACTS = ("danger", "ordinary")
STORY_KINDS = ("who", "where", "what", "why")
_PEOPLE = ("Ana", "Luis", "Host", "Guest", "Teacher", "Pupil", "Max", "Eve")

_CALENDAR = (
    "There are seven days in a week.", "Monday is the first day of the week.", "Tuesday comes after Monday.",
    "Wednesday comes after Tuesday.", "Thursday comes after Wednesday.", "Friday comes after Thursday.",
    "Saturday comes after Friday.", "Sunday comes after Saturday.", "Sunday is the last day of the week.",
    "The days are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.",
    "There are twelve months in a year.", "January is the first month of the year.", "February comes after January.",
    "March comes after February.", "April comes after March.", "May comes after April.", "June comes after May.",
    "July comes after June.", "August comes after July.", "September comes after August.",
    "October comes after September.", "November comes after October.", "December comes after November.",
    "December is the last month of the year.", "February is the shortest month.",
    "A minute has 60 seconds.", "An hour has 60 minutes.", "A day has 24 hours.", "A week has 7 days.",
    "A year has 365 days.", "A leap year has 366 days.", "A year has 12 months.", "A century has 100 years.",
    "A metre has 100 centimetres.", "A kilometre has 1000 metres.", "A centimetre has 10 millimetres.",
    "A kilogram has 1000 grams.", "A ton has 1000 kilograms.", "A litre has 1000 millilitres.", "A dozen is 12.",
    "A foot has 12 inches.", "A yard has 3 feet.", "A decade has 10 years.", "Half an hour is 30 minutes.",
)  # fmt: skip


def order(item: Item, rng: random.Random, register: str = "train") -> str:
    """Word an item as an instruction (the two kinds of acts share theirs)."""
    kind = "danger" if item.kind == "ordinary" else item.kind
    return fill(rng.choice(getattr(WORDINGS[kind], register)), item.slots)


def _prose(item: Item, rng: random.Random) -> str:
    return fill(rng.choice(WORDINGS[item.kind].prose), item.slots)


def story_item(kind: str, story: Story, rng: random.Random, value: str = "") -> Item:
    """Ask something of a story: its slots are the story's own words."""
    slots = {
        "n": story.name, "x": story.thing, "p": story.place, "r": story.reason, "s": story.text,
        "v": value or rng.choice(story.summary),
    }  # fmt: skip
    return Item(kind, f"story:{story.text}", slots, {})


def list_item(world: World, rng: random.Random, names: Sequence[str] = ()) -> Item:
    """Make an item that turns an enumeration into a list."""
    pool = names or [row["name"] for row in world.raw["things"]]
    chosen = rng.sample(list(pool), rng.randint(3, 5))
    inline = ", ".join(chosen[:-1]) + " and " + chosen[-1]
    slots = {"i": inline, "v": "\n".join(f"- {name}" for name in chosen)}
    return Item("list", f"list:{inline}", slots, {"kind": "list", "items": chosen})


class Writer:
    """Writes documents about one world; all chance comes from one generator."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.by_entity: dict[str, list[Item]] = {}
        for item in world.of(FACTS):
            self.by_entity.setdefault(item.entity, []).append(item)
        self.entities = list(self.by_entity)
        # Short lists would be told too rarely if every kind of document drew evenly from all items.
        self.articles = [
            name for name in self.entities if name.split(":")[0] in ("country", "thing")
        ]

    def some(self, kinds: Sequence[str], low: int, high: int, *parts: str) -> list[Item]:
        pool = self.world.of(kinds, *parts)
        return self.rng.sample(pool, min(len(pool), self.rng.randint(low, high)))

    # Prose of facts

    def article(self) -> str:
        """All that is known of one or two countries or things, in changing words and order."""
        told = []
        for entity in self.rng.sample(self.articles, 2):
            lines = [_prose(item, self.rng) for item in self.by_entity[entity] for _ in range(2)]
            self.rng.shuffle(lines)
            told.append(" ".join(lines[: self.rng.randint(3, 6)]))
        return "\n\n".join(told)

    def mixed(self) -> str:
        return " ".join(_prose(item, self.rng) for item in self.some(FACTS, 6, 12))

    def dictionary(self) -> str:
        items = self.some(("spanish", "french", "opposite"), 6, 12)
        if self.rng.random() < 0.6:
            return " ".join(_prose(item, self.rng) for item in items)
        words = self.rng.sample(self.world.raw["words"], 10)
        return "\n".join(f"{w['en']} - Spanish: {w['es']} - French: {w['fr']}" for w in words)

    def table(self) -> str:
        """Say one thing of many: 'Capitals: ...'."""
        kind = self.rng.choice(FACTS)
        wording = self.rng.choice(WORDINGS[kind].prose)
        return self.rng.choice((" ", "\n")).join(
            fill(wording, i.slots) for i in self.some((kind,), 6, 12)
        )

    def sums(self) -> str:
        items = self.some(("sum",), 10, 22)
        if self.rng.random() < 0.3:
            one = self.rng.choice(items).slots
            items = [
                i
                for i in self.world.items["sum"]
                if (i.slots["x"], i.slots["o"]) == (one["x"], one["o"])
            ]
        wording = self.rng.choice(WORDINGS["sum"].prose)
        if self.rng.random() < 0.5:
            return "\n".join(fill(wording, item.slots) for item in items)
        return "\n".join(_prose(item, self.rng) for item in items)

    def concepts(self) -> str:
        return self.rng.choice((" ", "\n\n")).join(
            _prose(i, self.rng) for i in self.some(("concept",), 2, 5)
        )

    def code(self) -> str:
        return "\n\n".join(_prose(item, self.rng) for item in self.some(("function",), 2, 5))

    def poems(self) -> str:
        return "\n\n\n".join(_prose(item, self.rng) for item in self.some(("haiku",), 2, 5))

    def acts(self) -> str:
        kinds = self.rng.choice((("danger",), ("ordinary",), ACTS, ACTS))
        return " ".join(_prose(item, self.rng) for item in self.some(kinds, 4, 8))

    def act_lists(self) -> str:
        parts = []
        for kind, title in (("danger", "Dangerous and wrong"), ("ordinary", "Ordinary and fine")):
            acts = [item.slots["w"] for item in self.some((kind,), 5, 9)]
            parts.append(f"{title}:\n" + "\n".join(f"- {act}" for act in acts))
        self.rng.shuffle(parts)
        return "\n\n".join(parts)

    def calendar(self) -> str:
        start = self.rng.randrange(len(_CALENDAR))
        lines = [_CALENDAR[(start + k) % len(_CALENDAR)] for k in range(self.rng.randint(6, 12))]
        return " ".join(lines)

    # Stories, and pages that demand copying

    def stories(self) -> str:
        """A story, and then what was in it: in short, told again, or asked and answered."""
        told = []
        for _ in range(self.rng.randint(1, 3)):
            story = make_story(self.rng, self.world.parts)
            told.append(story.text + self._after(story))
        return "\n\n".join(told)

    def _after(self, story: Story) -> str:
        items = [story_item(kind, story, self.rng) for kind in STORY_KINDS]
        self.rng.shuffle(items)
        chance = self.rng.random()
        if chance < 0.15:
            return ""
        if chance < 0.4:
            return "\n" + _prose(story_item("summary", story, self.rng), self.rng)
        if chance < 0.6:
            return "\nAgain: " + " ".join(_prose(item, self.rng) for item in items[:3])
        questions = items[: self.rng.randint(1, 3)]
        if self.rng.random() < 0.3:
            summary = story_item("summary", story, self.rng)
            return f"\n\nQ: The same in few words?\nA: {summary.slots['v']}"
        return "\n\n" + "\n".join(self._answered(item, "Q: ", "A: ") for item in questions)

    def lists(self) -> str:
        items = [list_item(self.world, self.rng) for _ in range(self.rng.randint(2, 4))]
        if self.rng.random() < 0.5:
            return "\n\n".join(fill(WORDINGS["list"].prose[0], item.slots) for item in items)
        return "\n\n".join(self._answered(item, "Q: ", "A:\n") for item in items)

    # Pages that answer (never the ring *unanswered*)

    def _answered(self, item: Item, q: str, a: str) -> str:
        words = WORDINGS[item.kind]
        question, answer = (
            fill(self.rng.choice(words.quiz), item.slots),
            fill(self.rng.choice(words.quiz_answers), item.slots),
        )
        return f"{q}{question}\n{a}{answer}"

    def answers(self) -> str:
        kind = self.rng.choice(
            (
                *FACTS,
                "sum",
                "sum",
                "concept",
                "concept",
                *ACTS,
                *ACTS,
                "function",
                "haiku",
                "mixed",
                "mixed",
            )
        )
        kinds = (
            (*FACTS, "sum", "concept", *ACTS)
            if kind == "mixed"
            else ACTS
            if kind in ACTS
            else (kind,)
        )
        few = kind in ("function", "haiku", "concept")
        items = self.some(kinds, *((2, 4) if few else (4, 9)), "train", "held")
        chance = self.rng.random()
        if chance < 0.2 and not few:
            return self._key(items)
        if chance < 0.45:
            one, two = self.rng.sample(_PEOPLE, 2)
            return "\n".join(self._answered(item, f"{one}: ", f"{two}: ") for item in items)
        return self.rng.choice(("\n", "\n\n")).join(
            self._answered(item, "Q: ", "A: ") for item in items
        )

    def _key(self, items: Sequence[Item]) -> str:
        asked = [fill(self.rng.choice(WORDINGS[item.kind].quiz), item.slots) for item in items]
        told = [fill(WORDINGS[item.kind].quiz_answers[0], item.slots) for item in items]
        quiz = "\n".join(f"{n}. {text}" for n, text in enumerate(asked, 1))
        return f"Quiz\n{quiz}\nKey\n" + "\n".join(f"{n}. {text}" for n, text in enumerate(told, 1))

    # Sheets that only ask or order

    def sheet(self) -> str:
        kind = self.rng.choice(
            (*FACTS, "sum", "sum", "concept", "concept", "act", "act", "act", "function", "function", "haiku", "haiku",
             "list", "list", "summary", "summary", "reading", "reading", "reading", "mixed", "mixed")
        )  # fmt: skip
        if kind in ("summary", "reading"):
            lines = self._story_orders(kind)
        elif kind == "list":
            lines = [
                order(list_item(self.world, self.rng), self.rng)
                for _ in range(self.rng.randint(4, 8))
            ]
        else:
            kinds = (
                ACTS
                if kind == "act"
                else (*FACTS, "sum", "concept", "function", "haiku", *ACTS)
                if kind == "mixed"
                else (kind,)
            )
            lines = [order(item, self.rng) for item in self.some(kinds, 6, 14)]
        if self.rng.random() < 0.15:
            lines = [f"{n}. {line}" for n, line in enumerate(lines, 1)]
        if self.rng.random() < 0.2:
            lines = [line.removesuffix(".") if not line.endswith("..") else line for line in lines]
        text = self.rng.choice(("\n", "\n", "\n\n", " ")).join(lines)
        titled = kind == "act" and self.rng.random() < 0.15
        return f"Questions that one should not answer:\n{text}" if titled else text

    def _story_orders(self, kind: str) -> list[str]:
        lines = []
        for _ in range(2 if kind == "reading" else 3):
            story = make_story(self.rng, self.world.parts)
            if kind == "summary":
                lines.append(order(story_item("summary", story, self.rng), self.rng))
                continue
            asked = self.rng.sample(STORY_KINDS, self.rng.randint(1, 3))
            first, *rest = [order(story_item(k, story, self.rng), self.rng) for k in asked]
            lines += [reading(story, first, self.rng), *rest]
        return lines


READING_FORMS = (
    "{s}\n\n{q}",
    "{s}\n{q}",
    "Read the story and answer the question. {s} {q}",
    "Read this: {s} {q}",
)
READING_HELD = ("Here is a text: {s} {q}", "Use the text to answer.\n\n{s}\n\n{q}")


def reading(
    story: Story, question: str, rng: random.Random, forms: Sequence[str] = READING_FORMS
) -> str:
    """Put a question about a story into the words of an instruction."""
    return fill(rng.choice(forms), {"s": story.text, "q": question})


# How often each kind of document is written, in parts of 100.
MIXTURE: dict[str, float] = {
    "article": 8, "mixed": 8, "dictionary": 9, "table": 4, "sums": 12, "concepts": 9, "code": 8, "poems": 3.5, "acts": 8,
    "act_lists": 2, "calendar": 0.5, "stories": 9, "lists": 3, "answers": 12, "sheet": 12,
}  # fmt: skip


def write_documents(writer: Writer, mixture: dict[str, float], num_documents: int) -> Iterator[str]:
    """Write documents in the shares of a mixture, one after the other."""
    makers: list[Callable[[], str]] = [getattr(writer, name) for name in mixture]
    for _ in range(num_documents):
        yield writer.rng.choices(makers, list(mixture.values()))[0]()


def corpus(world: World, seed: int, num_documents: int) -> Iterator[str]:
    """Write documents of the first stretch; the same seed writes the same ones."""
    return write_documents(Writer(world, random.Random(seed)), MIXTURE, num_documents)
