"""Judge published outputs of a large base model and of the instruct model that was made of it.

    python benchmarks/published.py FOLDER              both models, the first 500 characters of each
    python benchmarks/published.py FOLDER --cut 1000   more of each

FOLDER holds your own copies of two files of the repository yizhongw/self-instruct, folder
human_eval/predictions: davinci_predictions.jsonl and text-davinci-001_predictions.jsonl, each with
the answers to the same 252 prompts, a JSON object a line ("prompt", "response" and others).

Prints JSON: how often each model did what ("goes_on" is mimicry or run-on), with 95 % Wilson
intervals, and how many times as often the base did it, with bounds by its share of both.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biddable.evaluation.behaviour import Behaviour, judge
from biddable.evaluation.statistics import rate

NAMES = {"base": "davinci", "instruct": "text-davinci-001"}
FILES = {side: f"{name}_predictions.jsonl" for side, name in NAMES.items()}
READ: Mapping[str, Callable[[Behaviour], bool]] = {
    "mimicry": lambda found: found.mimicry,
    "run_on": lambda found: found.run_on,
    "goes_on": lambda found: found.mimicry or found.run_on,
    "repetition": lambda found: found.repetition,
    "empty": lambda found: found.is_empty,
    "refusal": lambda found: found.refusal != "none",
}


class WrongFileError(ValueError):
    """Say what is wrong with which file."""


def load(path: Path) -> list[tuple[str, str]]:
    """Read the prompts and responses of a file.

    Raises:
        WrongFileError: it is not there, or a line of it is of another form.
    """
    if not path.is_file():
        raise WrongFileError(
            f"{path} is not there; the folder must hold {', '.join(FILES.values())}"
        )
    pairs = []
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            pairs.append((str(row["prompt"]), str(row["response"])))
        except (ValueError, TypeError, KeyError) as error:
            raise WrongFileError(
                f'{path}, line {n}: not an object with "prompt" and "response"'
            ) from error
    return pairs


def measure(folder: Path, cut: int) -> dict[str, Any]:
    """Judge both files.

    Args:
        folder: that holds them.
        cut: how many characters of each response are read.

    Raises:
        WrongFileError: one is missing or of another form, or their prompts differ.
    """
    rows = {side: load(folder / name) for side, name in FILES.items()}
    base, instruct = rows["base"], rows["instruct"]
    if [prompt for prompt, _ in base] != [prompt for prompt, _ in instruct]:
        raise WrongFileError(f"the two files of {folder} are not of the same prompts")
    of_base, of_instruct = count(base, cut), count(instruct, cut)
    return {
        "cut": cut,
        "num_prompts": len(base),
        "base": {name: rate(n, len(base)) for name, n in of_base.items()},
        "instruct": {name: rate(n, len(base)) for name, n in of_instruct.items()},
        "base_to_instruct": {name: compare(of_base[name], of_instruct[name]) for name in READ},
    }


def count(pairs: Sequence[tuple[str, str]], cut: int) -> dict[str, int]:
    """Count the responses that did each thing."""
    found = [judge(prompt, response[:cut]) for prompt, response in pairs]
    return {name: sum(map(read, found)) for name, read in READ.items()}


def compare(base: int, instruct: int) -> dict[str, Any] | None:
    """Tell how many times as often one of two did a thing; None is without bound."""
    share = rate(base, base + instruct)
    if share is None:
        return None
    bounds = [share["rate"], *share["ci95"]]
    ratio, low, high = (one / (1 - one) if one < 1 - 1e-9 else None for one in bounds)
    return {"ratio": ratio, "ci95": [low, high]}


def main() -> None:
    """Print the figures of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cut", type=int, default=500, help="characters of each response")
    options = parser.parse_args()
    try:
        print(json.dumps(measure(options.folder, options.cut), indent=1))
    except WrongFileError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
