"""The sides that `data.py` lets take turns: our encoding, the tokenizer alone, and TRL."""

import contextlib
import gc
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.rows import make_rows

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "alpaca"
OPTIONS = {"max_seq_len": 1024, "overflow": "error", "learn": "answers"}
NUM_CORES = 2
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


def write_rows(path: Path, num: int) -> Path:
    """Write rows to a file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in make_rows(num, seed=0))
    return path


SIDES = {
    "ours": ours,
    "tokenizer": tokenizer_alone,
    "trl": trl,
    "trl_unlimited": partial(trl, max_length=None),
    "memory": memory,
}
