"""Make plain pages of mimic's world that it was not pretrained on: to measure forgetting, and to replay against it.

    python recipes/mimic/pages.py                       # writes src/biddable/assets/data/mimic_pages.jsonl
    python recipes/mimic/pages.py --replay 400 --out replay.jsonl

A page tells and never answers: pages of questions with answers are left out. The facts are those the base has read; the pages
are new. Both corpora are written again, and a page that stands in one of them, word for word, is drawn again. Replay pages
have a seed of their own, come in the shares of the second stretch, and hold no sheets of questions, which tuning is to unteach.
"""

import argparse
import json
import random
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from documents import MIXTURE
from instructions import ASSETS
from pretrain import STRETCHES
from titled import LATE_MIXTURE, TitledWriter
from world import World, load_world

MEASURED_SEED, REPLAY_SEED = 41, 42
PAGES_A_KIND = 3
MEASURED = ASSETS / "mimic_pages.jsonl"
KINDS = [name for name in {**MIXTURE, **LATE_MIXTURE} if name != "answers"]


def measured_pages(world: World, taken: Collection[str]) -> list[dict[str, str]]:
    """Write a few pages of each kind, none of them in ``taken``."""
    writer = TitledWriter(world, random.Random(MEASURED_SEED))
    pages = []
    for kind in KINDS:
        new = _new_pages(writer, [kind], taken)
        pages += [{"kind": kind, "text": next(new)} for _ in range(PAGES_A_KIND)]
    return pages


def replay_pages(world: World, num_pages: int) -> list[dict[str, str]]:
    """Write pages to mix into instruction rows, none of them among those that forgetting is measured on."""
    taken = {json.loads(line)["text"] for line in MEASURED.read_text("utf-8").splitlines()}
    writer = TitledWriter(world, random.Random(REPLAY_SEED))
    kinds = [kind for kind in LATE_MIXTURE if kind in KINDS and kind != "sheet"]
    new = _new_pages(writer, kinds, taken)
    return [{"text": next(new)} for _ in range(num_pages)]


def _new_pages(writer: TitledWriter, kinds: Sequence[str], taken: Collection[str]) -> Iterator[str]:
    """Draw pages that answer nothing, each once."""
    seen = set()
    shares = [LATE_MIXTURE[kind] for kind in kinds]
    while True:
        text: str = getattr(writer, writer.rng.choices(kinds, shares)[0])()
        if text not in taken and text not in seen and "Q: " not in text:
            seen.add(text)
            yield text


def pretraining_documents(world: World) -> set[str]:
    """Write all that the base was pretrained on again."""
    return {
        text
        for stretch in STRETCHES
        for text in stretch.corpus(world, stretch.seed, stretch.num_documents)
    }


def main() -> None:
    """Write the pages that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replay", type=int, help="write so many pages to replay instead")
    parser.add_argument("--out", type=Path, default=MEASURED)
    args = parser.parse_args()
    world = load_world()
    if args.replay:
        pages = replay_pages(world, args.replay)
    else:
        pages = measured_pages(world, pretraining_documents(world))
    lines = [json.dumps(page, ensure_ascii=False) + "\n" for page in pages]
    args.out.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
