"""Time the check of a large file, and count how many planted faults it finds.

    python benchmarks/check.py --rows 52000 --processes 2

The time is that of reading, every look, a held-out file and a benchmark, and counting tokens; where
other work shares the cores (see load_average), processor_seconds over the processes says more.
The rows are recombined from the words below by a seed: about as long as those of public instruction
sets, and nearly all different. Prints JSON: rows, seconds, and of each kind of fault how many lines
were planted, found, and named without having been planted.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _words(listed: str, *, by: str | None = None) -> list[str]:
    return listed.split(by)


NOUNS = _words(
    "harbour kettle lantern orchard violin glacier compass beetle canal tractor notebook bridge"
    " magnet valley engine carpet library falcon candle garden satellite cellar market whistle"
    " quarry balloon ladder meadow turbine piano island furnace locksmith tunnel beacon pigeon"
    " bakery reservoir almanac telescope hedge pendulum barge chimney trellis anchor workshop"
    " lighthouse mill viaduct greenhouse ferry observatory cobbler drawbridge saddle tannery"
)
ADJECTIVES = _words(
    "narrow amber restless hollow northern quiet rusted patient crooked seasonal shallow borrowed"
    " brittle distant humid velvet stubborn weathered nimble copper frozen spacious tilted modest"
    " cheerful coastal dusty elegant faded granite idle jagged lively muddy noble painted rural"
    " silent tidy uneven vacant wooden"
)
VERBS = _words(
    "measures repairs follows carries shelters replaces surrounds records warms divides supports"
    " observes delays reflects gathers borrows outlasts decorates interrupts connects stores"
    " balances empties guards imitates lifts marks protects raises signals turns waters"
)
TAILS = _words(
    "before the first frost|during a long autumn|because the map was wrong|after the evening bell"
    "|whenever the wind turns|as the old charter demands|near the eastern gate|without any hurry"
    "|while the river is low|for the third year running|at the edge of town|despite the noise"
    "|once the paint is dry|under a pale sky|with two spare parts|until the tide comes back",
    by="|",
)
ASKED = _words(
    "Explain how the {} works with the {}.|What does the {} need from the {}?|Describe why a {} is"
    " near the {}.|Compare the {} with the {}.|Which of the {} and the {} came first?|Tell me what"
    " the {} has to do with the {}.|How would you plan a {} beside the {}?",
    by="|",
)
FRENCH = (
    _words(
        "Le moulin du village|La vieille horloge|Le marchand de fruits|Notre voisine|Le chat gris"
        "|Mon petit frère|La rivière|Le jardinier|Une troupe de musiciens|Le boulanger",
        by="|",
    ),
    _words(
        "tourne lentement avec le vent|attend sur la place|traverse la forêt avant midi"
        "|raconte une histoire ancienne|dort derrière la maison|change de couleur"
        "|arrive toujours avant les autres|prépare le repas avec patience|cherche son chapeau",
        by="|",
    ),
    _words(
        "depuis le printemps dernier|sans faire de bruit|quand la pluie tombe|près du vieux pont"
        "|parce que la nuit est claire|chaque dimanche|malgré le froid de janvier|personne ne"
        " sait pourquoi|quand la cloche sonne",
        by="|",
    ),
)
Row = dict[str, Any]
Fault = Callable[[Row, random.Random], None]


@dataclass
class Planted:
    """Hold generated rows, and the lines in which each kind of fault was planted."""

    rows: list[Row]
    lines: dict[str, set[int]] = field(default_factory=dict)
    held_out: list[Row] = field(default_factory=list)
    benchmark: list[Row] = field(default_factory=list)


def _noun(draw: random.Random) -> str:
    return f"{draw.choice(ADJECTIVES)} {draw.choice(NOUNS)}"


def _sentence(draw: random.Random) -> str:
    return f"The {_noun(draw)} {draw.choice(VERBS)} the {_noun(draw)} {draw.choice(TAILS)}."


def _french(draw: random.Random) -> str:
    clauses = (" ".join(draw.choice(part) for part in FRENCH) for _ in range(4))
    return ". ".join(clauses) + "."


def _text(draw: random.Random, num_sentences: int) -> str:
    return " ".join(_sentence(draw) for _ in range(num_sentences))


def _clean_row(draw: random.Random) -> Row:
    row = {"instruction": draw.choice(ASKED).format(_noun(draw), _noun(draw)), "input": ""}
    if draw.random() < 0.4:
        row["input"] = _text(draw, draw.randint(1, 5))
    else:
        row["instruction"] += f" {_sentence(draw)}"
    row["output"] = _text(draw, draw.choice((1, 1, 2, 3, 4, 6, 9)))
    return row


def _insert(what: str, key: str = "output") -> Fault:
    def change(row: Row, draw: random.Random) -> None:
        words = row[key].split(" ")
        at = draw.randint(1, len(words) - 1)
        row[key] = " ".join([*words[:at], what, *words[at:]])

    return change


def _answer(what: Callable[[random.Random], str]) -> Fault:
    def change(row: Row, draw: random.Random) -> None:
        row["output"] = what(draw)

    return change


def _secret(row: Row, draw: random.Random) -> None:
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz"
    value = "".join(draw.choices(signs, k=30)) + "7"
    _insert(draw.choice((f"ghp_{value}", f"api_key = '{value}'", f"AKIA{value[:16].upper()}")))(
        row, draw
    )


def _cut_short(row: Row, draw: random.Random) -> None:
    row["output"] = _text(draw, 4) + f" The {_noun(draw)} stands beside the"


FAULTS: dict[str, Fault] = {
    "empty-text": _answer(lambda draw: draw.choice(("", "   ", "\n\t "))),
    "control-character": _insert("\x07bell"),
    "mojibake": _insert("cafÃ©"),
    "replacement-character": _insert("na\ufffdve"),
    "control-token": _insert("<|im_end|>", "instruction"),
    "secret": _secret,
    "email-address": _insert("miller.ada@postbox.org"),
    "phone-number": _insert("+44 20 7946 0958"),
    "boilerplate": _answer(lambda d: f"As an AI language model, I have no opinion. {_sentence(d)}"),
    "refusal": _answer(lambda d: f"I'm sorry, but I can't help with that. {_sentence(d)}"),
    "other-language": lambda row, draw: row.update(instruction=_french(draw), output=_french(draw)),
    "answer-language": lambda row, draw: row.update(
        instruction=f"Please tell me what you know about it and why it is so. {_sentence(draw)}",
        output=_french(draw),
    ),
    "unfinished-answer": _cut_short,
    "length-outlier": _answer(lambda d: _text(d, 150)),
    "outer-whitespace": lambda row, draw: row.update(output=row["output"] + " \n"),
}
# Of these, one row is a copy of another; the later one is the fault.
COPIES: dict[str, Fault] = {
    "duplicate": lambda row, draw: row.update(output=row["output"].replace(" ", "  ", 1)),
    "near-duplicate": _insert("certainly"),
    "contradicting-answers": _answer(lambda d: f"Only the {_noun(d)}."),
}


def generate(num_rows: int, *, seed: int = 0, each: int = 20) -> Planted:
    """Make rows with faults in known lines.

    Args:
        num_rows: all of them.
        seed: the same gives the same rows.
        each: faults of each kind; lines are counted from 1.
    """
    draw = random.Random(seed)
    rows = [_clean_row(draw) for _ in range(num_rows)]
    free = list(range(num_rows))
    draw.shuffle(free)
    planted = Planted(rows)
    for code, change in FAULTS.items():
        for _ in range(each):
            at = free.pop()
            change(rows[at], draw)
            planted.lines.setdefault(code, set()).add(at + 1)
    for code, change in COPIES.items():
        for _ in range(each):
            first, later = sorted((free.pop(), free.pop()))
            if code == "near-duplicate":
                rows[first]["output"] = _text(draw, 5)
            if code == "contradicting-answers":
                rows[first] |= {"instruction": f"Which one is it? {_sentence(draw)}", "input": ""}
                rows[first]["output"] = "Only the one in the cupboard."
            rows[later] = dict(rows[first])
            change(rows[later], draw)
            planted.lines.setdefault(code, set()).add(later + 1)
    planted.lines["too-long"] = planted.lines["length-outlier"]
    for _ in range(each):
        leaked, near, tested = free.pop(), free.pop(), free.pop()
        rows[near]["input"] = _text(draw, 4)
        held_out = [dict(rows[leaked]), {**rows[near], "input": rows[near]["input"] + " Indeed."}]
        planted.held_out += [*held_out, _clean_row(draw)]
        rows[tested]["input"] = _text(draw, 3)
        planted.benchmark.append({"id": tested, "question": rows[tested]["input"]})
        for code, at in (("leak", leaked), ("near-leak", near), ("benchmark-overlap", tested)):
            planted.lines.setdefault(code, set()).add(at + 1)
    return planted


def compare(problems: list[Any], planted: dict[str, set[int]], path: str) -> dict[str, Any]:
    """Count, by kind, the planted lines, those found, and lines named without a planted fault."""
    named: dict[str, set[int]] = {}
    for problem in problems:
        if problem.path == path:
            named.setdefault(problem.code, set()).add(problem.line or 0)
    named["empty-text"] = named.get("empty-text", set()) | named.pop("bad-text", set())
    return {
        code: {
            "planted": len(planted.get(code, ())),
            "found": len(planted.get(code, set()) & named.get(code, set())),
            "others": len(named.get(code, set()) - planted.get(code, set())),
        }
        for code in sorted(planted.keys() | named.keys())
        if planted.get(code) or named.get(code)
    }


def _write_rows(path: Path, rows: list[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def run(num_rows: int, *, processes: int, seed: int, model: str | None) -> dict[str, Any]:
    """Write the rows, check them, and time it from the reading on."""
    from biddable.data.check import Against, Ruler, check, read_benchmark, read_for_check

    planted = generate(num_rows, seed=seed, each=max(1, min(100, num_rows // 100)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {part: folder / f"{part}.jsonl" for part in ("train", "held_out", "benchmark")}
        _write_rows(files["train"], planted.rows)
        _write_rows(files["held_out"], planted.held_out)
        _write_rows(files["benchmark"], planted.benchmark)
        start, before = time.perf_counter(), os.times()
        ruler = None
        if model:
            from biddable.data.templates import get_template
            from biddable.models.loading import load

            loaded = load(model)
            ruler = Ruler(model, get_template("inst", loaded.tokenizer), loaded.tokenizer, 1024)
        against = Against(
            held_out=read_for_check(files["held_out"]),
            benchmark=read_benchmark(files["benchmark"]),
        )
        rows = read_for_check(files["train"])
        report = check(rows, ruler=ruler, against=against, processes=processes)
        seconds, after = time.perf_counter() - start, os.times()
        found = compare(report.problems, planted.lines, str(files["train"]))
    return {
        "rows": num_rows,
        "seconds": round(seconds, 1),
        "processor_seconds": round(sum(after[:4]) - sum(before[:4]), 1),
        "load_average": round(os.getloadavg()[0], 1),
        "processes": processes,
        "measured_in": report.lengths["measured_in"],
        "median_characters": sorted(len(json.dumps(row)) for row in planted.rows)[num_rows // 2],
        "machine": platform.processor() or platform.machine(),
        "found": found,
    }


def main() -> None:
    """Take the options, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=52_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="mimic", help='whose tokens are counted; "": characters')
    parser.add_argument("--out", help="write the JSON here too")
    given = parser.parse_args()
    result = run(given.rows, processes=given.processes, seed=given.seed, model=given.model or None)
    told = json.dumps(result, indent=2)
    print(told)
    if given.out:
        Path(given.out).write_text(told + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
