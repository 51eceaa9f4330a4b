"""Say what a config may set about its rows; every problem is told by config.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from biddable.config_values import Count, Positive, Section, Seed, Text

Role = Literal["system", "user", "assistant", "tool", "function_call"]
RowFormat = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "instruction-response",
    "prompt-completion",
    "prompt-response",
    "text",
    "mixed",
]


class SourceConfig(Section):
    """Say where rows come from, how they are read, and how many of them are learned."""

    path: Text = Field(
        description='a data file, a folder of them, a hub name (org/name:split), or "mimic"'
    )
    weight: Positive = Field(
        1.0, description="how often each row is learned in an epoch; 0.5 chooses half of them"
    )
    format: RowFormat | None = Field(None, description="instead of `data.format`")
    role_map: dict[Text, Role] | None = Field(None, description="instead of `data.role_map`")


class DataConfig(Section):
    """Say which rows are learned and which are held out; paths are relative to where you run."""

    train: tuple[SourceConfig, ...] = Field(
        description='a file, a folder, a hub name, "mimic" or "starter"; or a source; or a list'
    )
    held_out: Text | None = Field(
        None, description="as a name in `train`; its loss is measured, it is never learned"
    )
    train_rows: Count | None = Field(
        None, description="learn only the first N rows, counted after shuffling"
    )
    held_out_rows: Count | None = Field(
        None, description="hold out the last N rows of `train`, counted after shuffling"
    )
    shuffle_seed: Seed | None = Field(
        None, description="shuffle the file with this seed before it is cut; none: file order"
    )
    format: RowFormat | None = Field(
        None, description="the rows' format; none: recognised; mixed: each row by itself"
    )
    role_map: dict[Text, Role] | None = Field(
        None, description="what else the sides are called: `{bot: assistant}`"
    )
    streaming: Annotated[bool, Field(strict=True)] = Field(
        False, description="read a data set of the hub while downloading it"
    )
    max_file_bytes: Count = Field(
        8 * 2**30, description="what a compressed file may hold; more is refused"
    )
    max_line_bytes: Count = Field(64 * 2**20, description="the longest row; more is refused")
    max_ratio: Count = Field(
        200, description="how many times its size a compressed file may hold, past 256 MiB"
    )
    max_seq_len: Annotated[int, Field(ge=2, strict=True)] | None = Field(
        None, description="longest row in tokens; none: what the model can read"
    )
    overflow: Literal["error", "drop"] = Field(
        "drop", description="what happens to longer rows: refused, or dropped with a count"
    )
    cache: Annotated[bool, Field(strict=True)] = Field(
        True, description="keep the encoded rows of a file for later runs (in ~/.cache)"
    )
    history: Literal["expand", "refuse"] = Field(
        "expand",
        description="rows whose template later shows an answer otherwise: one row for each answer,"
        " or refused",
    )
    control_text: Literal["escape", "refuse"] = Field(
        "escape",
        description="texts that spell a plain-text mark of the template: escaped, or refused",
    )

    @field_validator("train", mode="before")
    @classmethod
    def _accept_plain_names(cls, value: Any) -> Any:
        sources = value if isinstance(value, list | tuple) else [value]
        if not sources:
            raise ValueError("it should name at least one source")
        return [{"path": source} if isinstance(source, str) else source for source in sources]

    @field_serializer("train")
    def _write_plainly(self, sources: tuple[SourceConfig, ...]) -> Any:
        written = [source.model_dump(exclude_defaults=True) for source in sources]
        plain = [entry["path"] if len(entry) == 1 else entry for entry in written]
        return plain[0] if len(plain) == 1 else plain

    @field_validator("held_out_rows")
    @classmethod
    def _is_the_only_held_out(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("held_out") is not None:
            raise ValueError("it cannot stand beside data.held_out; remove one of the two")
        return value
