"""Write a model as one GGUF file with a Modelfile, and ask llama.cpp if it is the same model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biddable.data.templates import ChatTemplate
from biddable.errors import ConfigError, how_to_install
from biddable.models.generation import generate
from biddable.models.gguf_file import CONFIG_KEY, MANIFEST_KEY
from biddable.models.gguf_weights import (
    GgufKind,
    add_sizes,
    architecture_of,
    config_text,
    gguf_weights,
)
from biddable.models.llama_cpp import LlamaCpp
from biddable.models.loading import LoadedModel
from biddable.models.rows import matrix
from biddable.serving.gguf_vocabulary import add_vocabulary, pre_tokenizer_name
from biddable.serving.ollama import modelfile
from biddable.serving.probes import PROBE_TOKENS, Probe, make_probes, require_same_ids

MODELFILE = "Modelfile"
_PROBE_CONTEXT = 512
# the number that llama.cpp shows for what most of a file is kept in
_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7}


def write_gguf(
    path: Path,
    loaded: LoadedModel,
    *,
    kind: GgufKind,
    form: ChatTemplate | None,
    manifest: Mapping[str, Any],
) -> None:
    """Write a model with its tokenizer, template and stops as one file.

    Args:
        path: the file to make.
        loaded: the model; its generation config names every stop, its tokenizer the template.
        kind: see ``gguf_weights``.
        form: the template; None for a model that was taught none.
        manifest: what is told of the run; kept in the file.

    Raises:
        ConfigError: the extra is not installed.
        ExportError: the architecture or the tokenizer is not known here.
    """
    try:
        import gguf
    except ImportError as error:
        raise ConfigError(
            f"--to gguf: writing GGUF needs a package: {how_to_install('gguf')}."
        ) from error
    model = loaded.model
    architecture = architecture_of(model)
    pre_tokenizer_name(loaded.tokenizer)  # refused before anything is written
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(path.stem)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_sizes(writer, model)
    add_vocabulary(
        writer,
        loaded.tokenizer,
        num_rows=len(matrix(model.get_input_embeddings())),
        stop_ids=_stops(loaded),
        opens_with_bos=opens_with_bos(loaded, form),
    )
    writer.add_string(MANIFEST_KEY, json.dumps(dict(manifest)))
    writer.add_string(CONFIG_KEY, config_text(model))
    for weight in gguf_weights(model, kind):
        writer.add_tensor(weight.name, weight.data, raw_dtype=weight.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_modelfile(
    folder: Path, loaded: LoadedModel, *, file: str, form: ChatTemplate | None
) -> None:
    """Write Ollama's Modelfile beside a GGUF file.

    Args:
        folder: where both lie.
        loaded: the model.
        file: the GGUF file's name.
        form: the template; None for a model that was taught none.
    """
    stops = [str(loaded.tokenizer.convert_ids_to_tokens(end)) for end in _stops(loaded)]
    if form is not None and form.answer_suffix.strip():
        stops.append(form.answer_suffix.strip())
    text = modelfile(
        file,
        form,
        start=str(loaded.tokenizer.bos_token) if opens_with_bos(loaded, form) else "",
        stops=list(dict.fromkeys(stops)),
        context=loaded.model.config.max_position_embeddings,
    )
    (folder / MODELFILE).write_text(text, encoding="utf-8")


def opens_with_bos(loaded: LoadedModel, form: ChatTemplate | None) -> bool:
    """Say whether a prompt opens with the start token, which llama.cpp is then to put there."""
    bos = loaded.tokenizer.bos_token_id
    return bos is not None and make_probes(loaded, form)[0].ids[:1] == [bos]


def check_gguf(path: Path, loaded: LoadedModel, *, form: ChatTemplate | None) -> dict[str, Any]:
    """Ask llama.cpp what the run's own model is asked, and compare.

    Args:
        path: the file.
        loaded: the model that it was written from.
        form: the template; None for a model that was taught none.

    Returns:
        ``num_probes``, ``num_same_answers`` (greedy), and of each probe ``num_tokens`` of our
        answer and ``same_start``, how many of them llama.cpp's starts with; only ``checked: False``
        where llama.cpp is not installed.

    Raises:
        CheckpointError: llama.cpp cannot load the file.
        ExportError: it makes other ids of a prompt.
    """
    try:
        engine = LlamaCpp(
            path, context=min(_PROBE_CONTEXT, loaded.model.config.max_position_embeddings)
        )
    except ConfigError:
        return {"checked": False}
    probes = make_probes(loaded, form)

    def read(probe: Probe) -> list[int]:
        is_chat = bool(probe.messages)
        text = engine.render(probe.messages) if is_chat else probe.text
        if is_chat and (bos := loaded.tokenizer.bos_token) and opens_with_bos(loaded, form):
            text = text.removeprefix(str(bos))  # as llama.cpp does before it puts one there
        return engine.tokenize(text)

    require_same_ids(probes, read, who="llama.cpp")
    expected = generate(
        loaded.model,
        [probe.ids for probe in probes],
        stop_ids=_stops(loaded),
        max_new_tokens=PROBE_TOKENS,
    )
    answers = [
        (ours.ids, _greedy(engine, probe.ids, set(_stops(loaded))))
        for probe, ours in zip(probes, expected, strict=True)
    ]
    return {
        "checked": True,
        "num_probes": len(answers),
        "num_same_answers": sum(ours == theirs for ours, theirs in answers),
        "same_start": [_common_start(*pair) for pair in answers],
        "num_tokens": [len(ours) for ours, _ in answers],
    }


def _greedy(engine: LlamaCpp, ids: list[int], stop_ids: set[int]) -> list[int]:
    asked = {
        "prompt": ids,
        "max_tokens": PROBE_TOKENS,
        "temperature": 0.0,
        "stream": False,
        "verbose": True,
        "return_tokens": True,
    }
    reply = engine.complete(asked)
    found = [int(token_id) for token_id in reply["__verbose"]["tokens"]]
    return [token_id for token_id in found if token_id not in stop_ids]


def _common_start(one: list[int], other: list[int]) -> int:
    pairs = zip(one, other, strict=False)
    shorter = min(len(one), len(other))
    return next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)


def _stops(loaded: LoadedModel) -> list[int]:
    """List the ids that end an answer; those of the generation config first, in its order."""
    named = loaded.model.generation_config.eos_token_id
    named = [] if named is None else named if isinstance(named, list) else [named]
    return [int(i) for i in dict.fromkeys([*named, *sorted(loaded.end_ids())])]
