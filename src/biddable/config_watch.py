"""Say what a config may set about how a run is watched; every problem is told by config.py."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from biddable.config_values import Count, Section, Text

Sink = Literal["tensorboard", "wandb"]


class WatchConfig(Section):
    """Say what is shown of a run while it trains; nothing here changes what is learned."""

    prompts: tuple[Text, ...] = Field(
        (), description="asked before the first step and as it learns; the answers are shown"
    )
    every: Literal["epoch"] | Count = Field(
        "epoch", description="when they are asked again: at each epoch's end, or every N steps"
    )
    max_new_tokens: Count = Field(64, description="longest answer to one of them")
    report_to: tuple[Sink, ...] = Field(
        (), description="where the figures go as well; each needs the extra of its name"
    )

    @field_validator("prompts", "report_to", mode="before")
    @classmethod
    def _accept_a_plain_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value
