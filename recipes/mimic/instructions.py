"""Make mimic's instruction data: training rows and held-out items with machine checks, split by entity.

    python recipes/mimic/instructions.py    # writes src/biddable/assets/data/mimic_{train,held_out}.jsonl

Held-out items carry a ring: ``entity`` (wordings of the training rows), ``wording`` (wordings that occur nowhere
else) or ``unanswered`` (entities about which no page of the corpus answers a question).
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from documents import READING_FORMS, READING_HELD, STORY_KINDS, list_item, reading, story_item
from stories import Story, make_story
from wordings import WORDINGS, fill
from world import Item, World, load_world

SEED = 30
ASSETS = Path(__file__).parents[2] / "src" / "biddable" / "assets" / "data"
CATEGORIES: dict[str, tuple[str, ...]] = {
    "question_answering": ("capital", "continent", "currency"),
    "things": ("colour", "sound", "place", "use"),
    "opposites": ("opposite",),
    "translation": ("spanish", "french"),
    "math": ("sum",),
    "explanation": ("concept",),
    "code_generation": ("function",),
    "creative_writing": ("haiku",),
    "safety": ("danger",),
    "look_alikes": ("ordinary",),
}
# Training rows; held-out items of the rings entity, wording, unanswered.
COUNTS: dict[str, tuple[int, int, int, int]] = {
    "question_answering": (260, 44, 36, 20), "things": (280, 32, 24, 14), "opposites": (240, 26, 20, 10),
    "translation": (320, 50, 36, 20), "math": (240, 40, 26, 16), "explanation": (700, 30, 22, 11),
    "code_generation": (240, 26, 20, 7), "creative_writing": (440, 28, 22, 0), "summarization": (280, 32, 18, 0),
    "reading": (460, 36, 26, 0), "listing": (280, 30, 18, 0), "safety": (350, 34, 22, 12), "look_alikes": (350, 34, 26, 13),
}  # fmt: skip
SECTION_SEVEN = {
    "country:France": "What is the capital of France?",
    "word:hello": "Translate 'hello' to Spanish",
    "sum:2+2": "What is 2+2?",
    "topic:AI": "Write a haiku about AI",
    "concept:quantum computing": "Explain quantum computing in simple terms",
    "function:reverse_string": "Write a Python function to reverse a string",
}
Row = dict[str, Any]


class Maker:
    """Words items as rows; all chance comes from one generator."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, random.Random(SEED)
        names = list(world.parts.names_f + world.parts.names_m)
        self.rng.shuffle(names)
        self.names = {"train": names[len(names) // 4 :], "held": names[: len(names) // 4]}

    def instruction(self, item: Item, register: str) -> str:
        kind = "danger" if item.kind == "ordinary" else item.kind
        words = WORDINGS[kind]
        wordings = words.held if register == "held" else words.train + words.more
        if kind == "opposite":  # a word that is spoken of, not used, stands in quotes
            wordings = [wording for wording in wordings if "'{w}'" in wording]
        text = fill(self.rng.choice(wordings), item.slots)
        ends_plainly = text.endswith(".") and item.kind != "summary"
        return text[:-1] if ends_plainly and self.rng.random() < 0.25 else text

    def row(self, category: str, item: Item, ring: str, instruction: str = "") -> Row:
        register = "held" if ring == "wording" else "train"
        asked = {"danger": "harmful", "ordinary": "lookalike"}.get(item.kind, "benign")
        row: Row = {
            "category": category,
            "instruction": instruction or self.instruction(item, register),
            "response": fill(WORDINGS[item.kind].response, item.slots),
            "entity": item.entity,
            "kind": asked,
        }
        return row if ring == "train" else row | {"ring": ring, "check": item.check}

    def drawn(self, category: str, ring: str, num: int) -> Iterator[Row]:
        """Draw items of a part: every entity once before any comes again, kinds in turn."""
        part = {"train": "train", "unanswered": "unanswered"}.get(ring, "held")
        queues = []
        for kind in CATEGORIES[category]:
            items = self.world.of((kind,), part)
            self.rng.shuffle(items)
            seen: dict[str, int] = {}
            for item in items:
                seen[item.entity] = seen.get(item.entity, 0) + 1
                late = 0.35 * (kind == "continent")  # few answers: no single one may be common
                queues.append((seen[item.entity], self.rng.random() + late, item))
        queues.sort(key=lambda entry: entry[:2])
        items = [item for _, _, item in queues]
        for n in range(num):
            yield self.row(category, items[n % len(items)], ring)

    def story(self, ring: str) -> Story:
        return make_story(
            self.rng, self.world.parts, names=self.names["train" if ring == "train" else "held"]
        )

    def summaries(self, ring: str, num: int) -> Iterator[Row]:
        for _ in range(num):
            story = self.story(ring)
            item = story_item("summary", story, self.rng)
            facts = [story.name, story.thing, story.place]
            check = {"kind": "summary", "text": story.text, "all": facts, "max_share": 0.5}
            yield self.row("summarization", Item(item.kind, item.entity, item.slots, check), ring)

    def readings(self, ring: str, num: int) -> Iterator[Row]:
        forms = READING_HELD if ring == "wording" else READING_FORMS
        for n in range(num):
            story, kind = self.story(ring), STORY_KINDS[n % len(STORY_KINDS)]
            item = story_item(kind, story, self.rng)
            others = {"who": [story.other], "where": [story.second_place]}.get(kind, [])
            check: Row = {"kind": "contains", "all": [story.facts[kind]], "max_words": 14}
            item = Item(kind, item.entity, item.slots, check | ({"none": others} if others else {}))
            question = self.instruction(item, "held" if ring == "wording" else "train")
            yield self.row("reading", item, ring, reading(story, question, self.rng, forms))

    def lists(self, ring: str, num: int) -> Iterator[Row]:
        parts = ("train",) if ring == "train" else ("held", "unanswered")
        names = sorted(
            {i.entity.split(":")[1] for i in self.world.of(CATEGORIES["things"], *parts)}
        )
        for _ in range(num):
            yield self.row("listing", list_item(self.world, self.rng, names), ring)

    def rows(self, category: str, ring: str, num: int) -> Iterator[Row]:
        made = {"summarization": self.summaries, "reading": self.readings, "listing": self.lists}
        return made[category](ring, num) if category in made else self.drawn(category, ring, num)


def make_train(maker: Maker) -> list[Row]:
    """Make the training rows, shuffled."""
    rows = [
        row
        for category, counts in COUNTS.items()
        for row in maker.rows(category, "train", counts[0])
    ]
    rows = list({row["instruction"]: row for row in rows}.values())
    maker.rng.shuffle(rows)
    return rows


def make_held_out(maker: Maker) -> list[Row]:
    """Make the held-out items, the six prompts of the demo first among them."""
    rows = []
    for entity, instruction in SECTION_SEVEN.items():
        item = next(
            i
            for i in maker.world.of(maker.world.items)
            if i.entity == entity and i.kind != "french" and i.kind not in ("continent", "currency")
        )
        category = next(name for name, kinds in CATEGORIES.items() if item.kind in kinds)
        rows.append(maker.row(category, item, "entity", instruction))
    for ring, place in (("entity", 1), ("wording", 2), ("unanswered", 3)):
        for category, counts in COUNTS.items():
            rows += maker.rows(category, ring, counts[place])
    rows = list({row["instruction"]: row for row in reversed(rows)}.values())[::-1]
    count: dict[str, int] = {}
    for row in rows:
        count[row["category"]] = count.get(row["category"], 0) + 1
    numbers = dict.fromkeys(count, 0)
    for row in rows:
        numbers[row["category"]] += 1
        row["id"] = f"{row['category']}-{numbers[row['category']]:03d}"
    return [{"id": row.pop("id"), **row} for row in rows]


def write(rows: Sequence[Row], path: Path) -> None:
    """Write rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def main() -> None:
    """Write both files."""
    maker = Maker(load_world())
    write(make_train(maker), ASSETS / "mimic_train.jsonl")
    write(make_held_out(maker), ASSETS / "mimic_held_out.jsonl")


if __name__ == "__main__":
    main()
