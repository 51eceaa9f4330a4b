"""Export a model as GGUF in every kind: size, loss, greedy answers and speed under llama.cpp.

python benchmarks/export.py [MODEL] [--kinds f32,f16,q8_0,q4_1,q4_0] [--write]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.resources import files
from pathlib import Path

import torch

import biddable
from biddable.models.llama_cpp import LlamaCpp
from biddable.models.loading import LoadedModel, load
from biddable.models.loss import next_token_loss

RESULTS = Path(__file__).parent / "results" / "export.json"
NUM_PAGES, MAX_IDS = 12, 160
PROMPT, NUM_TOKENS = [1, 2, 3, 4] * 16, 64


def pages() -> list[str]:
    """Take the first built-in pages of plain English."""
    (path,) = [p for p in files("biddable").joinpath("assets/data").iterdir() if "_pages" in p.name]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows[:NUM_PAGES]]


@torch.no_grad()
def loss_of(loaded: LoadedModel) -> float:
    """Take the loss on the pages, in nats a token."""
    total = count = 0.0
    for text in pages():
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"][:MAX_IDS]
        batch = torch.tensor([ids])
        loss_sum, num_loss_tokens = next_token_loss(loaded.model(batch).logits, batch)
        total, count = total + float(loss_sum), count + int(num_loss_tokens)
    return total / count


def measure(model: str, kind: str, folder: Path) -> dict[str, object]:
    """Export, read again, and run."""
    found = biddable.export(model, "gguf", out=folder / kind, dtype=kind)
    (path,) = found.folder.glob("*.gguf")
    engine = LlamaCpp(path, context=512)
    asked = {"prompt": PROMPT, "max_tokens": NUM_TOKENS, "temperature": 0.0, "ignore_eos": True}
    timings = engine.complete({**asked, "verbose": True})["__verbose"]["timings"]
    return {
        "kind": kind,
        "mb": round(path.stat().st_size / 1e6, 1),
        "loss": round(loss_of(load(str(path))), 4),
        "same_answers": found.checks["num_same_answers"],
        "num_answers": found.checks["num_probes"],
        "tokens_per_second": round(timings["predicted_per_second"], 1),
    }


def main() -> None:
    """Measure each kind, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--kinds", default="f32,f16,q8_0,q4_1,q4_0")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows: list[dict[str, object]] = [
        {"kind": "itself", "loss": round(loss_of(load(given.model)), 4)}
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.kinds.split(","):
            rows.append(measure(given.model, kind, Path(folder)))
            print(rows[-1], flush=True)
    if given.write:
        RESULTS.write_text(json.dumps({"model": given.model, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
