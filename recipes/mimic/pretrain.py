"""Pretrain mimic from scratch: corpus, tokenizer, model, probes. Seeded, and resumable at the last checkpoint.

    python recipes/mimic/pretrain.py --work /tmp/mimic            # at most 100 minutes of 2 cores
    python recipes/mimic/pretrain.py --work /tmp/mimic --export src/biddable/assets/mimic

A step sees ``BATCH`` rows of ``LENGTH`` tokens, documents laid end to end. There are two stretches, each with documents of its
own: in the first the base learns its world, in the second to carry a name from one sentence into the next. In each the rate
warms up, stays, and falls over the last part.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bpe import END, train_tokenizer
from card import card
from documents import corpus
from muon import Muon
from probes import probe
from safetensors.torch import load_file, save_file
from titled import late_corpus
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import World, load_world

SEED = 1
VOCABULARY = 4096
LENGTH, BATCH = 512, 8
MUON_RATE, ADAM_RATE = 0.015, 0.003


@dataclass(frozen=True)
class Stretch:
    """A part of the run: what it reads, for how many steps, and how the rate goes.

    ``peak`` and ``end`` are shares of the full rate and of the peak; the fall takes ``fall_share`` of the steps.
    """

    name: str
    corpus: Callable[[World, int, int], Iterator[str]]
    seed: int
    num_documents: int
    num_steps: int
    warmup: int
    peak: float
    fall_share: float
    end: float = 0.0

    def rate_factor(self, step: int) -> float:
        """Warm up, stay, fall."""
        left = (self.num_steps - step) / (self.fall_share * self.num_steps)
        return self.peak * min(1.0, (step + 1) / self.warmup, self.end + (1 - self.end) * left)


STRETCHES = (
    Stretch("corpus", corpus, SEED, 180_000, 3400, warmup=100, peak=1.0, fall_share=0.41),
    Stretch(
        "late", late_corpus, SEED + 1, 40_000, 1200, warmup=50, peak=0.6, fall_share=1.0, end=1 / 13
    ),
)
NUM_STEPS = sum(stretch.num_steps for stretch in STRETCHES)


def model_config(layers: int, width: int, inner: int) -> LlamaConfig:
    """Describe the architecture: Llama, tied head, widths that are multiples of 64."""
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=1024,
        rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, initializer_range=0.02,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def prepare(work: Path, world: World) -> tuple[PreTrainedTokenizerFast, list[np.ndarray]]:
    """Write the documents of each stretch as ids, once; later calls read what is there."""
    if not (work / "tokenizer").exists():
        train_tokenizer(corpus(world, SEED, 30_000), VOCABULARY).save_pretrained(work / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    for stretch in STRETCHES:
        if not (work / f"{stretch.name}.npy").exists():
            documents = stretch.corpus(world, stretch.seed, stretch.num_documents)
            rows = tokenizer._tokenizer.encode_batch([END + text for text in documents])
            np.save(
                work / "part.npy",
                np.concatenate([np.asarray(row.ids, dtype=np.uint16) for row in rows]),
            )
            os.replace(work / "part.npy", work / f"{stretch.name}.npy")
    return tokenizer, [np.load(work / f"{s.name}.npy", mmap_mode="r") for s in STRETCHES]


def place(step: int) -> tuple[int, int]:
    """Tell which stretch a step of the run lies in, and its number there."""
    for number, stretch in enumerate(STRETCHES):
        if step < stretch.num_steps:
            return number, step
        step -= stretch.num_steps
    raise ValueError(f"a run has {NUM_STEPS} steps")


def batch_at(ids: np.ndarray, step: int) -> torch.Tensor:
    """Return the rows of a step (BATCH, LENGTH); the ids are read through once, then again from their start."""
    per_step = BATCH * LENGTH
    start = (step * per_step) % (len(ids) - per_step)
    return torch.from_numpy(ids[start : start + per_step].astype(np.int64)).view(BATCH, LENGTH)


def loss_of(model: LlamaForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of the rows (nats)."""
    logits = model(rows, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())


class Run:
    """A pretraining run: model, optimizers, and where it stands."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(SEED)
        self.args, self.work = args, Path(args.work)
        self.work.mkdir(parents=True, exist_ok=True)
        self.world = load_world()
        self.tokenizer, self.ids = prepare(self.work, self.world)
        self.model = LlamaForCausalLM(model_config(args.layers, args.width, args.inner))
        hidden = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        other = [p for n, p in self.model.named_parameters() if p.ndim < 2 or "embed" in n]
        self.optimizers = [
            Muon(hidden, lr=args.muon_rate, weight_decay=0.01),
            torch.optim.AdamW(
                other, lr=args.adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
            ),
        ]
        self.rates = [args.muon_rate, args.adam_rate]
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0
        self.log: list[dict[str, Any]] = []
        self._resume()

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        for k, optimizer in enumerate(self.optimizers):
            for i, p in enumerate(optimizer.param_groups[0]["params"]):
                tensors |= {f"optimizer.{k}.{i}.{n}": v for n, v in optimizer.state[p].items()}
        return tensors

    def save(self) -> None:
        """Write a checkpoint aside and rename it (weights, optimizer, position, log)."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "log": self.log,
        }
        save_file(self._tensors(), self.work / "part.safetensors", {"state": json.dumps(state)})
        os.replace(self.work / "part.safetensors", self.work / "checkpoint.safetensors")

    def _resume(self) -> None:
        path = self.work / "checkpoint.safetensors"
        if not path.exists():
            return
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
        tensors = load_file(path)
        for n, p in self.model.named_parameters():
            p.data.copy_(tensors[f"model.{n}"])
        for name, tensor in tensors.items():
            kind, *rest = name.split(".")
            if kind == "optimizer":
                optimizer = self.optimizers[int(rest[0])]
                optimizer.state[optimizer.param_groups[0]["params"][int(rest[1])]][rest[2]] = tensor
        self.step, self.log = state["step"], state["log"]
        self.seconds, self.cpu_seconds = state["seconds"], state["cpu_seconds"]

    def train(self, stop_at: int) -> None:
        """Train up to a step, probing and saving on the way."""
        num_parameters = sum(p.numel() for p in self.model.parameters())
        num_tokens = sum(len(ids) for ids in self.ids)
        _say(f"{num_parameters:,} parameters; {num_tokens:,} tokens of corpus; {NUM_STEPS} steps")
        step_loss = torch.compile(loss_of) if self.args.compile else loss_of
        total, since = 0.0, time.perf_counter()
        cpu = time.process_time()
        while self.step < stop_at:
            number, step = place(self.step)
            factor = STRETCHES[number].rate_factor(step)
            loss = step_loss(self.model, batch_at(self.ids[number], step))
            loss.backward()
            if not math.isfinite(loss.item()):
                raise SystemExit(f"step {self.step}: the loss is {loss.item()}")
            for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * factor
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.step += 1
            total += loss.item()
            if self.step % 50 == 0:
                now, cpu_now = time.perf_counter(), time.process_time()
                self.seconds += now - since
                self.cpu_seconds += cpu_now - cpu
                speed = 50 * BATCH * LENGTH / (now - since)
                self.log.append({"step": self.step, "loss": round(total / 50, 4)})
                _say(
                    f"step {self.step} loss {total / 50:.4f} {speed:.0f} tokens/s cpu {self.cpu_seconds / 60:.1f} min"
                )
                total, since, cpu = 0.0, now, cpu_now
            if self.step % self.args.probe_every == 0 or self.step == stop_at:
                self.log.append(
                    {"step": self.step, "probe": probe(self.model, self.tokenizer, self.world)}
                )
                _say(json.dumps(self.log[-1]))
                self.save()
                since, cpu = time.perf_counter(), time.process_time()


def export(run: Run, folder: Path) -> None:
    """Write an ordinary transformers folder, fp16 on disk, with its card; the probes must not change by it."""
    before = probe(run.model, run.tokenizer, run.world)
    model = run.model.to(torch.float16)
    model.generation_config.update(bos_token_id=0, eos_token_id=0, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)
    after = probe(
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), run.tokenizer, run.world
    )
    _say(json.dumps({"fp32": before, "fp16 on disk": after}))
    num_tokens = run.step * BATCH * LENGTH
    facts = {"num_parameters": sum(p.numel() for p in model.parameters()), "num_tokens": num_tokens}
    facts |= {
        "minutes": run.cpu_seconds / 60 / 2,
        "loss": next(r["loss"] for r in reversed(run.log) if "loss" in r),
    }
    (folder / "README.md").write_text(card(facts, after), "utf-8")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", required=True, help="folder for the corpus and the checkpoints")
    parser.add_argument("--stop-at", type=int, default=NUM_STEPS, help="end here; to be continued")
    parser.add_argument(
        "--export", type=Path, help="write the model at the last checkpoint here, and end"
    )
    parser.add_argument("--probe-every", type=int, default=200)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--inner", type=int, default=640)
    parser.add_argument("--muon-rate", type=float, default=MUON_RATE)
    parser.add_argument("--adam-rate", type=float, default=ADAM_RATE)
    parser.add_argument(
        "--compile", action="store_true", help="compile the step (needs a C++ compiler)"
    )
    args = parser.parse_args()
    run = Run(args)
    if args.export:
        export(run, args.export)
    else:
        run.train(args.stop_at)


if __name__ == "__main__":
    main()
