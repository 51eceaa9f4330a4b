"""Find what answers the items of a suite by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from biddable.errors import ConfigError
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.asking import AnswerSource
from biddable.evaluation.gguf_model import GgufModel
from biddable.evaluation.local_model import LocalModel
from biddable.evaluation.responses import ReadyResponses
from biddable.evaluation.url_model import UrlModel
from biddable.models.loading import LoadedModel, load, resolve


def open_source(
    name: str,
    *,
    model_name: str | None = None,
    quantize: Literal["int8"] | None = None,
    cache: AnswerCache | None = None,
) -> AnswerSource:
    """Find what answers by its name.

    Args:
        name: a model as ``load`` takes it, a .gguf file (run by llama.cpp), the URL of a server
            that speaks OpenAI's protocol, ``http://127.0.0.1:8000/v1``, or a .jsonl file of ready
            responses.
        model_name: which of the server's models; ``URL#name`` says the same.
        quantize: as ``load`` takes it.
        cache: where answers are kept; None keeps none.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: what is there is not a whole model.
    """
    if quantize and (is_url(name) or is_responses(name) or name.endswith(".gguf")):
        raise ConfigError(
            f"quantize: {name} is not run by biddable itself, which can make only the weights of a "
            "folder, run or hub id small. Leave it out."
        )
    if is_url(name):
        return UrlModel(name, model_name=model_name, cache=cache)
    if model_name is not None:
        raise ConfigError(
            f'model name "{model_name}": only a server at a URL has several models, and {name} is '
            "none; leave --model-name out."
        )
    if is_responses(name):
        return ReadyResponses(name)
    source = resolve(name)
    if source.kind == "gguf":
        return GgufModel(Path(source.place), cache=cache)
    return as_source(load(name, quantize=quantize), cache=cache)


def as_source(
    model: str | LoadedModel | AnswerSource,
    *,
    quantize: Literal["int8"] | None = None,
    cache: AnswerCache | None = None,
) -> AnswerSource:
    """Take a source as it is, and make one of a model or a name.

    Raises:
        ConfigError: weights that are loaded already are to be made small; else as ``open_source``.
    """
    if isinstance(model, str):
        return open_source(model, quantize=quantize, cache=cache)
    if quantize:
        raise ConfigError(
            f"quantize: {model.name} is loaded as it is; give its name, or load(..., quantize=)."
        )
    if isinstance(model, LoadedModel):
        return LocalModel(model, cache=cache)
    return model


def is_url(name: str) -> bool:
    """Tell a server's address from the name of a model.

    Example:
        >>> is_url("http://127.0.0.1:8000/v1"), is_url("org/name")
        (True, False)
    """
    return name.startswith(("http://", "https://"))


def is_responses(name: str) -> bool:
    """Tell a file of ready responses from the name of a model."""
    return Path(name).suffix in (".jsonl", ".ndjson") and Path(name).is_file()


def template_of_side(
    side: AnswerSource, instruct: AnswerSource, template: str | None
) -> str | None:
    """Choose the template that one side of a comparison is asked with.

    Args:
        side: which is asked.
        instruct: the model that was taught; a base is asked with its template too.
        template: what the user chose; None for the instruct model's own.

    Returns:
        A name, or None where a file or a server applies its own.
    """
    are_here = isinstance(side, LocalModel) and isinstance(instruct, LocalModel)
    return template or (instruct.template if are_here else None)
