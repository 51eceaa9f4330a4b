"""Pretrain mimic from scratch: corpus, tokenizer, model, probes. Seeded, and resumable at the last checkpoint.

    python recipes/mimic/pretrain.py --work /tmp/mimic            # at most 100 minutes of 2 cores
    python recipes/mimic/pretrain.py --work /tmp/mimic --export src/biddable/assets/mimic

A step sees ``BATCH`` rows of ``LENGTH`` tokens, documents laid end to end. The rate warms up, stays, and falls to zero over
the last part (so that a run can be continued from any checkpoint before the fall).
"""

import argparse
import json
import math
import os
import sys
import time
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
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world import load_world

SEED = 1
VOCABULARY = 4096
LENGTH, BATCH = 512, 8
NUM_DOCUMENTS = 180_000
MUON_RATE, ADAM_RATE = 0.015, 0.003
WARMUP_STEPS, FALL_SHARE = 100, 0.41


def model_config(layers: int, width: int, inner: int) -> LlamaConfig:
    """Describe the architecture: Llama, tied head, widths that are multiples of 64."""
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=1024,
        rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, initializer_range=0.02,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip


def prepare(work: Path) -> tuple[PreTrainedTokenizerFast, np.ndarray]:
    """Write the corpus as ids, once; later calls read what is there."""
    ids_path, tokenizer_path = work / "corpus.npy", work / "tokenizer"
    if not ids_path.exists():
        world = load_world()
        tokenizer = train_tokenizer(corpus(world, SEED, 30_000), VOCABULARY)
        documents = list(corpus(world, SEED, NUM_DOCUMENTS))
        rows = tokenizer._tokenizer.encode_batch([END + text for text in documents])
        ids = np.concatenate([np.asarray(row.ids, dtype=np.uint16) for row in rows])
        tokenizer.save_pretrained(tokenizer_path)
        np.save(work / "part.npy", ids)
        os.replace(work / "part.npy", ids_path)
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_path), np.load(ids_path, mmap_mode="r")


def batch_at(ids: np.ndarray, step: int) -> torch.Tensor:
    """Return the rows of a step (BATCH, LENGTH); the corpus is read through once, then again from its start."""
    per_step = BATCH * LENGTH
    start = (step * per_step) % (len(ids) - per_step)
    return torch.from_numpy(ids[start : start + per_step].astype(np.int64)).view(BATCH, LENGTH)


def rate_factor(step: int, num_steps: int) -> float:
    """Warm up, stay, fall to zero."""
    left = (num_steps - step) / (FALL_SHARE * num_steps)
    return min(1.0, (step + 1) / WARMUP_STEPS, max(left, 0.0))


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
        self.tokenizer, self.ids = prepare(self.work)
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

    def train(self, num_steps: int, stop_at: int | None = None) -> None:
        """Train to the last step (or to ``stop_at``), probing and saving on the way."""
        world = load_world()
        num_parameters = sum(p.numel() for p in self.model.parameters())
        _say(
            f"{num_parameters:,} parameters; {len(self.ids):,} tokens of corpus; {num_steps} steps"
        )
        step_loss = torch.compile(loss_of) if self.args.compile else loss_of
        total, since = 0.0, time.perf_counter()
        cpu = time.process_time()
        while self.step < (stop_at or num_steps):
            factor = rate_factor(self.step, num_steps)
            loss = step_loss(self.model, batch_at(self.ids, self.step))
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
            if self.step % self.args.probe_every == 0 or self.step == num_steps:
                self.log.append(
                    {"step": self.step, "probe": probe(self.model, self.tokenizer, world)}
                )
                _say(json.dumps(self.log[-1]))
                self.save()
                since, cpu = time.perf_counter(), time.process_time()


def export(run: Run, folder: Path) -> None:
    """Write an ordinary transformers folder, fp16 on disk, with its card; the probes must not change by it."""
    before = probe(run.model, run.tokenizer, load_world())
    model = run.model.to(torch.float16)
    model.generation_config.update(bos_token_id=0, eos_token_id=0, pad_token_id=0, do_sample=False)
    model.save_pretrained(folder)
    run.tokenizer.save_pretrained(folder)
    after = probe(
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), run.tokenizer, load_world()
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
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--stop-at", type=int, help="stop after this step, to be continued")
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
        run.train(args.steps, args.stop_at)


if __name__ == "__main__":
    main()
