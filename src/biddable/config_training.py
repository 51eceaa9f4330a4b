"""Say what a config may set about what trains and how; every problem is told by config.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from biddable.config_values import Count, Flag, Positive, Section, Share, Text

# Which methods read a key; those that all of them read are not here.
_READ_BY = {
    "num_frozen_layers": ("freeze",),
    "freeze": ("freeze",),
    "rank": ("lora",),
    "alpha": ("lora",),
    "dropout": ("lora",),
    "target_modules": ("lora",),
    "rslora": ("lora",),
    "dora": ("lora",),
    "init": ("lora",),
    "lora_plus_ratio": ("lora",),
    "quantize_base": ("lora",),
    "train_tokens": ("freeze", "lora"),
}


class MethodConfig(Section):
    """Say which parameters are trained."""

    name: Literal["full", "freeze", "lora"] = Field(
        "full", description="all parameters, those that are not frozen, or a low-rank adapter"
    )
    num_frozen_layers: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None,
        description="freeze: how many lower layers stay as they are, the embeddings with them;"
        " none: half of them, or none where `method.freeze` says what stays",
    )
    freeze: list[Text] | None = Field(
        None,
        description="freeze: what stays as it is, by name, the end of a name, or a pattern"
        " (`model.embed_tokens`, `*.mlp.*`)",
    )
    rank: Count = Field(8, description="lora: the adapter's size")
    alpha: Positive | None = Field(
        None, description="lora: the adapter's strength (scale = alpha / rank); none: the rank"
    )
    dropout: Share = Field(0.0, description="lora: share of the adapter's input dropped")
    target_modules: Literal["all-linear"] | list[Text] = Field(
        "all-linear",
        description="lora: linear layers that get an adapter, by name, the end of a name, or a"
        " pattern (`q_proj`, `layers.3`, `*.mlp.*`); the head gets none",
    )
    rslora: Flag = Field(
        False, description="lora: scale = alpha / sqrt(rank), so that a large rank learns as fast"
    )
    dora: Flag = Field(
        False, description="lora: train each output's length apart from its direction (DoRA)"
    )
    init: Literal["zero", "pissa"] = Field(
        "zero",
        description="lora: start with no change, or with the base's own largest singular"
        " directions, which the frozen weight then lacks (PiSSA)",
    )
    lora_plus_ratio: Positive | None = Field(
        None, description="lora: learning rate of B over that of A (LoRA+, 2 to 16); none: 1"
    )

    quantize_base: Literal["int8", "int4"] | None = Field(
        None,
        description="lora: keep the frozen layers in 8 or 4 bits while training (QLoRA); needs the"
        " extra `quant`",
    )
    train_tokens: Literal["auto", "none"] | list[Text] = Field(
        "auto",
        description="freeze, lora: control tokens whose own rows in the embeddings and the head"
        " train although the rest there is frozen; auto: the template's, where they are untrained",
    )
    new_tokens: list[Text] | None = Field(
        None,
        description="control tokens to add to the tokenizer and the model, as a template may need;"
        " their rows train",
    )

    @field_validator(*_READ_BY)
    @classmethod
    def _is_read_by_the_method(cls, value: Any, info: ValidationInfo) -> Any:
        # A written default is no wish (a run's own config.yaml spells out all of them).
        key, name = str(info.field_name), info.data.get("name")
        readers = _READ_BY[key]
        if name not in (None, *readers) and value != cls.model_fields[key].default:
            raise ValueError(
                f'it has no effect with method "{name}"; remove it or set method.name: '
                + " or ".join(readers)
            )
        if value == []:
            what = "token" if key == "train_tokens" else "layer"
            either = {"target_modules": ', or be "all-linear"', "train_tokens": ', or be "none"'}
            raise ValueError(f"it should name at least one {what}{either.get(key, '')}")
        return value

    @field_validator("init")
    @classmethod
    def _keeps_what_the_base_knows(cls, value: str, info: ValidationInfo) -> str:
        if value == "pissa" and info.data.get("dropout"):
            raise ValueError(
                "with method.dropout the base's own largest directions would be dropped in"
                " training; remove one of the two"
            )
        return value

    @field_validator("new_tokens")
    @classmethod
    def _will_be_trained(cls, value: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if value == []:
            raise ValueError("it should name at least one token")
        if value and info.data.get("train_tokens") == "none" and info.data.get("name") != "full":
            raise ValueError(
                "with method.train_tokens: none their rows would stay noise; remove one of the two"
            )
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
    keep_together: Flag = Field(
        False,
        description="rows that begin alike (questions on one document, answers to one prompt) are"
        " shuffled as one, into the same steps, which then share more; less well mixed",
    )
    precision: Literal["float32", "mixed"] | None = Field(
        None,
        description="of passes: float32; or mixed, bfloat16 while weights and moments stay in"
        " float32 (a GPU); none: mixed on a GPU that has it, else float32",
    )
    compile: Flag = Field(
        True,
        description="a GPU: let torch compile the layers before the first step, which takes up to"
        " a minute and makes steps shorter",
    )
    activation_cache_gb: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = Field(
        8.0,
        description="what frozen lower layers give is kept on disk up to this size and not run"
        " again; 0: never",
    )
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="how the learning rate falls after the warm-up; wsd: it stays up, and falls in"
        " the last steps",
    )
    warmup_share: Share = Field(0.1, description="share of the steps that warm up")
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="steps that warm up; none: `training.warmup_share` of them"
    )
    min_lr_share: Share = Field(
        0.0, description="share of the peak learning rate that the schedule does not fall below"
    )
    decay_share: Annotated[float, Field(gt=0, le=1, strict=True)] = Field(
        0.2,
        description="wsd: share of the steps in which the rate falls, as far as the warm-up leaves"
        " them",
    )
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = Field(
        0.0,
        description="AdamW's weight decay, of matrices; norms, biases and embeddings have none",
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
    neftune_alpha: Positive | None = Field(
        None, description="noise on the embeddings in training (NEFTune, 5 to 15); none: no noise"
    )
    gradient_checkpointing: Flag = Field(
        False,
        description="compute the layers' activations again for the gradient: less memory, and"
        " about a third more time",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="several processes: each holds the whole model, or weights, gradients and"
        " moments are divided among them (FSDP2)",
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

    @field_validator("warmup_steps")
    @classmethod
    def _is_the_only_warm_up(cls, value: int | None, info: ValidationInfo) -> int | None:
        share = info.data.get("warmup_share")
        if value is not None and share != cls.model_fields["warmup_share"].default:
            raise ValueError(
                f"it cannot stand beside training.warmup_share ({share}); remove one of the two"
            )
        return value

    @field_validator("min_lr_share", "decay_share")
    @classmethod
    def _is_read_by_the_schedule(cls, value: float, info: ValidationInfo) -> float:
        key, schedule = str(info.field_name), info.data.get("schedule")
        readers = ("wsd",) if key == "decay_share" else ("cosine", "linear", "wsd")
        if schedule not in (None, *readers) and value != cls.model_fields[key].default:
            raise ValueError(
                f'it has no effect with schedule "{schedule}"; remove it or set'
                f" training.schedule: {' or '.join(readers)}"
            )
        return value

    @field_validator("decay_share")
    @classmethod
    def _leaves_room(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("schedule") != "wsd":
            return value
        in_steps = info.data.get("warmup_steps") is not None  # how many there are is not known yet
        warmup = 0.0 if in_steps else info.data.get("warmup_share", 0.0)
        is_wish = value != cls.model_fields["decay_share"].default
        if is_wish and value + warmup > 1 + 1e-9:
            raise ValueError(
                f"it should be at most {1 - warmup:g}, for training.warmup_share ({warmup:g}) is of"
                " the same steps"
            )
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
                f"training.{name}: it needs a held-out loss; set data.held_out or"
                " data.held_out_rows"
            )
