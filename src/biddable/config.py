"""Describe a training run as data: what may be set, its defaults, and YAML in.

Every problem of a file is gathered and reported at once, with its line; a key that is not known
is an error. Nothing here opens a model or a data file, and every field has exactly one reader
(tests/architecture holds that).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from os import PathLike
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from biddable.config_checkpoints import CheckpointConfig
from biddable.config_data import DataConfig, SourceConfig
from biddable.config_training import MethodConfig, TrainingConfig
from biddable.config_values import Section, Seed, Text
from biddable.config_watch import WatchConfig
from biddable.config_yaml import Lines, in_yaml, read_yaml
from biddable.errors import ConfigError, join_problems, nearest


class RunConfig(Section):
    """Describe one run of ``biddable train``."""

    model: Text = Field(description="the base: a name, a folder, a GGUF file or a hub id")
    data: DataConfig = Field(description="the rows; a plain string is `data.train`")
    template: Text | None = Field(
        None,
        description="how turns are written: a name, or a Jinja file; none: the tokenizer's own,"
        " else `inst`",
    )
    method: MethodConfig = Field(
        default_factory=MethodConfig,
        description="what is trained; a plain string is `method.name`",
    )
    training: TrainingConfig = Field(
        default_factory=TrainingConfig, description="how it is trained"
    )
    watch: WatchConfig = Field(
        default_factory=WatchConfig, description="what is shown of it meanwhile"
    )
    checkpoints: CheckpointConfig = Field(
        default_factory=CheckpointConfig, description="how it is saved while it runs"
    )
    seed: Seed = Field(0, description="row order, adapter start, dropout")
    output: Text = Field(description="the run folder to make")

    @field_validator("data", "method", mode="before")
    @classmethod
    def _accept_a_plain_name(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str) or (isinstance(value, list) and info.field_name == "data"):
            return {"train" if info.field_name == "data" else "name": value}
        return value

    @field_validator("training")
    @classmethod
    def _has_what_it_measures(cls, value: TrainingConfig, info: ValidationInfo) -> TrainingConfig:
        data = info.data.get("data")
        if data is not None and data.held_out is None and data.held_out_rows is None:
            value.refuse_without_held_out()
        return value


SECTIONS: dict[str, type[Section]] = {
    "data": DataConfig,
    "method": MethodConfig,
    "training": TrainingConfig,
    "watch": WatchConfig,
    "checkpoints": CheckpointConfig,
}
# What other tools call our keys; used in messages only, never accepted.
_OTHER_NAMES = {
    "base_model": "model",
    "early_stopping_patience": "training.patience",
    "eval_steps": "training.held_out_every",
    "load_best_model_at_end": "training.keep",
    "dataset": "data.train",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_r": "method.rank",
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.schedule",
    "max_length": "data.max_seq_len",
    "max_seq_length": "data.max_seq_len",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "output_dir": "output",
    "per_device_train_batch_size": "training.micro_batch_size",
    "loraplus_lr_ratio": "method.lora_plus_ratio",
    "r": "method.rank",
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep",
    "train_file": "data.train",
    "use_dora": "method.dora",
    "use_rslora": "method.rslora",
    "min_lr_ratio": "training.min_lr_share",
    "warmup_ratio": "training.warmup_share",
}

_PLAIN_WORDS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid list": "a list",
    "String should have at least 1 character": "it should not be empty",
}
# How a section tells what is wrong with one of its keys, seen beside another section.
_KEY_FIRST = re.compile(r"Value error, \w+\.(?P<leaf>\w+): (?P<text>.*)")


def load_config(path: str | PathLike[str]) -> RunConfig:
    """Read a run's YAML file.

    Args:
        path: the file; UTF-8.

    Returns:
        The config, its defaults filled in.

    Raises:
        ConfigError: the file is missing, is not YAML, or any of its keys or values is not
            allowed; all problems at once, each with its line.
    """
    values, lines = read_yaml(path)
    return parse_config(values, source=str(path), lines=lines)


def parse_config(
    values: Mapping[str, Any],
    *,
    source: str = "config",
    lines: Lines | None = None,
) -> RunConfig:
    """Check a mapping and make a config of it.

    Args:
        values: as written in YAML.
        source: what messages call the place it comes from.
        lines: 1-based line of each key path, where known.

    Returns:
        The config, its defaults filled in.

    Raises:
        ConfigError: keys or values are not allowed; all problems at once.

    Example:
        >>> config = parse_config({"model": "mimic", "data": "rows.json", "output": "runs/a"})
        >>> config.data.train[0].path, config.method.name, config.training.epochs
        ('rows.json', 'full', 3)
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        problems = _describe(error, source=source, lines=lines or {})
        raise ConfigError(join_problems(problems)) from error


def config_fields() -> dict[str, str]:
    """List every key that a config may hold, in order, with what it means.

    Example:
        >>> config_fields()["training.batch_size"]
        'rows per optimizer step'
    """
    fields: dict[str, str] = {}
    for name, field in RunConfig.model_fields.items():
        section = SECTIONS.get(name)
        if section is None:
            fields[name] = field.description or ""
            continue
        for leaf, leaf_field in section.model_fields.items():
            fields[f"{name}.{leaf}"] = leaf_field.description or ""
    return fields


def _describe(error: ValidationError, *, source: str, lines: Lines) -> list[str]:
    """Turn pydantic's list of errors into our lines, in the file's order, those of a key joined."""
    gathered: dict[tuple[str, ...], list[str]] = {}
    found: dict[tuple[str, ...], str] = {}
    for item in error.errors(include_url=False):
        # Below a field, pydantic appends the member of a union that it tried.
        loc = item["loc"]
        depth = 1 if loc[0] not in SECTIONS else 4 if loc[:2] == ("data", "train") else 2
        key, value, text = tuple(map(str, loc[:depth])), item["input"], item["msg"]
        if of_one := _KEY_FIRST.fullmatch(text):  # it depends on another section
            key, text = (*key, of_one["leaf"]), of_one["text"]
            value = value[key[-1]] if isinstance(value, dict) else getattr(value, key[-1])
        is_known = item["type"] not in ("missing", "extra_forbidden")
        found[key] = f"found {_show(value)}; " if is_known else ""
        message = _allowed(item["type"], text, key=key, value=value)
        if message not in gathered.setdefault(key, []):
            gathered[key].append(message)
    problems = []
    for key, messages in gathered.items():
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)
        place = source if line is None else f"{source}:{line}"
        name = re.sub(r"\.(\d+)", r"[\1]", ".".join(key))
        text = f"{place}: {name}: {found[key]}{' or '.join(messages)}"
        problems.append((line or sys.maxsize, text if text.endswith("?") else text + "."))
    return [text for _, text in sorted(problems, key=lambda problem: problem[0])]


def _allowed(kind: str, message: str, *, key: tuple[str, ...], value: Any) -> str:
    """Say in our words what one of pydantic's errors allows, and what to do."""
    if kind == "extra_forbidden":
        return "unknown key" + _where_it_belongs(key)
    if kind == "missing":
        fields = SourceConfig.model_fields if len(key) > 2 else {}
        meaning = fields[key[-1]].description if key[-1] in fields else None
        meaning = meaning or config_fields().get(".".join(key), "a section of its own")
        return f"missing; add it ({meaning})"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "it should be a section of keys"
    text = message.removeprefix("Value error, ").replace("Input should be", "it should be")
    for theirs, ours in _PLAIN_WORDS.items():
        text = text.replace(theirs, ours)
    if kind == "literal_error" and isinstance(value, str):
        text += _in_line(nearest(value, re.findall("'([^']*)'", message)))
    return text


def _where_it_belongs(key: tuple[str, ...]) -> str:
    """Point from an unknown key to the known one that was probably meant."""
    full_names = {name.rpartition(".")[2]: name for name in config_fields()}
    leaf = key[-1]
    if leaf in full_names or leaf in _OTHER_NAMES:
        return f'; write it as "{full_names.get(leaf) or _OTHER_NAMES[leaf]}"'
    section = SECTIONS.get(key[0], RunConfig) if len(key) > 1 else RunConfig
    section = SourceConfig if len(key) > 2 else section
    hint = nearest(leaf, section.model_fields)
    if not hint:
        hint = re.sub('"(.*)"', lambda m: f'"{full_names[m[1]]}"', nearest(leaf, full_names))
    return _in_line(hint) or f"; allowed here: {', '.join(section.model_fields)}"


def _in_line(hint: str) -> str:
    return hint.replace(" Did you", "; did you", 1)


def _show(value: Any) -> str:
    text = "nothing" if value is None else f'"{value}"' if isinstance(value, str) else repr(value)
    if isinstance(value, bool | list | dict):
        text = in_yaml(value)
    return text if len(text) <= 60 else text[:57] + "..."
