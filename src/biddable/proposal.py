"""Propose the config of a run: look at model and rows, and give every value its reason.

What is written is what ``plan`` says of it, so the reasons are counts of these rows on this
machine. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from biddable.config import RunConfig, parse_config
from biddable.counting import counted
from biddable.data.builtin import builtin_names
from biddable.data.conversation import Conversation
from biddable.data.readers import Reading
from biddable.data.sources import read_sources
from biddable.errors import ConfigError, join_problems
from biddable.training.plan_table import size_text
from biddable.training.planner import Plan, plan_run

MethodName = Literal["full", "lora"]

_MIN_ROWS = 20  # of fewer rows none is held out: too few to measure anything on
_MOST_HELD_OUT = 200
_HALF_BILLION = 5e8  # parameters from which an adapter is proposed, as learning rates change there
_ROUND = 64  # lengths are proposed in such steps
_LONGEST_PROMPT = 80  # characters of a question that is watched
# what is tried until the run fits into memory, each on top of the one before
_LIGHTER: tuple[dict[str, Any], ...] = (
    {},
    {"micro_batch_size": 2},
    {"micro_batch_size": 1, "gradient_checkpointing": True},
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """Hold what the user has settled already; None is left to choose.

    Attributes:
        method: what trains.
        template: how turns are written.
        held_out: a file of rows that are never learned.
        output: the run folder.
    """

    method: MethodName | None = None
    template: str | None = None
    held_out: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Hold a proposed config.

    Attributes:
        text: of the YAML file, with a reason beside every value.
        config: the same, read.
        plan: what ``plan`` says of it, nothing measured.
    """

    text: str
    config: RunConfig
    plan: Plan

    @property
    def fits(self) -> bool:
        """Whether memory suffices here."""
        return self.plan.estimate is not None and self.plan.estimate.fits


def propose(model: str, data: str, *, name: str, wishes: Wishes = Wishes()) -> Proposal:
    """Look at a model and rows, and propose a config.

    Args:
        model: its name, as ``load`` takes it.
        data: as ``data.train`` names rows.
        name: of the file that the text is for.
        wishes: what is settled.

    Raises:
        ConfigError: the model could not learn from these rows; every reason is told.
        BiddableError: rows or model cannot be read.
    """
    asked = {"model": model, "data": data, "output": wishes.output or _free_output(data)}
    (source,) = read_sources(parse_config(asked, source="options").data)
    rows = source.reading.conversations
    values = {**asked, "data": {"train": data}, "training": {}, "seed": 0}
    reasons = {"data.train": _rows_told(source.reading)}
    _hold_out(values, reasons, num_rows=len(rows), wishes=wishes)
    if wishes.template is not None:
        values["template"] = wishes.template
    plan = _fit(values, reasons, wishes)
    refusals = [*plan.refusals, *([plan.in_the_way] if plan.in_the_way else [])]
    if refusals or plan.estimate is None:
        raise ConfigError(join_problems(refusals))
    _describe(values, reasons, plan, wishes)
    _watch(values, reasons, rows)
    text = _written(values, reasons, name)
    config = parse_config(yaml.safe_load(text), source=name)
    return Proposal(text, config, plan)


def _hold_out(
    values: dict[str, Any], reasons: dict[str, str], *, num_rows: int, wishes: Wishes
) -> None:
    """Settle which rows are never learned, and how the others are stepped through."""
    data, training = values["data"], values["training"]
    apart, builtin = wishes.held_out, data["train"] in builtin_names("train")
    if apart is None and builtin and data["train"] in builtin_names("held_out"):
        apart = data["train"]
    num_held_out = 0
    if apart is not None:
        data["held_out"] = apart
        reasons["data.held_out"] = "its loss is measured and never learned: it shows overfitting"
    elif num_rows >= _MIN_ROWS:
        num_held_out = min(max(num_rows // 10, 5), _MOST_HELD_OUT)
        data |= {"shuffle_seed": 0, "held_out_rows": num_held_out}
        reasons["data.shuffle_seed"] = "rows are mixed before the last are held out; always alike"
        reasons["data.held_out_rows"] = "their loss is measured and never learned: overfitting"
    num_train = num_rows - num_held_out
    small = next((size for most, size in ((64, 4), (160, 8)) if num_train < most), 16)
    training["epochs"] = 3 if num_train < 20_000 else 2
    training["batch_size"] = small
    num_steps = -(-num_train // small)
    reasons["training.batch_size"] = (
        f"{counted(num_steps, 'step')} an epoch from {counted(num_train, 'row')}"
    )
    many = "rows are many enough for two passes"
    seen = "so few rows want three passes; more would be learned by heart"
    reasons["training.epochs"] = many if training["epochs"] == 2 else seen
    if "held_out" in data or num_held_out:
        training["keep"] = "best"
        reasons["training.keep"] = "the weights of least held-out loss are left, not the last"


def _fit(values: dict[str, Any], reasons: dict[str, str], wishes: Wishes) -> Plan:
    """Choose what trains, and the first way to run it that fits into memory."""
    method = wishes.method or "full"
    plan = _plan(values | {"method": method})
    why = "as asked" if wishes.method else "all parameters"
    if wishes.method is None and plan.estimate is not None:
        size = plan.estimate.memory.weights / 4  # float32
        needed, there = _memory(plan)
        if size >= _HALF_BILLION:
            method, why = "lora", f"an adapter: a model of {size / 1e9:.1f} B learns enough in it"
        elif not plan.estimate.fits:
            method, why = "lora", f"an adapter: all parameters would take {needed} of {there}"
        if method == "lora":
            plan = _plan(values | {"method": method})
    values["method"] = method
    for lighter in _LIGHTER:
        if lighter:
            values["training"] |= lighter
            plan = _plan(values)
        if plan.estimate is None or plan.estimate.fits:
            break
    needed, there = _memory(plan)
    reasons["method"] = f"{why}; {needed} of the {there} that are free"
    reasons["training.micro_batch_size"] = "rows in a pass, so that memory suffices; same steps"
    reasons["training.gradient_checkpointing"] = "less memory, about a third more time"
    return plan


def _plan(values: Mapping[str, Any]) -> Plan:
    return plan_run(parse_config(values, source="options"), measure=False)


def _memory(plan: Plan) -> tuple[str, str]:
    found = plan.estimate
    return (
        ("", "") if found is None else (size_text(found.memory.needed), size_text(found.available))
    )


def _describe(values: dict[str, Any], reasons: dict[str, str], plan: Plan, wishes: Wishes) -> None:
    """Take over what the plan says of lengths, template and learning rate."""
    longest = max(ledger.longest for ledger in plan.ledgers.values())
    limit = plan.ledgers["train"].limit
    num_over = sum(ledger.num_over for ledger in plan.ledgers.values())
    length = -(-longest // _ROUND) * _ROUND
    if limit is not None and length >= limit:
        length = limit
    values["data"]["max_seq_len"] = length
    reasons["data.max_seq_len"] = (
        f"what the model reads; {num_over:,} longer rows are dropped, never cut"
        if num_over
        else f"the longest row has {longest:,} tokens; none is dropped"
    )
    readiness = plan.readiness
    values["template"] = wishes.template or readiness.template
    brings = {"tokenizer": "the tokenizer's own", "inst": "the tokenizer brings none"}
    why = "as asked" if wishes.template else brings.get(readiness.template, "fits the base")
    state = "can be learned" if readiness.stop_trains else "the base knows"
    reasons["template"] = f"{why}; an answer ends with {readiness.stop_text}, which {state}"
    values["training"]["learning_rate"] = plan.learning_rate
    reasons["training.learning_rate"] = plan.learning_rate_reason.partition(" for ")[2]
    reasons["model"] = next(
        (fact.text for fact in readiness.facts if fact.code == "positions"), "the base"
    )
    reasons["seed"] = "the same seed gives the same run"
    reasons["output"] = "the run folder to make"


def _watch(values: dict[str, Any], reasons: dict[str, str], rows: list[Conversation]) -> None:
    """Choose a question to be answered as the model learns."""
    for row in rows:
        asked = [message.text for message in row.messages if message.role == "user"][:1]
        if asked and len(asked[0]) <= _LONGEST_PROMPT and asked[0].isprintable():
            values["watch"] = {"prompts": asked}
            reasons["watch.prompts"] = "answered before the first step and after each epoch"
            return


def _written(values: Mapping[str, Any], reasons: Mapping[str, str], name: str) -> str:
    lines = [f"# Proposed by biddable init. Look: biddable plan {name}. Run: biddable train {name}"]
    order = ("model", "data", "template", "method", "training", "watch", "seed", "output")
    for key in order:
        value = values.get(key)
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [_line(k, v, reasons[f"{key}.{k}"], "  ") for k, v in value.items()]
        elif value is not None:
            lines.append(_line(key, value, reasons[key], ""))
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any, reason: str, indent: str) -> str:
    return f"{indent}{key}: {_scalar(value)} # {reason}"


def _scalar(value: Any) -> str:
    """Write a value as YAML in one line.

    Example:
        >>> _scalar("rows: mine.jsonl"), _scalar(0.001), _scalar(["What is it?"])
        ("'rows: mine.jsonl'", '0.001', "['What is it?']")
    """
    if isinstance(value, float):
        return f"{value:g}"
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("...\n").strip()


def _free_output(data: str) -> str:
    """Name a run folder that is not there."""
    stem = Path(data.partition(":")[0]).name.partition(".")[0] or "run"
    names: Iterator[str] = (f"runs/{stem}{f'-{n}' if n > 1 else ''}" for n in range(1, 1_000))
    beside = ("", ".partial", ".checkpoints")
    return next(name for name in names if not any(Path(name + end).exists() for end in beside))


def _rows_told(reading: Reading) -> str:
    if len(reading.files) == 1:
        return reading.files[0].summary().partition(": ")[2]
    rows = counted(reading.num_rows, "row")
    return f"{rows} in {len(reading.files)} files, read as {reading.format}"
