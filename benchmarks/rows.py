"""Make any number of Alpaca-format rows from a seed, for measurements.

    python benchmarks/rows.py 52000 --seed 0 > rows.jsonl

The rows are put together from our own sentences and the words of mimic's world, with invented names
and numbers in them so that words are as varied as in written text. Lengths are spread as in
instruction data: most answers are a sentence or a few, some are long lists or code; two rows in
five have an input. The same numbers and seed give the same rows, and more rows begin with those of
fewer.
"""

# ruff: noqa: SIM905 - lists of phrases are read more easily as text

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

WORLD = Path(__file__).resolve().parents[1] / "recipes" / "mimic" / "world"

SUBJECTS = (
    "the committee,a careful gardener,the river,an old map,the new library,most students,"
    "the experiment,a small bakery,the night train,our neighbour,the museum,a good teacher,"
    "the harbour,every engineer,the recipe,a quiet village,the report,the orchestra,a young nurse,"
    "the mountain road,the software,a retired sailor,the city council,the second chapter,the bridge"
).split(",")
VERBS = (
    "explains,changes,supports,delays,improves,describes,follows,replaces,protects,measures,"
    "reveals,collects,simplifies,questions,organises,repairs,compares,attracts,limits,records,"
    "borrows,prepares,examines,celebrates,avoids"
).split(",")
OBJECTS = (
    "the first plan,several local customs,a difficult decision,the water supply,an early draft,"
    "the cost of transport,its own history,the shape of the coast,a series of letters,"
    "the weekly schedule,the results of the survey,two different methods,the garden wall,"
    "a forgotten song,the way people travel,the price of bread,an unusual question,"
    "the roof of the station,the rules of the game,a list of names,the light in the hall"
).split(",")
ADVERBS = (
    "slowly,without much noise,in the end,for a good reason,almost every year,with some help,"
    "more often than expected,before sunrise,as far as anyone knows,at little cost,in small steps,"
    "despite the weather,after a long discussion,for the first time,once the door is closed"
).split(",")
LINKS = (
    "Because of this,However,As a result,For example,In addition,At the same time,Even so,"
    "Later on,In practice,By contrast,More importantly,To begin with,In other words"
).split(",")
TASKS = (
    "Describe how {s} {v} {o}.",
    "Write a short note about {name} and {o}.",
    "Explain why {s} {v} {o}, and give {n} reasons.",
    "Summarize the following text in one sentence.",
    "Rewrite the text so that it is easier to read.",
    "What would happen if {s} never {v} {o}?",
    "List {n} ideas for {name}, who {v} {o}.",
    "Compare {s} with {s2}.",
    "Find the main argument of the passage.",
    "Give a title to this paragraph about {name}.",
    "How can {s} prepare for {o}?",
    "Translate the sentence into plain English.",
)
SYLLABLES = (
    "ka ro mi len da vor su tel an bri os que fa nim zo ther gal pe ru dis mon el wy chi sto ba lin"
    " or tav eth ul ser nok ia dre pol mu han fen arc"
).split()


def make_rows(num: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Make rows with ``instruction``, ``input`` (empty in most) and ``output``, one by one."""
    draw = random.Random(seed)
    for _ in range(num):
        has_input = draw.random() < 0.4
        task = draw.choice(TASKS).format(
            s=draw.choice(SUBJECTS),
            s2=draw.choice(SUBJECTS),
            v=draw.choice(VERBS),
            o=draw.choice(OBJECTS),
            n=draw.randint(2, 9),
            name=_name(draw),
        )
        # a median of two sentences, one answer in twenty above nine
        num_sentences = max(1, round(draw.lognormvariate(0.8, 0.85)))
        yield {
            "instruction": task,
            "input": _text(draw, draw.randint(1, 4)) if has_input else "",
            "output": _answer(draw, min(num_sentences, 40)),
        }


def _answer(draw: random.Random, num_sentences: int) -> str:
    kind = draw.random()
    if kind < 0.12:
        lines = (f"{n}. {_sentence(draw)}" for n in range(1, num_sentences + 2))
        return "\n".join(lines)
    if kind < 0.18:
        name = f"{draw.choice(SYLLABLES)}_{draw.choice(SYLLABLES)}"
        lines = (f"    total += {name}[{draw.randint(0, 999)}]" for _ in range(num_sentences))
        body = "\n".join(lines)
        return f"def add_up({name}):\n    total = 0\n{body}\n    return total\n\n{_sentence(draw)}"
    if kind < 0.28:
        return draw.choice([_name(draw), draw.choice(OBJECTS).capitalize(), "Yes.", "No."])
    return _text(draw, num_sentences)


def _text(draw: random.Random, num_sentences: int) -> str:
    sentences = [_sentence(draw) for _ in range(num_sentences)]
    cut = num_sentences // 2 if num_sentences > 6 else 0
    parts = (sentences[:cut], sentences[cut:]) if cut else (sentences,)
    return "\n\n".join(" ".join(part) for part in parts)


def _sentence(draw: random.Random) -> str:
    kind = draw.randrange(7)
    clause = f"{draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.choice(OBJECTS)}"
    if kind == 0:
        return f"{draw.choice(LINKS)}, {clause} {draw.choice(ADVERBS)}."
    if kind == 1:
        return f"{_name(draw)} says that {clause}, which took {draw.randint(2, 3000)} days."
    if kind == 2:
        return f"In {draw.randint(1500, 2030)}, {clause} near {_name(draw)}."
    if kind == 3:
        return f"{clause[0].upper()}{clause[1:]} and {draw.choice(VERBS)} {draw.choice(OBJECTS)}."
    if kind == 4:
        return f"{_name(draw)} thinks of {_word(draw)}, {_word(draw)} and {_word(draw)}."
    if kind == 5:
        return f"The {_word(draw)} of {draw.choice(OBJECTS)} is a {_word(draw)} {_word(draw)}."
    return f'{clause[0].upper()}{clause[1:]} {draw.choice(ADVERBS)}: "{_word(draw)}!"'


def _word(draw: random.Random) -> str:
    words = _words()
    return words[int(len(words) * draw.random() ** 2)]  # some far more often than others


@cache
def _words() -> list[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(WORLD.glob("*.json")))
    words = sorted(set(re.findall(r"[a-z]{3,}", text)))
    random.Random(0).shuffle(words)
    return words


def _name(draw: random.Random) -> str:
    return "".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))).capitalize()


def main() -> None:
    """Write the rows to the standard output, one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("num", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for row in make_rows(options.num, options.seed):
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
