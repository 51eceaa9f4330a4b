"""Read what a GGUF file says of itself, its weights left alone.

Files that this package writes carry more than llama.cpp needs: the tokenizer and the sizes as the
Hugging Face library has them, and what the run was made of. With them a file is read and asked
exactly as its run folder is; any other file is asked as llama.cpp does by itself.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from biddable.errors import CheckpointError, ConfigError, how_to_install

_MAGIC = b"GGUF"
MANIFEST_KEY = "biddable.manifest"
CONFIG_KEY = "biddable.config"
TOKENIZER_KEY = "tokenizer.huggingface.json"
TOKENIZER_CONFIG_KEY = "biddable.tokenizer_config"
_CHAT_TEMPLATE_KEY = "tokenizer.chat_template"
_TOKENS_KEY = "tokenizer.ggml.tokens"
_KEYS = (MANIFEST_KEY, CONFIG_KEY, TOKENIZER_KEY, TOKENIZER_CONFIG_KEY, _CHAT_TEMPLATE_KEY)


@dataclass(frozen=True)
class GgufFacts:
    """Hold what a file says of itself.

    Attributes:
        context: ids that the model takes at once; None if the file does not say.
        chat_template: the Jinja that llama.cpp applies; None without one.
        manifest: of the run that made it; None if this package did not write the file.
        tokenizer: the run's own; None if this package did not write the file.
        config: of the model and of its generation, as transformers has them; None likewise.
        num_ids: how many ids it knows.
    """

    context: int | None
    chat_template: str | None
    manifest: dict[str, Any] | None
    tokenizer: PreTrainedTokenizerBase | None
    config: dict[str, Any] | None = None
    num_ids: int = 0


def read_gguf_facts(path: str | Path) -> GgufFacts:
    """Read a file's own description.

    Args:
        path: the .gguf file.

    Raises:
        ConfigError: the extra is not installed.
        CheckpointError: it is no GGUF file.
    """
    try:
        import gguf
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading GGUF needs a package: {how_to_install('gguf')}."
        ) from error
    try:
        fields = gguf.GGUFReader(path).fields
        contexts = [f.contents() for name, f in fields.items() if name.endswith(".context_length")]
        said = {key: str(fields[key].contents()) for key in _KEYS if key in fields}
        return GgufFacts(
            context=min(map(int, contexts), default=None),
            chat_template=said.get(_CHAT_TEMPLATE_KEY),
            manifest=json.loads(said[MANIFEST_KEY]) if MANIFEST_KEY in said else None,
            tokenizer=_tokenizer(said),
            config=json.loads(said[CONFIG_KEY]) if CONFIG_KEY in said else None,
            num_ids=len(fields[_TOKENS_KEY].data) if _TOKENS_KEY in fields else 0,
        )
    except Exception as error:  # whatever a damaged file makes the reader stumble over
        if _is_begun(path):
            size = Path(path).stat().st_size
            told = f"it ends too early, after {size:,} bytes, or is damaged. Copy it again."
            raise CheckpointError(f"{path}: cannot be read as GGUF: {told}") from error
        raise CheckpointError(f"{path}: cannot be read as GGUF: {error}") from error


def _is_begun(path: str | Path) -> bool:
    """Tell whether a file that the reader stumbled over begins as GGUF does."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def _tokenizer(said: dict[str, str]) -> PreTrainedTokenizerBase | None:
    """Make the tokenizer that was put into the file."""
    if not {TOKENIZER_KEY, TOKENIZER_CONFIG_KEY} <= said.keys():
        return None
    with tempfile.TemporaryDirectory(prefix="biddable-") as folder:
        for name, key in (
            ("tokenizer.json", TOKENIZER_KEY),
            ("tokenizer_config.json", TOKENIZER_CONFIG_KEY),
        ):
            (Path(folder) / name).write_text(said[key], encoding="utf-8")
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    tokenizer.name_or_path = ""
    if said.get(_CHAT_TEMPLATE_KEY) and not tokenizer.chat_template:
        tokenizer.chat_template = said[_CHAT_TEMPLATE_KEY]
    return tokenizer
