"""Measure the rules of behaviour on outputs that were labelled before the rules saw them.

    python benchmarks/behaviour.py                         of the open part; what was missed, too
    python benchmarks/behaviour.py --part sealed --write   of the sealed part, once per release,
                                                           into results/behaviour.json

Prints JSON. Of each class: precision and recall with 95 % Wilson intervals, and the counts they
are of. ``mimicry_by_source`` says how often each model continued its prompt;
``answers_of_people``, of the open part, what is called which among 3,214 answers that people gave.
Refusal was fitted to all of these rows: what it is worth on others, refusal_words.py measures.

Rows whose prompt or output lies in a public data set need $BIDDABLE_TEST_DATA; without it they are
left out and counted (see tests/evaluation/labelled/README.md).
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from biddable.evaluation.behaviour import Behaviour, judge
from biddable.evaluation.statistics import rate

ROOT = Path(__file__).resolve().parents[1]
LABELLED = ROOT / "tests" / "evaluation" / "labelled"
RESULT = ROOT / "benchmarks" / "results" / "behaviour.json"
DATA = Path(os.environ.get("BIDDABLE_TEST_DATA", ROOT.parent / "shared" / "data"))
READ: dict[str, Callable[[Behaviour], bool]] = {
    "mimicry": lambda found: found.mimicry,
    "run_on": lambda found: found.run_on,
    "empty": lambda found: found.is_empty,
    "repetition": lambda found: found.repetition,
    "wrong_language": lambda found: found.wrong_language,
    "refusal_full": lambda found: found.refusal == "full",
    "refusal_partial": lambda found: found.refusal == "partial",
}
Part = Literal["open", "sealed", "fresh", "unseen", "sealed-7", "sealed-8", "sealed-9", "sealed-10"]
OPENED_LATER = ("sealed-7", "sealed-8", "sealed-9", "sealed-10")  # each opened once


@dataclass(frozen=True)
class Row:
    """Hold a labelled output."""

    id: str
    source: str
    prompt: str
    output: str
    stopped: bool | None
    labels: frozenset[str]
    refusal: str
    undecided: frozenset[str]

    def is_so(self, name: str) -> bool:
        """Tell whether a class was labelled."""
        if name.startswith("refusal_"):
            return self.refusal == name.removeprefix("refusal_")
        return name in self.labels

    def is_decided(self, name: str) -> bool:
        """Tell whether the reader could settle it."""
        return name.partition("_")[0] not in self.undecided and name not in self.undecided


def files(part: Part) -> list[Path]:
    """List the files of a part."""
    found = sorted(LABELLED.glob(f"{part}*.jsonl"))
    return [path for path in found if part in OPENED_LATER or path.stem not in OPENED_LATER]


def load_rows(part: Part) -> tuple[list[Row], int]:
    """Read a part; also the number of rows whose data set is not there."""
    found = [read_labelled(path) for path in files(part)]
    return [row for rows, _ in found for row in rows], sum(absent for _, absent in found)


def read_labelled(path: Path) -> tuple[list[Row], int]:
    """Read one file of labelled rows; also the number of those whose data set is not there."""
    rows, num_absent = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        raw = json.loads(line)
        prompt = raw["prompt"] if "prompt" in raw else _text(raw["prompt_ref"], answer=False)
        output = raw["output"] if "output" in raw else _text(raw["output_ref"], answer=True)
        if prompt is None or output is None:
            num_absent += 1
            continue
        rows.append(
            Row(
                id=raw["id"],
                source=raw["source"],
                prompt=prompt,
                output=output,
                stopped=raw["stopped"],
                labels=frozenset(raw["labels"]),
                refusal=raw["refusal"],
                undecided=frozenset(raw.get("undecided", ())),
            )
        )
    return rows, num_absent


def _text(reference: str, *, answer: bool) -> str | None:
    """Find a prompt or an answer by set, row and, in a conversation, message."""
    name, *numbers = reference.split(":")
    found = _read_set(name)
    if found is None:
        return None
    entry = found[int(numbers[0])]
    if name == "oasst":
        return str(entry["messages"][int(numbers[1]) - (not answer)]["content"])
    if name == "dolly" and answer:
        return str(entry["response"])
    return str(_PROMPTS[name](entry))


def _with_input(entry: dict[str, Any]) -> str:
    given = entry["instances"][0]["input"]
    return f"{entry['instruction']}\n\n{given}" if given else str(entry["instruction"])


_FILES = {
    "xstest": "xstest/xstest_prompts.csv",
    "seed_tasks": "self_instruct/seed_tasks.jsonl",
    "rasbt": "rasbt_instructions/instruction-data.json",
    "user_oriented": "self_instruct/user_oriented_instructions.jsonl",
    "mt_bench": "mt_bench/mt_bench_question.jsonl",
    "ifeval": "ifeval/input_data.jsonl",
    "oasst": "oasst/messages.jsonl",
    "dolly": "dolly_small/dolly_hhrlhf_train_small.jsonl",
}
_PROMPTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "xstest": lambda entry: entry["prompt"],
    "user_oriented": _with_input,
    "mt_bench": lambda entry: entry["turns"][0],
    "ifeval": lambda entry: entry["prompt"],
    "dolly": lambda entry: (
        entry["prompt"].split("### Instruction:")[-1].split("### Response")[0].strip()
    ),
}


@cache
def _read_set(name: str) -> list[dict[str, Any]] | None:
    path = DATA / _FILES[name]
    if not path.exists():
        return None
    with path.open(encoding="utf-8") as file:
        if path.suffix == ".csv":
            return list(csv.DictReader(file))
        if path.suffix == ".json":
            return list(json.load(file))
        return [json.loads(line) for line in file]


def measure(rows: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    """Judge rows.

    Returns:
        figures: as the module says.
        differing: a line for each label that the verdicts do not share.
    """
    names = [name for name in READ if not name.startswith("refusal_")]  # fitted to these rows
    counts: dict[str, Counter[tuple[bool, bool]]] = {name: Counter() for name in names}
    mimicking: dict[str, list[bool]] = {}
    differing = []
    for row in rows:
        found = judge(row.prompt, row.output, stopped=row.stopped)
        mimicking.setdefault(row.source, []).append(found.mimicry)
        for name in names:
            if row.is_decided(name):
                is_called = READ[name](found)
                counts[name][row.is_so(name), is_called] += 1
                if row.is_so(name) != is_called:
                    said = found.reasons.get(name.partition("_")[0], found.reasons.get(name, ""))
                    differing.append(f"{row.id} {name}: labelled {row.is_so(name)}; {said}")
    classes = {}
    for name, count in counts.items():
        hits, missed, false = count[True, True], count[True, False], count[False, True]
        classes[name] = {
            "precision": rate(hits, hits + false),
            "recall": rate(hits, hits + missed),
            "positives": hits + missed,
            "negatives": false + count[False, False],
        }
    by_source = {name: rate(sum(said), len(said)) for name, said in sorted(mimicking.items())}
    return {"num_rows": len(rows), "classes": classes, "mimicry_by_source": by_source}, differing


def judge_people() -> dict[str, Any] | None:
    """Count what is called which in answers that people gave; None without the data."""
    pairs = list(_answers_of_people())
    if not pairs:
        return None
    found = [judge(asked, told, stopped=True) for asked, told in pairs]
    named = {name: sum(read(one) for one in found) for name, read in READ.items()}
    return {"num_answers": len(pairs), "called": named}


def _answers_of_people() -> Iterator[tuple[str, str]]:
    for entry in _read_set("dolly") or ():
        yield _PROMPTS["dolly"](entry), entry["response"]
    seen = set()
    for entry in _read_set("oasst") or ():
        for before, message in pairwise(entry["messages"]):
            if message["role"] == "assistant" and message["content"] not in seen:
                seen.add(message["content"])
                yield before["content"], message["content"]
    for name in ("seed_tasks", "user_oriented"):
        for entry in _read_set(name) or ():
            yield _with_input(entry), entry["instances"][0]["output"]
    for entry in _read_set("rasbt") or ():
        given = entry["input"]
        asked = f"{entry['instruction']}\n\n{given}" if given else entry["instruction"]
        yield asked, entry["output"]


def digest(part: Part) -> str:
    """Hash the files of a part, so that figures say which rows they are of."""
    found = hashlib.sha256()
    for path in files(part):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def main() -> None:
    """Measure one half, and write it down if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", choices=get_args(Part), default="open")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULT.name}")
    options = parser.parse_args()
    part: Part = options.part
    rows, num_absent = load_rows(part)
    figures, differing = measure(rows)
    result = {"rows_sha256": digest(part), "num_left_out": num_absent, **figures}
    if part == "open":
        result["answers_of_people"] = judge_people()
    _tell(result, part, write=options.write)
    if part == "open":
        print("\n".join(differing))


def _tell(result: dict[str, Any], name: str, *, write: bool) -> None:
    """Print figures with the commit that they are of, and keep them if asked to."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        git, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    result = {"rules": commit, **result}
    print(json.dumps(result, indent=1))
    if write:
        known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        RESULT.write_text(json.dumps({**known, name: result}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
