"""Draw the documentation's pictures from what the code really does, as SVG for light and dark.

python scripts/pictures.py                mask, tree and intervals, into docs/pictures
python scripts/pictures.py --run runs/demo    the README's base and instruct, from a comparison
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from biddable.data.conversation import Conversation, Message
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example, encode
from biddable.data.preview import pieces
from biddable.data.templates import get_template
from biddable.data.trees import sort_rows, walk
from biddable.evaluation.statistics import mcnemar, wilson
from biddable.models.loading import load_tokenizer

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
ROW = ("What is the capital of France?", "The capital of France is Paris.")
SHORT_ROWS = (
    ("What is the capital of France?", "Paris."),
    ("What is the capital of Japan?", "Tokyo."),
    ("What is the opposite of hot?", "cold"),
)
ASKED = (
    "What is the capital of France?",
    "What is 2+2?",
    "Translate 'hello' to Spanish",
    "Write a haiku about AI",
)
SHOWN_RATES = (10, 30, 100, 300, 1000)
_CHAR = 7.8  # of a sign of 13 pixels; every text is fitted to it, whatever font the reader has
_LINE = 18
# A background of its own keeps a picture readable where a page is switched by hand.
_STYLE = """
:root { --page:#ffffff; --edge:#d0d7de; --ink:#1f2328; --dim:#59636e; --cell:#f3f4f6;
  --learn:#dafbe1; --learned:#1a7f37; --bad:#ffebe9; --wrong:#cf222e; --line:#8c959f }
@media (prefers-color-scheme: dark) { :root { --page:#161b22; --edge:#3d444d; --ink:#e6edf3;
  --dim:#9ea7b3; --cell:#21262d; --learn:#12361f; --learned:#56d364; --bad:#3c1618;
  --wrong:#ff8b84; --line:#6e7681 } }
text { fill:var(--ink); font:13px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;
  white-space:pre }
.page { fill:var(--page); stroke:var(--edge) } .dim { fill:var(--dim) }
.head { font-weight:bold } .good { fill:var(--learned) } .wrong { fill:var(--wrong) }
.cell { fill:var(--cell); stroke:var(--edge) } .learn { fill:var(--learn); stroke:var(--learned) }
.bad { fill:var(--bad); stroke:var(--wrong) } .pad { fill:none; stroke:var(--edge);
  stroke-dasharray:3 3 } .line { stroke:var(--line); fill:none; stroke-width:1.5 }
.bar { stroke:var(--learned); stroke-width:3 } .dot { fill:var(--learned) }
"""


class Canvas:
    """Collect the marks of one picture; sizes are pixels."""

    def __init__(self, width: float, title: str) -> None:
        """Start with nothing on it; the height follows from what is drawn."""
        self.width, self.title, self.bottom = width, title, 0.0
        self.marks: list[str] = []

    def text(self, x: float, y: float, words: str, *, kind: str = "", bold: bool = False) -> None:
        """Write one line whose width does not depend on the reader's font."""
        names = " ".join(filter(None, (kind, "head" if bold else "")))
        self.marks.append(
            f'<text x="{x:.0f}" y="{y:.0f}" class="{names}" lengthAdjust="spacingAndGlyphs"'
            f' textLength="{max(len(words), 1) * _CHAR:.0f}">{escape(words)}</text>'
        )
        self.bottom = max(self.bottom, y)

    def box(self, x: float, y: float, size: tuple[float, float], *, kind: str) -> None:
        """Draw a rectangle."""
        self.marks.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{size[0]:.0f}" height="{size[1]:.0f}"'
            f' rx="4" class="{kind}"/>'
        )
        self.bottom = max(self.bottom, y + size[1])

    def path(self, points: Iterable[tuple[float, float]], *, kind: str = "line") -> None:
        """Draw straight lines from point to point."""
        joined = "L".join(f"{x:.0f} {y:.0f}" for x, y in points)
        self.marks.append(f'<path d="M{joined}" class="{kind}"/>')

    def svg(self) -> str:
        """Give the whole file."""
        height = self.bottom + 20
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {height:.0f}"'
            f' role="img" aria-label="{escape(self.title)}">\n<title>{escape(self.title)}</title>\n'
            f"<style>{_STYLE}</style>\n"
            f'<rect x="0.5" y="0.5" width="{self.width - 1:.0f}" height="{height - 1:.0f}" rx="10"'
            ' class="page"/>\n' + "\n".join(self.marks) + "\n</svg>\n"
        )


def mask_picture() -> str:
    """Show one row token by token: its ids, and the labels that the loss sees."""
    tokenizer = load_tokenizer("mimic")
    (example,) = _examples([ROW], tokenizer)
    canvas = Canvas(860, "A row as tokens: prompt seen, answer and stop token learned")
    x, y = 96.0, 24.0
    _row_names(canvas, y)
    for piece in pieces(example, tokenizer):
        shown = _visible(piece.text)
        label = ",".join(map(str, piece.ids))
        width = max(len(shown), len(label), 4) * _CHAR + 12
        if x + width > canvas.width - 20:
            x, y = 96.0, y + 92
            _row_names(canvas, y)
        canvas.box(x, y, (width, 26), kind="learn" if piece.learned else "cell")
        canvas.text(x + 6, y + 18, shown)
        canvas.text(x + 6, y + 44, label, kind="dim")
        canvas.text(
            x + 6,
            y + 64,
            label if piece.learned else "-100",
            kind="good" if piece.learned else "dim",
        )
        x += width + 4
    learned, all_of_it = sum(example.loss_mask), len(example.input_ids)
    canvas.text(
        20,
        y + 100,
        f"{learned} of {all_of_it} tokens are learned: the answer, and the stop token after it.",
    )
    return canvas.svg()


def _row_names(canvas: Canvas, y: float) -> None:
    for offset, name in ((18, "token"), (44, "input id"), (64, "label")):
        canvas.text(20, y + offset, name, kind="dim")


def tree_picture() -> str:
    """Show rows as a padded batch runs them, and as the tree of their common starts."""
    tokenizer = load_tokenizer("mimic")
    examples = _examples(SHORT_ROWS, tokenizer)
    rows = EncodedRows.of(examples)
    ordered = sort_rows(rows, range(len(examples)))
    cells = [
        [
            ("■" if p.special else _visible(p.text), p.learned)
            for p in pieces(examples[n], tokenizer)
        ]
        for n in ordered
    ]
    longest = max(map(len, cells))
    widths = [
        max(len(row[depth][0]) for row in cells if depth < len(row)) * 7 + 8
        for depth in range(longest)
    ]
    lefts = [20 + sum(widths[:depth]) + 3 * depth for depth in range(longest)]
    canvas = Canvas(lefts[-1] + widths[-1] + 20, "A padded batch, and the same rows as a tree")
    size = len(cells) * longest
    canvas.text(20, 30, f"padded: {len(cells)} rows of {longest}, {size} positions", bold=True)
    for number, row in enumerate(cells):
        _draw_row(canvas, row, 44 + 30 * number, (lefts, widths), first=0)
    top = 44 + 30 * len(cells) + 34
    branches = list(walk(rows, ordered))
    num_nodes = branches[-1].end
    canvas.text(20, top, f"as a tree: {num_nodes} tokens, each once, no padding", bold=True)
    for number, (row, branch) in enumerate(zip(cells, branches, strict=True)):
        first = len(row) - (branch.end - branch.start)
        y = top + 14 + 30 * number
        if first:
            from_row = _owner(branches, int(branch.path[first - 1]))
            x = lefts[first] - 2
            canvas.path([(x, top + 14 + 30 * from_row + 24), (x, y + 12), (x + 2, y + 12)])
        _draw_row(canvas, row, y, (lefts, widths), first=first, pad=False)
    note = f"■ is {tokenizer.eos_token}; green: learned, each as often as rows learn it"
    canvas.text(20, top + 30 * len(cells) + 34, note, kind="dim")
    return canvas.svg()


def _owner(branches: Sequence[Any], node: int) -> int:
    return next(n for n, branch in enumerate(branches) if branch.start <= node < branch.end)


def _draw_row(
    canvas: Canvas,
    row: Sequence[tuple[str, bool]],
    y: float,
    columns: tuple[list[float], list[float]],
    *,
    first: int,
    pad: bool = True,
) -> None:
    for depth, (left, width) in enumerate(zip(*columns, strict=True)):
        if depth >= len(row):
            if pad:
                canvas.box(left, y, (width, 24), kind="pad")
        elif depth >= first:
            text, learned = row[depth]
            canvas.box(left, y, (width, 24), kind="learn" if learned else "cell")
            canvas.marks.append(
                f'<text x="{left + 4:.0f}" y="{y + 16:.0f}" style="font-size:11.5px"'
                f' lengthAdjust="spacingAndGlyphs" textLength="{len(text) * 7:.0f}">'
                f"{escape(text)}</text>"
            )


def intervals_picture() -> str:
    """Show how wide a rate's interval is, and what pairing adds."""
    canvas = Canvas(760, "Intervals of one rate at several numbers of items; a paired comparison")
    left, span = 230.0, 460.0
    canvas.text(20, 32, "90 % right: where the true rate may lie (95 %)", bold=True)
    for step in range(0, 11, 2):
        x = left + span * step / 10
        canvas.path([(x, 46), (x, 58 + 30 * len(SHOWN_RATES))], kind="pad")
        canvas.text(x - 16, 74 + 30 * len(SHOWN_RATES), f"{10 * step:3} %", kind="dim")
    for number, n in enumerate(SHOWN_RATES):
        y = 66 + 30 * number
        low, high = wilson(round(0.9 * n), n)
        canvas.text(20, y + 4, f"{n:5} items")
        canvas.text(124, y + 4, f"{100 * low:.0f}–{100 * high:.0f} %", kind="dim")
        canvas.path([(left + span * low, y), (left + span * high, y)], kind="bar")
        canvas.marks.append(f'<circle cx="{left + span * 0.9:.0f}" cy="{y}" r="4" class="dot"/>')
    top = 110 + 30 * len(SHOWN_RATES)
    _paired(canvas, top, counts=(62, 14, 3, 21))
    return canvas.svg()


def _paired(canvas: Canvas, top: float, *, counts: tuple[int, int, int, int]) -> None:
    both, fixed, broken, neither = counts
    n = sum(counts)
    canvas.text(20, top, f"The same {n} items, before and after", bold=True)
    x, scale = 20.0, 7.2
    for share, words, kind in (
        (both, f"both right {both}", "cell"),
        (fixed, f"fixed {fixed}", "learn"),
        (broken, f"{broken}", "bad"),
        (neither, f"neither {neither}", "cell"),
    ):
        canvas.box(x, top + 14, (share * scale, 30), kind=kind)
        canvas.text(x + 5, top + 34, words)
        x += share * scale
    before, after = wilson(both + broken, n), wilson(both + fixed, n)
    canvas.text(
        20,
        top + 68,
        f"before {both + broken} % ({_span(before)}), after {both + fixed} % ({_span(after)}):"
        " the two intervals overlap.",
    )
    canvas.text(
        20,
        top + 88,
        f"But of the {fixed + broken} items that changed, {fixed} were fixed and {broken} broken:"
        f" p = {mcnemar(fixed, broken):.3f} (McNemar, exact).",
    )


def base_and_instruct_picture(folder: Path) -> str:
    """Show what a base and what was made of it said to the same prompts, and the rates.

    Args:
        folder: holds comparison.json and samples.jsonl.
    """
    found = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    by_prompt = {row["instruction"]: row for row in map(json.loads, lines)}
    canvas = Canvas(860, "The same prompts to a base model and to the assistant made of it")
    columns = ((20.0, "asked"), (230.0, "the base goes on"), (560.0, "the assistant answers"))
    for x, name in columns:
        canvas.text(x, 32, name, kind="dim")
    y = 46.0
    for prompt in ASKED:
        y = _asked(canvas, by_prompt[prompt], y)
    before, after = (found[side]["instruction_following"] for side in ("base", "instruct"))
    canvas.text(
        20,
        y + 24,
        f"Does what it is asked: {_percent(before)} → {_percent(after)}"
        f" of {after['n']} items it was never taught",
        bold=True,
    )
    canvas.text(20, y + 44, "95 % intervals; greedy answers; biddable demo", kind="dim")
    return canvas.svg()


def _asked(canvas: Canvas, row: Mapping[str, Any], y: float) -> float:
    base, instruct = row["base"], row["instruct"]
    texts = (
        (20.0, _lines(row["instruction"], 25)),
        (230.0, _lines(base["output"], 38)),
        (560.0, _lines(instruct["output"], 34)),
    )
    height = max(len(lines) for _, lines in texts) * _LINE + 14
    canvas.box(222, y, (322, height), kind="bad")
    canvas.box(552, y, (288, height), kind="learn")
    for x, lines in texts:
        for number, line in enumerate(lines):
            canvas.text(x, y + 20 + _LINE * number, line)
    return y + height + 8


def _lines(text: str, width: int, limit: int = 4) -> list[str]:
    """Wrap a text; what is over the limit shows as a last `...`."""
    wrapped = [line for part in text.strip().splitlines() for line in textwrap.wrap(part, width)]
    if len(wrapped) > limit:
        wrapped = [*wrapped[: limit - 1], "..."]
    return wrapped


def _examples(pairs: Iterable[tuple[str, str]], tokenizer: Any) -> list[Example]:
    template = get_template("inst", tokenizer)
    return [
        encode(
            Conversation((Message("user", question), Message("assistant", answer))),
            template,
            tokenizer,
        )
        for question, answer in pairs
    ]


def _visible(text: str) -> str:
    return text.replace(" ", "·").replace("\n", "↵")


def _percent(rate: Mapping[str, Any]) -> str:
    return f"{100 * rate['rate']:.1f} % ({_span(rate['ci95'], '.1f')})"


def _span(bounds: Sequence[float], form: str = ".0f") -> str:
    return "–".join(format(100 * bound, form) for bound in bounds)


PICTURES_DRAWN = {
    "mask.svg": mask_picture,
    "tree.svg": tree_picture,
    "intervals.svg": intervals_picture,
}


def main(arguments: Sequence[str]) -> int:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="folder with comparison.json and samples.jsonl")
    parser.add_argument("--out", type=Path, default=PICTURES)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    drawn = {name: draw() for name, draw in PICTURES_DRAWN.items()}
    if given.run:
        drawn = {"base-and-instruct.svg": base_and_instruct_picture(given.run)}
    for name, text in drawn.items():
        (given.out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
