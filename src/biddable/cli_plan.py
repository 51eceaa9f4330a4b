"""Offer ``biddable plan``: of a run here, of its whole path small, or on paper."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biddable.cli_options import AsJson, console, print_json
from biddable.cli_progress import told_stages

if TYPE_CHECKING:
    from biddable.config_training import MethodConfig, TrainingConfig

_GPU_MEMORY, _MICRO_TOKENS = "80GB", 4096
_UNITS = {"M": 10**6, "G": 10**9, "T": 10**12, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


Config = Annotated[str | None, typer.Argument(metavar="CONFIG", help="The run's YAML file.")]
Measure = Annotated[
    bool,
    typer.Option("--measure/--no-measure", help="Run a few passes, for time and memory; seconds."),
]
Processes = Annotated[
    int,
    typer.Option(min=1, help="How many torchrun would start, here or elsewhere; memory is of one."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Do the whole path on a few rows: train, save, compare.")
]
ModelConfig = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="A transformers config.json: plan on paper, for GPUs not here."
    ),
]
Gpus = Annotated[
    int, typer.Option(min=1, help="On paper: how many GPUs. Of a run: torchrun --nproc-per-node.")
]
GpuMemory = Annotated[str, typer.Option(metavar="SIZE", help="On paper: of each, 80GB or 80GiB.")]
GpuTflops = Annotated[
    float | None, typer.Option(min=0.001, help="On paper: what each reaches; for the speed.")
]
Method = Annotated[
    Literal["full", "freeze", "lora"] | None,
    typer.Option(help="On paper: what trains. In a config: method.name."),
]
Rank = Annotated[
    int | None, typer.Option(min=1, help="On paper: LoRA's rank. In a config: method.rank.")
]
QuantizeBase = Annotated[
    Literal["int8", "int4"] | None,
    typer.Option(help="On paper: LoRA's frozen layers. In a config: method.quantize_base."),
]
MicroTokens = Annotated[
    int,
    typer.Option(
        min=1,
        help="On paper: tokens of a pass on a GPU. In a config, in rows:"
        " training.micro_batch_size.",
    ),
]
Precision = Annotated[
    Literal["float32", "mixed", "bfloat16"] | None,
    typer.Option(
        help="On paper: of weights and passes. In a config: training.precision, which has no"
        " bfloat16 throughout. None: as train on a GPU, mixed."
    ),
]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--checkpointing",
        help="On paper: compute layers again. In a config: training.gradient_checkpointing.",
    ),
]


def plan(
    config: Config = None,
    measure: Measure = True,
    processes: Processes = 1,
    dry_run: DryRun = False,
    model_config: ModelConfig = None,
    gpus: Gpus = 1,
    gpu_memory: GpuMemory = _GPU_MEMORY,
    gpu_tflops: GpuTflops = None,
    method: Method = None,
    rank: Rank = None,
    quantize_base: QuantizeBase = None,
    micro_tokens: MicroTokens = _MICRO_TOKENS,
    precision: Precision = None,
    checkpointing: Checkpointing = False,
    as_json: AsJson = False,
) -> None:
    """Say what a run would take, and whether its base can learn it.

    Nothing is trained. With --model-config it is said on paper, from sizes alone, for GPUs that are
    not here; method, precision and checkpointing are those of CONFIG, or of options.
    Exit code 1 if the run would be refused, fails in small, or does not fit on paper; an output
    that is there already is told, and is no reason for it.
    """
    if model_config is not None:
        if dry_run:
            raise typer.BadParameter("it needs a model that is here.", param_hint="--dry-run")
        if processes > 1:
            raise typer.BadParameter("on paper it is --gpus.", param_hint="--processes")
        if "://" in model_config:
            raise typer.BadParameter(
                f"{model_config} is an address; download it, and name the file.",
                param_hint="--model-config",
            )
        asked = _asked(config, {"name": method, "rank": rank, "quantize_base": quantize_base})
        sizes = {"num_gpus": gpus, "gpu_memory": parse_size(gpu_memory), "gpu_tflops": gpu_tflops}
        load = {"micro_tokens": micro_tokens, "precision": precision, "recompute": checkpointing}
        _plan_on_paper(model_config, asked, sizes=sizes, load=load, as_json=as_json)
        return
    if config is None:
        raise typer.BadParameter("name a file, or give --model-config.", param_hint="CONFIG")
    if dry_run and processes > 1:
        raise typer.BadParameter("the dry run is of one process.", param_hint="--processes")
    asked_on_paper: dict[str, Any] = {"--method": method, "--rank": rank, "--gpus": gpus > 1}
    asked_on_paper |= {"--gpu-memory": gpu_memory != _GPU_MEMORY, "--gpu-tflops": gpu_tflops}
    asked_on_paper |= {"--micro-tokens": micro_tokens != _MICRO_TOKENS}
    asked_on_paper |= {"--precision": precision, "--checkpointing": checkpointing}
    asked_on_paper |= {"--quantize-base": quantize_base}
    _require_none(asked_on_paper)
    if dry_run:
        _rehearse(config, as_json=as_json)
    else:
        _plan_here(config, measure=measure, processes=processes, as_json=as_json)


def _require_none(asked_on_paper: dict[str, Any]) -> None:
    if given := [name for name, value in asked_on_paper.items() if value]:
        raise typer.BadParameter(
            "it is for --model-config; for a run, write it into the config, or give --processes.",
            param_hint=given[0],
        )


def parse_size(text: str) -> int:
    """Read a size in bytes: ``80GB`` is 80 * 10**9, ``80GiB`` is 80 * 2**30.

    Example:
        >>> parse_size("80GB"), parse_size("1.5 GiB")
        (80000000000, 1610612736)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]i?)B?\s*", text)
    if found is None or not float(found[1]):
        raise typer.BadParameter(
            f'found "{text}"; expected a size with its unit: 80GB or 80GiB.',
            param_hint="--gpu-memory",
        )
    return round(float(found[1]) * _UNITS[found[2]])


def _plan_here(path: str, *, measure: bool, processes: int, as_json: bool) -> None:
    from biddable.config import load_config

    settings = load_config(path)
    from biddable.training.plan_table import plan_table
    from biddable.training.planner import plan_run

    with console(stderr=True).status("reading, encoding, measuring"):
        found = plan_run(settings, measure=measure, num_processes=processes)
    if as_json:
        print_json(found.as_json())
    else:
        console().print(plan_table(found, config=shlex.quote(path)), highlight=False)
    if found.refusals:
        raise typer.Exit(1)


def _plan_on_paper(
    path: str,
    asked: tuple[MethodConfig, TrainingConfig | None],
    *,
    sizes: dict[str, Any],
    load: dict[str, Any],
    as_json: bool,
) -> None:
    from biddable.training.layout import recomputes
    from biddable.training.paper import Hardware, plan_on_paper
    from biddable.training.plan_table import paper_table
    from biddable.training.precision import precision_on_gpu
    from biddable.training.spreading import Load

    method, settings = asked
    load["precision"] = load["precision"] or precision_on_gpu(settings)
    load["recompute"] = load["recompute"] or (settings is not None and recomputes(settings))
    hardware = Hardware(**sizes)
    found = plan_on_paper(path, method, hardware=hardware, load=Load(**load), settings=settings)
    if as_json:
        print_json(found.as_json())
    else:
        console().print(paper_table(found), highlight=False)
    if not found.fits:
        raise typer.Exit(1)


def _asked(path: str | None, options: dict[str, Any]) -> tuple[MethodConfig, TrainingConfig | None]:
    """Take the method from a config, with how it trains, or from options."""
    from biddable.config import load_config, parse_config

    given = {key: value for key, value in options.items() if value is not None}
    if path is not None:
        if given:
            option = {"name": "--method", "quantize_base": "--quantize-base"}
            raise typer.BadParameter(
                "CONFIG says the method already; leave one of the two out.",
                param_hint=option.get(next(iter(given)), "--rank"),
            )
        config = load_config(path)
        return config.method, config.training
    values = {"name": "full", **given}
    filled = {"model": "on paper", "data": "none", "output": "none"}
    return parse_config({**filled, "method": values}, source="options").method, None


def _rehearse(path: str, *, as_json: bool) -> None:
    from biddable.config import load_config

    settings = load_config(path)
    from biddable.rehearsal import STAGES, Stage, rehearse, stage_line

    screen, names = console(hush=as_json), iter(STAGES)
    with told_stages(next(names)) as tell:

        def show(stage: Stage) -> None:
            screen.print(stage_line(stage), highlight=False)
            if not stage.error and (following := next(names, "")):
                tell(following)

        stages = rehearse(settings, on_stage=show)
    failed = [stage for stage in stages if stage.error]
    if as_json:
        print_json({"ok": not failed, "stages": [stage.as_json() for stage in stages]})
    if failed:
        raise typer.Exit(1)
