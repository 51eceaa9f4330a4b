"""Say what a config may set about saving a run as it goes; every problem is told by config.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from biddable.config_values import Count, Positive, Section


class CheckpointConfig(Section):
    """Say when a run saves itself, and what stays of that."""

    every_minutes: Positive | None = Field(
        10.0, description="save after so many minutes, which is what a crash may cost"
    )
    every_steps: Count | None = Field(None, description="save after every so many steps as well")
    keep: Annotated[int, Field(ge=0, strict=True)] = Field(
        2, description="the newest so many stay; 0: none is made, and a stopped run is lost"
    )
    when_done: Literal["remove", "keep"] = Field(
        "remove", description="what becomes of them once the run folder is whole"
    )
