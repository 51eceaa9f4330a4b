"""The whole of a training run: prepare it, train, save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from biddable.config import RunConfig
from biddable.config_training import TrainingConfig
from biddable.data.dataset import InstructionDataset
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, saved_name, template_hash
from biddable.errors import CheckpointError, TrainingError
from biddable.manifest import build_manifest
from biddable.models.adapter import num_base_parameters
from biddable.models.devices import choose_device
from biddable.models.freezing import freeze_layers
from biddable.models.loading import LoadedModel, load
from biddable.models.readiness import assess, require_ready
from biddable.training.checkpoint import RunRecord, read_config_of, save_run
from biddable.training.checkpoints import Checkpoints
from biddable.training.distributed import World, find_world
from biddable.training.ending import assisting, leading, wait_until_whole
from biddable.training.gathering import Gather, gathered_by_main
from biddable.training.identity import find_differences, identify_config, identify_run
from biddable.training.lock import locked
from biddable.training.preparation import (
    EncodedParts,
    Prepared,
    checkpoints_of,
    encode_parts,
    prepare,
    receive_prepared,
    without_base,
)
from biddable.training.progress import ProgressBar
from biddable.training.run_state import TrainingLog
from biddable.training.samples import SampleAnswers
from biddable.training.sharding import divides, require_divisible, require_plain_base
from biddable.training.sinks import reporting
from biddable.training.trainer import train
from biddable.training.venue import Venue
from biddable.whole_folder import require_free

OnEvent = Callable[[dict[str, Any]], None]

_WHOLE = "whole"  # what rank 0 announces of a run that is left as it is


def finetune_instruct_model(
    base_model: str | LoadedModel | PreTrainedModel,
    instruct_dataset: InstructionDataset,
    epochs: float = 3,
    *,
    held_out: InstructionDataset | None = None,
    learning_rate: float | None = None,
    num_frozen_layers: int = 0,
) -> tuple[PreTrainedModel, TrainingLog]:
    """Teach a base model to answer, learning the answers of a dataset and nothing else.

    Its progress is shown on stderr.

    Args:
        base_model: a name that `load` takes, or a model that is loaded; that one is trained in
            place, not copied.
        instruct_dataset: made with the tokenizer of this model.
        epochs: passes over the data.
        held_out: data whose loss is measured before training and after each epoch.
        learning_rate: the peak; None chooses by size and says why in the log.
        num_frozen_layers: how many lower layers stay as they are, the embeddings with them; 0
            trains everything.

    Returns:
        The model, in evaluation mode, and the log of its training.

    Raises:
        ConfigError: the model's name is unknown, as many layers cannot be frozen, or the model can
            never learn to stop with the dataset's template.
        TrainingError: a loss or gradient is not finite.
    """
    given = load(base_model) if isinstance(base_model, str) else base_model
    model = given.model if isinstance(given, LoadedModel) else given
    if num_frozen_layers:
        freeze_layers(model, num_frozen_layers)
    as_taught = LoadedModel(model, instruct_dataset.tokenizer, "the base", "")
    require_ready(assess(as_taught, instruct_dataset.template))
    with ProgressBar() as bar:
        log = train(
            model,
            instruct_dataset.examples,
            settings=TrainingConfig(epochs=epochs, learning_rate=learning_rate),
            held_out=held_out.examples if held_out is not None else (),
            on_event=bar,
        )
    return model, log


def run_training(
    config: RunConfig, *, resume: bool = False, on_event: OnEvent | None = None
) -> Path:
    """Do what a config says and leave a run folder.

    While it runs it saves itself beside that folder, as ``checkpoints`` of the config says; nothing
    else is written before training is over.

    Args:
        config: the run.
        resume: go on with the run of this config that was cut off; one that was not yet saved
            begins anew, and one that is whole already is left as it is.
        on_event: called with what was read ("source"), what the rows came to ("data"), what is
            trained ("method"), and every event of the trainer.

    Returns:
        The run folder.

    Raises:
        RunStopped: a signal asked for it, and the run is saved.
        CheckpointError: another process makes this run folder, or it holds something.
        BiddableError: of the kind that fits; before the first step wherever that is possible.
    """
    checkpoints, world = checkpoints_of(config), find_world()
    if not world.is_main:
        return _assist(config, world=world, checkpoints=checkpoints)
    listener = on_event or (lambda event: None)
    with leading(world), locked(checkpoints.output):
        return _lead(config, checkpoints, resume=resume, listener=listener, world=world)


def _lead(
    config: RunConfig, checkpoints: Checkpoints, *, resume: bool, listener: OnEvent, world: World
) -> Path:
    """Make the run, be it alone or as rank 0 of several processes."""
    settings = config.model_dump(mode="json")
    if resume and _is_whole(checkpoints.output, config):
        checkpoints.remove()
        world.announce(_WHOLE)
        listener({"event": "resume", "summary": f"{checkpoints.output}: is whole already"})
        return checkpoints.output
    require_plain_base(config.method, settings=config.training, num_processes=world.size)
    folder = require_free(checkpoints.output)
    with reporting(config.watch, folder, config=settings, on_event=listener) as tell:
        then = _find_cut_off(checkpoints, config, resume=resume, tell=tell)
        is_divided = divides(config.training, world)
        prepared = prepare(config, device="cpu" if is_divided else None)
        require_ready(prepared.readiness)
        if is_divided:
            require_divisible(prepared.loaded.model)
            world.hear_main(without_base(prepared))
        data = encode_parts(prepared)
        _tell_rows(data, tell)
        _tell_method(prepared, tell)
        model, hashed, now = prepared.loaded.model, template_hash(prepared.template), None
        if checkpoints.can_save or then or world.size > 1:
            now = identify_run(config, model, template_hash=hashed, rows=data.parts)
        samples = SampleAnswers(config.watch, prepared.loaded, prepared.template, world=world)
        world.announce("encoded")
        world.open(choose_device() if is_divided else model.device)
        if now is not None:
            checkpoints.begin(now, then=then)
            world.require_same(now)
        with checkpoints.listening():
            try:
                venue = Venue(checkpoints, samples, world)
                log = _train(config, prepared, data=data, venue=venue, tell=tell)
                if not is_divided:
                    world.close()
                with gathered_by_main(model, world) as gather:
                    record = _record_run(config, prepared, data=data, log=log)
                    record = replace(record, files=_draw(log, tell))
                    _save_whole(folder, prepared, record, gather=gather)
                world.close()
            except (TrainingError, CheckpointError) as error:
                checkpoints.add_hint(error)
                raise
    checkpoints.remove()
    return folder


def _assist(config: RunConfig, *, world: World, checkpoints: Checkpoints) -> Path:
    """Take a share of the steps of a run that rank 0 tells, saves and writes."""
    with assisting(world, checkpoints):
        if world.wait_for_turn() == _WHOLE:
            wait_until_whole(world)
            return checkpoints.output
        is_divided = divides(config.training, world)
        prepared = receive_prepared(world.hear_main(), config) if is_divided else prepare(config)
        data = encode_parts(prepared)
        world.announce("encoded")
        model, hashed = prepared.loaded.model, template_hash(prepared.template)
        world.open(choose_device() if is_divided else model.device)
        own = None if is_divided else model  # its weights are rank 0's, handed out in parts
        world.require_same(identify_run(config, own, template_hash=hashed, rows=data.parts))
        samples = SampleAnswers(config.watch, prepared.loaded, prepared.template, world=world)
        with checkpoints.listening():
            _train(config, prepared, data=data, venue=Venue(checkpoints, samples, world))
            with gathered_by_main(model, world):  # rank 0 writes
                pass
            world.close()
            wait_until_whole(world)
    return checkpoints.output


def _train(
    config: RunConfig,
    prepared: Prepared,
    *,
    data: EncodedParts,
    venue: Venue,
    tell: OnEvent | None = None,
) -> TrainingLog:
    return train(
        prepared.loaded.model,
        data.parts["train"],
        settings=config.training,
        held_out=data.parts["held_out"],
        seed=prepared.seed,
        on_event=tell,
        venue=venue,
    )


def _record_run(
    config: RunConfig, prepared: Prepared, *, data: EncodedParts, log: TrainingLog
) -> RunRecord:
    settings, loaded = config.model_dump(mode="json"), prepared.loaded
    _settle_conversation(loaded, prepared.template)
    manifest = build_manifest(
        config=settings,
        data=_describe_data(prepared.shuffle_seed, data),
        template=_describe_template(prepared.template),
        model=_describe_model(loaded),
        results=_describe_results(log),
    )
    return RunRecord(config=settings, manifest=manifest, log=log.records)


def _save_whole(
    folder: Path, prepared: Prepared, record: RunRecord, *, gather: Gather | None
) -> None:
    """Write the run folder."""
    loaded = prepared.loaded
    save_run(folder, model=loaded.model, tokenizer=loaded.tokenizer, record=record, gather=gather)


def _find_cut_off(
    checkpoints: Checkpoints, config: RunConfig, *, resume: bool, tell: OnEvent
) -> dict[str, str]:
    """Find what to go on from, and refuse at once what the config alone shows to be another run."""
    if not resume:
        checkpoints.require_none()
        return {}
    then = checkpoints.find(tell)
    if then is None:
        told = f"{checkpoints.folder}: holds nothing to resume; the run begins anew"
        tell({"event": "resume", "summary": told})
        return {}
    checkpoints.require_same_run(then, identify_config(config))
    return then


def _is_whole(folder: Path, config: RunConfig) -> bool:
    """Say whether the run folder is there, and of this config."""
    made_by = read_config_of(folder)
    if made_by is None:
        return False
    return not find_differences(identify_config(made_by), identify_config(config))


def _draw(log: TrainingLog, tell: OnEvent) -> dict[str, bytes]:
    """Draw the losses, as a file by its name; no run is lost to a picture that fails."""
    try:
        from biddable.training.plots import LOSS_PICTURE, draw_losses

        return {LOSS_PICTURE: draw_losses(log.records)}
    except Exception as error:  # a font or a folder of matplotlib's own that is not there
        tell({"event": "note", "text": f"the losses were not drawn: {error}"})
        return {}


def _tell_rows(data: EncodedParts, tell: OnEvent) -> None:
    for part, summary in data.about["summaries"]:
        tell({"event": "source", "part": part, "summary": summary})
    for part, report in data.reports.items():
        kept = " (kept from before)" if part in data.from_cache else ""
        event = {"event": "data", "part": part, "summary": report.summary() + kept}
        tell({**event, "dropped": report.dropped})


def _tell_method(prepared: Prepared, tell: OnEvent) -> None:
    notes = [f.text for f in prepared.readiness.facts if f.verdict in ("note", "warning")]
    tell({"event": "method", "summary": prepared.method, "notes": notes})


def _settle_conversation(loaded: LoadedModel, template: ChatTemplate) -> None:
    """Let the saved folder ask and stop as the training taught it, in any program that loads it."""
    ends = stop_ids(template, loaded.tokenizer)
    if loaded.model.generation_config is not None:
        loaded.model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    loaded.tokenizer.chat_template = template.saved_source


def _describe_data(shuffle_seed: int | None, data: EncodedParts) -> dict[str, Any]:
    described: dict[str, Any] = {"shuffle_seed": shuffle_seed}
    for part, report in data.reports.items():
        files = data.about["files"].get(part, data.about["files"]["train"])
        one = files[0] if len(files) == 1 else {}
        described[part] = {
            "file": one.get("file"),
            "sha256": one.get("sha256"),
            "files": files,
            "num_rows": report.num_rows,
            "num_kept": report.num_kept,
            "dropped": report.dropped,
            "num_tokens": report.num_tokens,
            "num_loss_tokens": report.num_loss_tokens,
            "num_examples": report.num_examples,
            "num_rows_expanded": report.num_rows_expanded,
            "num_rows_with_control_text": report.num_rows_with_control_text,
        }
    return described


def _describe_template(template: ChatTemplate) -> dict[str, Any]:
    described = {"name": saved_name(template), "hash": template_hash(template)}
    if described["name"] != template.name:
        described["file"] = template.name
    return {**described, "control_text": template.control_text}


def _describe_model(loaded: LoadedModel) -> dict[str, Any]:
    parameters: Sequence[torch.nn.Parameter] = list(loaded.model.parameters())
    return {
        "name": loaded.name,
        "source": loaded.source,
        "type": type(loaded.model).__name__,
        "num_parameters": num_base_parameters(loaded.model),
        "num_trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "device": str(loaded.model.device),
    }


def _describe_results(log: TrainingLog) -> dict[str, Any]:
    losses = log.held_out_losses
    return {
        "seconds": log.seconds,
        "tokens": log.num_tokens,
        "loss_tokens": log.num_loss_tokens,
        "steps": log.num_steps,
        "learning_rate": log.learning_rate,
        "learning_rate_reason": log.learning_rate_reason,
        "held_out_loss_before": losses[0] if losses else None,
        "held_out_loss": log.kept_held_out_loss,
        "kept_step": log.kept_step,
        "skipped_steps": log.num_skipped,
        "resumed_at": log.resumed_at,
    }
