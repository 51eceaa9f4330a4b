"""Measure how fast rows become ids and masks, beside the tokenizer alone and TRL.

    python benchmarks/data.py            print the figures as JSON
    python benchmarks/data.py --write    and keep them in benchmarks/results/data.json
    python benchmarks/data.py --profile 16384    print where our own time goes

Every turn is a process of its own with empty caches, on two cores. The sides take turns:

- ours: from the file of rows (reading included) to the finished cache entry.
- tokenizer: the tokenizer's own batch encoding of the same rendered text, on all cores, whichever
  of its two ways is faster: the call, or the batch method of its backend.
- trl: from the same file to a dataset that SFTTrainer can train on, all with two processes:
  `datasets` reads it and maps the rows to prompts and completions, then the trainer prepares them,
  loss on the completion only. Both sides have a limit of 1,024 tokens: TRL's own, and no row
  reaches it. Two other figures are kept beside it: without the limit, which spares TRL two passes,
  and of the trainer's part alone, which starts from prompts that are in memory.

Then our second start on the same file, and the memory that a million rows take, from the file to
the plan of an epoch: the sum over all our processes of the memory that each has to itself or
shares (PSS), and the largest RSS of the one that was started.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.rows import make_rows  # noqa: E402 - a script finds its neighbours by its folder

RESULT = ROOT / "benchmarks" / "results" / "data.json"
NUM_ROWS = 52_000
TEMPLATE = "alpaca"
OPTIONS = {"max_seq_len": 1024, "overflow": "error", "learn": "answers"}
NUM_CORES = 2
PER_PAIR = (
    "ratio_vs_trl",
    "ratio_vs_trl_unlimited",
    "ratio_vs_trl_prepare_only",
    "share_of_tokenizer",
)
Figures = dict[str, Any]


def load_tokenizer() -> Any:
    """Build GPT-2's tokenizer from `$BIDDABLE_TEST_DATA`, or take mimic's where that is absent."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = Path(os.environ.get("BIDDABLE_TEST_DATA", "")) / "gpt2_tokenizer"
    if not folder.is_dir():
        return AutoTokenizer.from_pretrained(ROOT / "src" / "biddable" / "assets" / "mimic")
    vocab = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split()) for line in _merges(folder / "vocab.bpe")]
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end)


def _merges(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n")[1:] if line.strip()]


def read(path: Path) -> Iterator[Any]:
    """Give the conversations of a file one by one, whatever the size of the file."""
    from biddable.data import readers

    if hasattr(readers, "iter_conversations"):
        yield from readers.iter_conversations(path)
        return
    with path.open(encoding="utf-8") as file:
        numbered = ((number, json.loads(line)) for number, line in enumerate(file, start=1))
        for pair in numbered:
            yield from readers.conversations_from_rows([pair], path=str(path))


def ours(path: Path) -> Figures:
    """Encode a file into the cache; on a second start, find it there. Then plan an epoch."""
    from biddable.data.batching import BatchPlan, collate
    from biddable.data.cache import cache_key, encode_rows
    from biddable.data.encoding import encode_chunk
    from biddable.data.templates import get_template
    from biddable.manifest import hash_file

    tokenizer = load_tokenizer()
    started = time.perf_counter()
    template = get_template(TEMPLATE, tokenizer)
    encode = partial(encode_chunk, template=template, tokenizer=tokenizer, **OPTIONS)
    key = cache_key([hash_file(path)], template, tokenizer=tokenizer, options=OPTIONS)
    assert key is not None
    found = encode_rows(read(path), key, encode=encode, num_workers=NUM_CORES)
    encoded = time.perf_counter()
    plan = BatchPlan(found.rows, batch_size=16)
    counts = plan.describe()
    collate([found.rows[n] for n in plan[0].micro_batches[0]])
    return {
        "seconds": encoded - started,
        "to_first_batch_s": time.perf_counter() - started,
        "num_rows": len(found.rows),
        "was_kept": found.was_kept,
        **counts,
    }


def tokenizer_alone(path: Path) -> Figures:
    """Encode the rendered text of a file in batches; rendering it does not count."""
    from biddable.data.templates import get_template

    tokenizer = load_tokenizer()
    template = get_template(TEMPLATE, tokenizer)
    texts = [
        "".join(segment.text for segment in template.render(conversation.messages))
        for conversation in read(path)
    ]
    batches = [texts[start : start + 4096] for start in range(0, len(texts), 4096)]
    backend = tokenizer.backend_tokenizer

    def by_backend(batch: list[str]) -> None:
        _ = [found.ids for found in backend.encode_batch(batch, add_special_tokens=False)]

    ways: dict[str, Callable[[list[str]], Any]] = {
        "call": lambda batch: tokenizer(batch, add_special_tokens=False)["input_ids"],
        "backend": by_backend,
    }
    seconds = {}
    for name, way in ways.items():
        started = time.perf_counter()
        for batch in batches:
            way(batch)
        seconds[name] = time.perf_counter() - started
    return {"seconds": min(seconds.values()), "num_rows": len(texts), **seconds}


def trl(path: Path, *, max_length: int | None = 1024) -> Figures:
    """Let `datasets` read and format the file, and SFTTrainer prepare it; imports do not count."""
    from datasets import disable_progress_bars, load_dataset
    from transformers import GPT2Config, GPT2LMHeadModel
    from trl import SFTConfig, SFTTrainer

    from biddable.data.conversation import Message
    from biddable.data.templates import get_template

    disable_progress_bars()
    tokenizer = load_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    template = get_template(TEMPLATE, tokenizer)
    forms = {}
    for has_input in (False, True):
        message = Message("user", "{instruction}", input="{input}" if has_input else "")
        forms[has_input] = "".join(s.text for s in template.render_prompt([message]))

    def shape(row: Figures) -> Figures:
        prompt = forms[bool(row["input"])].format(**row)
        return {"prompt": prompt, "completion": row["output"] + tokenizer.eos_token}

    preparing = []

    class Timed(SFTTrainer):
        def _prepare_dataset(self, *arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            prepared = super()._prepare_dataset(*arguments, **named)
            preparing.append(time.perf_counter() - started)
            return prepared

    size = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": len(tokenizer)}
    model = GPT2LMHeadModel(GPT2Config(**size))
    started = time.perf_counter()
    rows = load_dataset("json", data_files=str(path), split="train")
    rows = rows.map(shape, num_proc=NUM_CORES, remove_columns=rows.column_names)
    reading = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(
            model=model,
            args=SFTConfig(
                output_dir=folder,
                dataset_num_proc=NUM_CORES,
                completion_only_loss=True,
                max_length=max_length,
                use_cpu=True,
                bf16=False,
                report_to=[],
            ),
            train_dataset=rows,
            processing_class=tokenizer,
        )
    first = trainer.train_dataset[0]
    assert {"input_ids", "labels"} <= first.keys(), first.keys()
    prepared = sum(preparing)
    return {
        "seconds": reading + prepared,
        "prepare_only": prepared,
        "num_rows": len(trainer.train_dataset),
    }


def memory(path: Path) -> Figures:
    """Encode a large file in a process that has loaded what training loads; watch its memory."""
    import resource

    import biddable.training.finetune  # noqa: F401 - torch and transformers are part of a run

    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            peak[0] = max(peak[0], sum(map(_pss, _family())))

    watcher = threading.Thread(target=watch)
    before = _pss(os.getpid())
    watcher.start()
    figures = ours(path)
    done.set()
    watcher.join()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**figures, "pss": peak[0], "rss_of_parent": own, "pss_before": before}


def _family() -> list[int]:
    """List this process and those it started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [os.getpid(), *map(int, children)]


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def profile(num_rows: int) -> None:
    """Print where our time goes, on one core, each stage in microseconds a row."""
    import cProfile
    import pstats

    from biddable.data.encoding import encode_chunk
    from biddable.data.shards import _pack, _unpack
    from biddable.data.templates import get_template

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.disable()  # as in the processes that encode
    tokenizer = load_tokenizer()
    encode = partial(
        encode_chunk, template=get_template(TEMPLATE, tokenizer), tokenizer=tokenizer, **OPTIONS
    )
    with tempfile.TemporaryDirectory() as folder:
        path = write_rows(Path(folder) / "rows.jsonl", num_rows)
        stages = ("read", "pack", "encode")
        marks = [time.perf_counter()]
        rows = list(read(path))
        marks.append(time.perf_counter())
        rows = _unpack(_pack(rows))
        marks.append(time.perf_counter())
        profiler = cProfile.Profile()
        with profiler:
            for start in range(0, num_rows, 2048):
                encode(rows[start : start + 2048])
        marks.append(time.perf_counter())
    for name, (start, end) in zip(stages, pairwise(marks), strict=True):
        print(f"{name}: {1e6 * (end - start) / num_rows:.1f} us a row")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


SIDES = {
    "ours": ours,
    "tokenizer": tokenizer_alone,
    "trl": trl,
    "trl_unlimited": partial(trl, max_length=None),
    "memory": memory,
}


def run(side: str, rows: Path, *, cache: Path) -> Figures:
    """Run one side in a process of its own, on as many cores as all have."""
    cores = sorted(os.sched_getaffinity(0))[:NUM_CORES]
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("TOKENIZERS_PARALLELISM", None)
    found = subprocess.run(
        [sys.executable, __file__, "--side", side, "--rows", str(rows)],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    figures: Figures = json.loads(found.stdout.splitlines()[-1])
    print(f"{side}: {figures['seconds']:.2f} s", file=sys.stderr)
    return figures


def measure(folder: Path, *, num_rows: int, num_large: int, num_turns: int) -> Figures:
    """Let the sides take turns, and put their figures together."""
    rows = write_rows(folder / "rows.jsonl", num_rows)
    pairs: list[Figures] = []
    first: Figures = {}
    for turn in range(num_turns):
        seconds, figures = {}, {}
        for side in ("ours", "tokenizer", "trl_unlimited", "trl"):
            first = run(side, rows, cache=folder / f"{side}-{turn}") if side == "ours" else first
            figures = first if side == "ours" else run(side, rows, cache=folder / f"{side}-{turn}")
            assert figures["num_rows"] == num_rows, figures
            seconds[side] = figures["seconds"]
        pairs.append(
            {
                "rows_per_s": {side: round(num_rows / s) for side, s in seconds.items()},
                "ratio_vs_trl": round(seconds["trl"] / seconds["ours"], 2),
                "ratio_vs_trl_unlimited": round(seconds["trl_unlimited"] / seconds["ours"], 2),
                "ratio_vs_trl_prepare_only": round(figures["prepare_only"] / seconds["ours"], 2),
                "share_of_tokenizer": round(seconds["tokenizer"] / seconds["ours"], 3),
            }
        )
    second = [run("ours", rows, cache=folder / "ours-0") for _ in range(3)]
    assert all(figures["was_kept"] for figures in second)
    large = write_rows(folder / "large.jsonl", num_large)
    held = run("memory", large, cache=folder / "large")
    return {
        "num_rows": num_rows,
        **{name: median_of(pairs, name) for name in PER_PAIR},
        "rows_per_s": {
            side: statistics.median(pair["rows_per_s"][side] for pair in pairs)
            for side in pairs[0]["rows_per_s"]
        },
        "second_start_s": round(statistics.median(s["to_first_batch_s"] for s in second), 3),
        "rss_1m_rows_gb": round(held["pss"] / 1e9, 3),
        "large": {
            "num_rows": num_large,
            "seconds": round(held["seconds"], 1),
            "rss_of_parent_gb": round(held["rss_of_parent"] / 1e9, 3),
            "before_reading_gb": round(held["pss_before"] / 1e9, 3),
            "plan": held["summary"],
        },
        "plan": first["summary"],
        "pairs": pairs,
    }


def median_of(pairs: list[Figures], name: str) -> float:
    """Take the median over the pairs."""
    return float(statistics.median(pair[name] for pair in pairs))


def write_rows(path: Path, num: int) -> Path:
    """Write rows to a file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in make_rows(num, seed=0))
    return path


def main() -> None:
    """Measure, print, and keep the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=NUM_ROWS, help="rows that the sides encode")
    parser.add_argument("--rows-1m", type=int, default=1_000_000, help="rows of the memory's turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--profile", type=int, metavar="ROWS", help="print where our time goes")
    parser.add_argument("--write", action="store_true", help=f"keep them in {RESULT.name}")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
        return
    if options.side:
        before = sum(os.times()[:4])
        figures = SIDES[options.side](options.rows)
        print(json.dumps({**figures, "cpu_s": sum(os.times()[:4]) - before}))
        return
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        figures = measure(
            Path(folder), num_rows=options.num, num_large=options.rows_1m, num_turns=options.turns
        )
    figures["machine"] = {
        "cores": NUM_CORES,
        "of": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[2], 2),
    }
    packages = ("biddable", "tokenizers", "transformers", "trl", "datasets", "numpy", "torch")
    figures["versions"] = {"python": platform.python_version()}
    figures["versions"] |= {name: metadata.version(name) for name in packages}
    text = json.dumps(figures, indent=2) + "\n"
    print(text, end="")
    if options.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
