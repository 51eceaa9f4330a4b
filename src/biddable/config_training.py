"""Say what a config may set about what trains and how; every problem is told by config.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from biddable.config_values import Count, Positive, Section, Share, Text


class MethodConfig(Section):
    """Say which parameters are trained."""

    name: Literal["full", "freeze", "lora"] = Field(
        "full", description="all parameters, the upper layers only, or a low-rank adapter"
    )
    num_frozen_layers: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="freeze: how many lower layers stay as they are; none: half of them"
    )
    rank: Count = Field(8, description="lora: the adapter's size")
    alpha: Positive | None = Field(
        None, description="lora: the adapter's strength (scale = alpha / rank); none: the rank"
    )
    dropout: Share = Field(0.0, description="lora: share of the adapter's input dropped")
    target_modules: Literal["all-linear"] | list[Text] = Field(
        "all-linear", description="lora: names of the linear layers that get an adapter"
    )

    @field_validator("num_frozen_layers", "rank", "alpha", "dropout", "target_modules")
    @classmethod
    def _is_read_by_the_method(cls, value: Any, info: ValidationInfo) -> Any:
        # A written default is no wish (a run's own config.yaml spells out all of them).
        key, name = str(info.field_name), info.data.get("name")
        owner = "freeze" if key == "num_frozen_layers" else "lora"
        if name not in (None, owner) and value != cls.model_fields[key].default:
            raise ValueError(
                f'it has no effect with method "{name}"; remove it or set method.name: {owner}'
            )
        if value == []:
            raise ValueError('it should name at least one layer, or be "all-linear"')
        return value


class TrainingConfig(Section):
    """Say how the chosen parameters are trained."""

    epochs: Annotated[int, Field(gt=0, strict=True)] | Positive = Field(
        3, description="passes over the rows; 0.5 is half a pass"
    )
    learning_rate: Positive | None = Field(
        None, description="peak learning rate; none: chosen by size and method, and said"
    )
    batch_size: Count = Field(16, description="rows per optimizer step")
    micro_batch_size: Count | None = Field(
        None, description="rows per forward pass; none: grouped by length"
    )
    layout: Literal["tree", "padded"] = Field(
        "tree",
        description="rows of a forward pass share their common starts where the model allows it,"
        " or are padded; the gradient is the same",
    )
    activation_cache_gb: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = Field(
        8.0,
        description="what frozen lower layers give is kept on disk up to this size and not run"
        " again; 0: never",
    )
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the learning rate falls after the warm-up"
    )
    warmup_share: Share = Field(0.1, description="share of the steps that warm up")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = Field(
        0.0, description="AdamW's weight decay"
    )
    max_grad_norm: Positive = Field(1.0, description="longer gradients are cut to this norm")
    on_nonfinite: Literal["stop", "skip"] = Field(
        "stop",
        description="a step whose loss or gradient is no number stops the run, or is left out",
    )
    held_out_every: Count | None = Field(
        None, description="measure the held-out loss every so many steps; none: after each epoch"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="the weights that are left: the last, or those of least held-out loss"
    )
    patience: Count | None = Field(
        None, description="stop after so many measurements without a lower held-out loss"
    )
    learn: Literal["answers", "last_answer", "all"] = Field(
        "answers", description="which tokens count in the loss; plain texts are learned whole"
    )

    @field_validator("micro_batch_size")
    @classmethod
    def _fits_the_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        batch_size = info.data.get("batch_size")
        if value is not None and batch_size is not None and value > batch_size:
            raise ValueError(f"it should be at most training.batch_size ({batch_size})")
        return value

    def refuse_without_held_out(self) -> None:
        """Refuse what cannot be decided without a held-out loss.

        Raises:
            ValueError: a setting needs one.
        """
        wishes = {"keep": self.keep == "best", "patience": self.patience is not None}
        wishes["held_out_every"] = self.held_out_every is not None
        for name in (name for name, is_wished in wishes.items() if is_wished):
            raise ValueError(
                f"training.{name} needs a held-out loss; set data.held_out or data.held_out_rows"
            )
