"""The plan: what it counts is what training then does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from biddable.config import RunConfig, parse_config
from biddable.errors import ConfigError
from biddable.training import measuring
from biddable.training.finetune import run_training
from biddable.training.layout import Layout
from biddable.training.measuring import Bench, peak_during
from biddable.training.plan_table import plan_table, size_text
from biddable.training.planner import plan_run
from biddable.training.preparation import encode_parts, prepare
from biddable.training.shadow import KeptStates
from tests.tiny import tiny_model, tiny_tokenizer

ROWS = [{"instruction": f"Say {n}.", "response": "word " * n} for n in range(1, 13)]


@pytest.fixture
def config_of(tmp_path: Path) -> Callable[..., RunConfig]:
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def config(data: dict[str, object] | None = None, **changes: object) -> RunConfig:
        values = {
            "model": str(tmp_path / "base"),
            "data": {"train": str(path), **(data or {})},
            "template": "inst",
            "training": {"epochs": 2, "batch_size": 5},
            "output": "run",
        }
        return parse_config(values | changes)

    return config


def shown(plan):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(plan_table(plan))
    return console.export_text()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_plan_counts_what_training_then_does(config_of, method):
    config = config_of({"held_out_rows": 4, "shuffle_seed": 1, "max_seq_len": 60}, method=method)
    plan = plan_run(config)
    assert plan.refusals == []
    assert not Path("run").exists()
    results = json.loads((run_training(config) / "manifest.json").read_text())["results"]
    assert (plan.num_steps, plan.num_step_tokens, plan.num_step_loss_tokens) == (
        results["steps"],
        results["tokens"],
        results["loss_tokens"],
    )
    assert plan.learning_rate == results["learning_rate"]
    assert plan.num_stopped == plan.num_kept


def test_the_plan_says_what_rows_kept_together_would_save(config_of, tmp_path):
    path = tmp_path / "documents.jsonl"
    asked = [(chr(97 + n % 12) * 80, f"Question {n}?") for n in range(48)]
    rows = [{"instruction": text, "input": more, "response": "Yes."} for text, more in asked]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"train": str(path)}
    training = {"epochs": 2, "batch_size": 4}
    mixed = plan_run(config_of(data, training=training), measure=False)
    kept = plan_run(config_of(data, training={**training, "keep_together": True}), measure=False)
    saved = 1 - kept.num_step_unique_tokens / mixed.num_step_unique_tokens
    assert mixed.num_step_together_tokens == kept.num_step_unique_tokens
    assert saved > 0.3
    assert f"{100 * saved:.0f} % fewer with training.keep_together: true" in " ".join(
        shown(mixed).split()
    )
    assert kept.num_step_tokens == mixed.num_step_tokens
    assert kept.num_step_together_tokens == kept.num_step_unique_tokens
    assert "keep_together" not in shown(kept)
    assert "keep_together" not in shown(plan_run(config_of(), measure=False))
    padded = config_of(data, training={**training, "layout": "padded"})
    assert "keep_together" not in shown(plan_run(padded, measure=False))


def test_the_ledger_names_what_the_limit_takes(config_of):
    plan = plan_run(config_of({"max_seq_len": 40}))
    ledger = plan.ledgers["train"]
    assert 0 < ledger.num_over < 12
    assert ledger.num_over == ledger.num_lost_stops == 12 - plan.num_kept
    assert ledger.num_lost_tokens > ledger.num_over
    assert ledger.p50 <= ledger.p95 <= ledger.p99 <= ledger.longest
    assert ledger.longest > ledger.limit == 40
    text = shown(plan)
    assert "the rows over the limit are dropped whole" in text
    assert "This run can start" in text


def test_a_limit_that_is_an_error_refuses_and_still_shows_the_ledger(config_of):
    plan = plan_run(config_of({"max_seq_len": 40, "overflow": "error"}))
    assert plan.ledgers["train"].num_over > 0
    (refusal,) = plan.refusals
    assert 'data.overflow is "error"' in refusal
    assert refusal in " ".join(shown(plan).split())


def test_a_limit_that_leaves_no_row_refuses(config_of):
    plan = plan_run(config_of({"max_seq_len": 3}))
    assert (plan.num_kept, plan.num_steps) == (0, 0)
    assert "every row is over 3 tokens" in plan.refusals[0]
    assert "keep_together" not in shown(plan)  # nothing could be saved of nothing


def test_a_folder_in_the_way_is_told_and_the_plan_is_whole(config_of):
    Path("run").mkdir()
    Path("run", "config.json").write_text("{}")
    plan = plan_run(config_of())
    assert plan.refusals == []
    assert plan.estimate.pace is not None
    assert "run: already holds files; expected a new or empty folder." in plan.in_the_way
    assert plan.as_json()["ready"] is False


def chatml_base(folder: Path) -> str:
    tokenizer = tiny_tokenizer(extra_special_tokens=("<|im_start|>", "<|im_end|>"))
    model = tiny_model(vocab_size=302, tie=True)
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[-2:] = weight[:-2].mean(dim=0)
    model.save_pretrained(folder / "chatml")
    tokenizer.save_pretrained(folder / "chatml")
    return str(folder / "chatml")


def test_an_unlearnable_stop_is_refused_in_the_plan_and_before_the_first_step(config_of, tmp_path):
    method = {"name": "lora", "train_tokens": "none"}
    config = config_of(model=chatml_base(tmp_path), template="chatml", method=method)
    plan = plan_run(config)
    assert "<|im_end|>" in plan.refusals[0]
    assert "✗ the stop token <|im_end|>" in shown(plan)
    assert shown(plan).count("can never be learned") == 1  # told once, above
    assert "would be refused, for what is marked ✗ above" in shown(plan)
    with pytest.raises(ConfigError, match="can never be learned"):
        run_training(config, on_event=lambda event: pytest.fail(str(event)))
    assert not Path("run").exists()


def test_without_a_template_the_run_goes_on_with_a_stop_that_works(config_of, tmp_path):
    model = chatml_base(tmp_path)
    path = tmp_path / "chatml" / "chat_template.jinja"
    path.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    events = []
    method = {"name": "lora", "train_tokens": "none"}
    config = config_of(model=model, template=None, method=method)
    folder = run_training(config, on_event=events.append)
    (method,) = [event for event in events if event["event"] == "method"]
    assert "could not be learned" in method["notes"][0]
    assert json.loads((folder / "manifest.json").read_text())["template"]["name"] == "inst"


def test_what_a_run_takes_is_told_and_nothing_is_touched(config_of):
    config = config_of({"held_out_rows": 4, "max_seq_len": 60})
    plan = plan_run(config)
    estimate = plan.estimate
    memory, pace = estimate.memory, estimate.pace
    num_bytes = 4 * sum(p.numel() for p in tiny_model().parameters())
    assert memory.weights == pytest.approx(num_bytes, rel=0.01)
    assert memory.optimizer == 2 * num_bytes
    assert memory.peak == sum(getattr(memory, name) for name in memory.__slots__)
    assert estimate.fits
    assert estimate.suggestions == []
    assert 0 < pace.per_step < pace.per_epoch < pace.total
    assert pace.total == pytest.approx(2 * pace.per_epoch + pace.held_out)
    assert pace.per_epoch == pytest.approx(plan.num_steps / 2 * pace.per_step)
    text = shown(plan)
    assert "at the peak, of" in text
    assert "a step" in text


def test_the_peak_is_about_what_the_run_then_takes(config_of):
    sizes = {"batch_size": 12, "micro_batch_size": 12}
    config = config_of(training={"epochs": 1, "layout": "padded", **sizes})
    planned = plan_run(config).estimate.memory
    with peak_during(torch.device("cpu")) as peak:
        run_training(config)
    assert planned.needed == pytest.approx(peak[0], rel=0.3)


def test_the_largest_micro_batch_is_the_planned_one(config_of):
    sizes = {"batch_size": 12, "micro_batch_size": 12}
    config = config_of(training={"epochs": 1, "layout": "padded", **sizes})
    plan = plan_run(config, measure=False)
    assert plan.estimate.num_rows == 12
    assert plan.estimate.num_tokens == 12 * plan.ledgers["train"].longest


def test_without_measuring_there_is_no_time(config_of):
    plan = plan_run(config_of(), measure=False)
    assert plan.estimate.pace is None
    assert plan.estimate.measured is None
    assert plan.estimate.memory.activations > 0
    assert "not measured" in shown(plan)


def test_kept_states_of_frozen_layers_are_planned(config_of):
    method = {"name": "freeze", "num_frozen_layers": 1}
    kept = plan_run(config_of(method=method)).estimate
    assert kept.memory.cache > 0
    assert kept.pace.kept_states > 0
    training = {"epochs": 2, "batch_size": 5, "activation_cache_gb": 0.0}
    again = plan_run(config_of(method=method, training=training), measure=False).estimate
    assert again.memory.cache == 0


def test_measuring_leaves_weights_gradients_and_random_numbers(config_of):
    prepared = prepare(config_of(method="lora"))
    model = prepared.loaded.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = encode_parts(prepared).parts["train"]
    layout = Layout(True, "")
    state = torch.get_rng_state()
    bench = Bench(model, layout=layout, kept=KeptStates(model, layout), num_skipped=0)
    measured = bench.measure(rows, list(range(len(rows))))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(measured.samples) > 1
    assert measured.rate > 0
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_no_two_timed_passes_have_the_same_shape(config_of, monkeypatch):
    prepared = prepare(config_of())
    rows = encode_parts(prepared).parts["train"]
    layout = Layout(True, "")
    bench = Bench(
        prepared.loaded.model,
        layout=layout,
        kept=KeptStates(prepared.loaded.model, layout),
        num_skipped=0,
    )
    runs = []
    run = Bench._run
    monkeypatch.setattr(Bench, "_run", lambda self, part: runs.append(part) or run(self, part))
    bench.measure(rows, list(range(len(rows))))
    shapes = [(len(part), len(part.input_ids)) for part in runs[1:]]  # the first makes gradients
    assert len(shapes) > 4
    assert len(set(shapes)) == len(shapes)


def test_the_largest_pass_is_run_forward_where_there_is_no_time_for_all_of_it(
    config_of, monkeypatch
):
    prepared = prepare(config_of())
    rows = encode_parts(prepared).parts["train"]
    layout = Layout(True, "")
    model = prepared.loaded.model
    bench = Bench(model, layout=layout, kept=KeptStates(model, layout), num_skipped=0)
    runs, forwards = [], []
    run, forward = Bench._run, measuring.states_of
    monkeypatch.setattr(Bench, "_run", lambda self, part: runs.append(part) or run(self, part))
    monkeypatch.setattr(
        measuring, "states_of", lambda model, batch: forwards.append(batch) or forward(model, batch)
    )
    whole = layout.batch(rows, range(len(rows)))
    bench.measure(rows, list(range(len(rows))))
    assert max(len(part) for part in runs) == len(rows)
    assert forwards == []
    monkeypatch.setattr(measuring, "SECONDS", 1e-3)
    runs.clear()
    bench.measure(rows, list(range(len(rows))))
    assert max(len(part) for part in runs) < len(rows)
    assert forwards == []  # nor for that
    monkeypatch.setattr(measuring, "_PASSES_OF_WORK", 1e9)
    bench.measure(rows, list(range(len(rows))))
    assert [batch.input_ids.numel() for batch in forwards] == [whole.input_ids.numel()]


def test_a_run_that_does_not_fit_is_told_what_would_help(config_of, monkeypatch):
    monkeypatch.setattr("biddable.training.estimate.free_memory", lambda device: 0)
    monkeypatch.setattr("biddable.training.estimate.memory_in_use", lambda device: 1_500_000)
    plan = plan_run(config_of(training={"epochs": 1, "batch_size": 12}), measure=False)
    estimate = plan.estimate
    assert not estimate.fits
    assert plan.refusals == []  # training may still cut its passes
    changes = [suggestion.change.partition(":")[0] for suggestion in estimate.suggestions]
    assert {"training.micro_batch_size", "method", "training.gradient_checkpointing"} <= set(
        changes
    )
    for suggestion in estimate.suggestions:
        assert suggestion.saves == estimate.memory.needed - suggestion.needed > 0
    text = shown(plan)
    assert "does not fit" in text
    assert "What would help" in text


def test_a_smaller_micro_batch_saves_what_the_plan_of_it_says(config_of, monkeypatch):
    monkeypatch.setattr("biddable.training.estimate.free_memory", lambda device: 0)
    monkeypatch.setattr("biddable.training.estimate.memory_in_use", lambda device: 1_500_000)
    training = {"epochs": 1, "batch_size": 12}
    told = plan_run(config_of(training=training), measure=False).estimate.suggestions
    (smaller,) = [s for s in told if s.change.startswith("training.micro_batch_size: 1:")]
    changed = config_of(training={**training, "micro_batch_size": 1})
    assert plan_run(changed, measure=False).estimate.memory.needed == smaller.needed


def test_a_shorter_limit_saves_what_the_plan_of_it_says(config_of, monkeypatch):
    monkeypatch.setattr("biddable.training.estimate.free_memory", lambda device: 0)
    monkeypatch.setattr("biddable.training.estimate.memory_in_use", lambda device: 1_500_000)
    training = {"epochs": 1, "batch_size": 12, "micro_batch_size": 1}
    told = plan_run(config_of(training=training), measure=False).estimate.suggestions
    (shorter,) = [s for s in told if s.change.startswith("data.max_seq_len: ")]
    limit = int(shorter.change.split(":")[1])
    changed = plan_run(config_of({"max_seq_len": limit}, training=training), measure=False)
    assert changed.estimate.memory.needed == shorter.needed
    assert f"drops {12 - changed.num_kept} of 12 rows" in shorter.change


def short_of_memory(monkeypatch, plan, *, of=1_500_000):
    """Let the machine have so many bytes."""
    monkeypatch.setattr("biddable.training.estimate.memory_in_use", lambda device: 1_500_000)
    monkeypatch.setattr("biddable.training.estimate.free_memory", lambda device: of - 1_500_000)
    return plan().estimate


def of_formulas(estimate, needed=None):
    """Leave out the program, whose size is what is in use."""
    return (needed or estimate.memory.needed) - estimate.memory.program


@pytest.mark.parametrize("method", ["full", {"name": "freeze", "num_frozen_layers": 1}])
def test_an_adapter_takes_what_the_plan_of_it_says(config_of, monkeypatch, method):
    training = {"epochs": 1, "batch_size": 12, "activation_cache_gb": 0.0}
    config = config_of(method=method, training=training)
    told = short_of_memory(monkeypatch, lambda: plan_run(config, measure=False))
    (adapted,) = [
        s for s in told.suggestions if s.change.startswith("method: {name: lora, rank: 8}: ")
    ]
    lora = plan_run(config_of(method="lora", training=training), measure=False).estimate
    assert of_formulas(told, adapted.needed) == of_formulas(lora)


def test_frozen_layers_take_what_the_plan_of_them_says(config_of, monkeypatch):
    training = {"epochs": 1, "batch_size": 12, "activation_cache_gb": 0.0}
    config = config_of(training=training)
    told = short_of_memory(monkeypatch, lambda: plan_run(config, measure=False))
    setting = "method: {name: freeze, num_frozen_layers: 1}"
    (frozen,) = [s for s in told.suggestions if s.change == f"{setting}: 1 of 2 layers train"]
    method = {"name": "freeze", "num_frozen_layers": 1}
    plan = plan_run(config_of(method=method, training=training), measure=False).estimate
    assert of_formulas(told, frozen.needed) == of_formulas(plan)
    assert not [
        s
        for s in short_of_memory(
            monkeypatch,
            lambda: plan_run(config_of(method=method, training=training), measure=False),
        ).suggestions
        if "name: freeze" in s.change
    ]


def test_where_no_change_is_enough_several_are_told_as_one(config_of, monkeypatch):
    training = {"epochs": 1, "batch_size": 12, "micro_batch_size": 12}
    config = config_of(training=training)

    def plan():
        return plan_run(config, measure=False)

    alone = short_of_memory(monkeypatch, plan).suggestions
    least = min(s.needed for s in alone if " and " not in s.change)
    told = short_of_memory(monkeypatch, plan, of=least)
    together, *others = told.suggestions
    assert together.fits
    assert not any(s.fits for s in others)
    settings, _, effects = together.change.partition(": 1 of 2 layers train")
    settings, _, num_rows = settings.rpartition(": ")
    frozen = "method: {name: freeze, num_frozen_layers: 1}"
    assert settings == f"{frozen} and training.micro_batch_size"
    assert effects.endswith("; the same steps in more forward passes")
    training["micro_batch_size"] = int(num_rows)
    changed = config_of(method={"name": "freeze", "num_frozen_layers": 1}, training=training)
    changed = plan_run(changed, measure=False).estimate
    assert of_formulas(told, together.needed) == of_formulas(changed)


def test_rows_are_dropped_only_where_all_else_is_too_little(config_of, monkeypatch):
    config = config_of(training={"epochs": 1, "batch_size": 12})

    def told(of):
        plan = short_of_memory(monkeypatch, lambda: plan_run(config, measure=False), of=of)
        return plan.suggestions[0]

    least = told(1_500_000)
    assert "data.max_seq_len: " in least.change
    assert not least.fits
    enough = told(round(1.1 * least.needed / 0.95))
    assert "data.max_seq_len: " not in enough.change
    assert enough.fits


def test_recomputed_layers_are_planned_so(config_of):
    training = {"epochs": 1, "batch_size": 12}
    plain = plan_run(config_of(training=training), measure=False).estimate.memory
    training["gradient_checkpointing"] = True
    again = plan_run(config_of(training=training)).estimate
    assert again.pace.total > 0
    without = plan_run(config_of(training=training), measure=False).estimate.memory
    assert without.activations < plain.activations


def test_the_plan_as_json_has_its_keys(config_of):
    found = json.loads(json.dumps(plan_run(config_of()).as_json()))["estimate"]
    assert {"memory", "available", "fits", "pace", "measured", "suggestions"} <= found.keys()
    parts = {"program", "weights", "gradients", "optimizer", "activations", "logits", "cache"}
    assert parts | {"peak", "needed"} == found["memory"].keys()
    assert found["pace"].keys() >= {"per_step", "per_epoch", "total"}


def test_a_warm_up_that_is_longer_than_the_run_refuses(config_of):
    plan = plan_run(config_of(training={"batch_size": 5, "epochs": 1, "warmup_steps": 4}))
    assert plan.num_steps == 3
    assert plan.refusals[0].startswith("training.warmup_steps: found 4; the run has 3 steps")


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ({"name": "lora", "dropout": 0.1}, "dropout of 0.1 in model.layers.0.self_attn.q_proj"),
        ({"name": "lora"}, None),
    ],
)
def test_rows_that_cannot_share_their_starts_are_told_why(config_of, method, reason):
    plan = plan_run(config_of(method=method), measure=False)
    if reason:
        told = f"rows are padded, not laid out as trees: {reason}"
        assert plan.num_step_unique_tokens == plan.num_step_tokens
    else:
        told = "what rows of a forward pass have in common at their start is run once: "
        told += f"{plan.num_step_unique_tokens:,} tokens"
        assert plan.num_step_unique_tokens < plan.num_step_tokens
    assert told in " ".join(shown(plan).split())


def test_the_plan_of_several_processes_is_of_one_of_them(config_of):
    training = {"epochs": 1, "batch_size": 12}
    alone = plan_run(config_of(training=training), measure=False)
    whole = plan_run(config_of(training=training), measure=False, num_processes=4)
    training["sharding"] = "full"
    config = config_of(training=training)
    divided = plan_run(config, measure=False, num_processes=4)
    undivided = plan_run(config, measure=False).estimate.memory
    assert replace(undivided, program=0) == replace(alone.estimate.memory, program=0)
    assert whole.num_steps == divided.num_steps == alone.num_steps
    assert whole.estimate.memory.weights == alone.estimate.memory.weights
    assert whole.estimate.num_tokens < alone.estimate.num_tokens  # a part of the steps' rows
    quarter = alone.estimate.memory.optimizer / 4
    assert divided.estimate.memory.optimizer == pytest.approx(quarter, rel=1e-4)
    assert (divided.estimate.num_processes, divided.estimate.is_divided) == (4, True)
    assert divided.estimate.host == whole.estimate.memory.weights
    told = " ".join(shown(divided).split())
    assert "4, which divide the model; the memory is of one of them" in told
    assert f"in the CPU's memory first, {size_text(divided.estimate.host)}" in told
    assert whole.estimate.host == 0
    assert "4, which hold the whole model each" in shown(whole)


def test_several_processes_are_told_of_no_time(config_of):
    estimate = plan_run(config_of(), num_processes=2).estimate
    assert estimate.pace is None
    assert estimate.measured is not None


def test_several_processes_short_of_memory_are_told_to_divide(config_of, monkeypatch):
    monkeypatch.setattr("biddable.training.estimate.free_memory", lambda device: 0)
    monkeypatch.setattr("biddable.training.estimate.memory_in_use", lambda device: 1_500_000)
    training = {"epochs": 1, "batch_size": 12}
    config = config_of(training=training)
    estimate = plan_run(config, measure=False, num_processes=8).estimate
    (advice,) = [s for s in estimate.suggestions if s.change.startswith("training.sharding: full")]
    assert advice.saves == estimate.memory.needed - advice.needed > 0
    method = {"name": "lora", "rank": 64, "quantize_base": "int8"}  # refused if it were divided
    config = config_of(training=training, method=method)
    estimate = plan_run(config, measure=False, num_processes=8).estimate
    changes = [suggestion.change for suggestion in estimate.suggestions]
    assert changes
    assert not any("sharding" in change for change in changes)


def test_a_model_that_cannot_be_divided_is_refused_in_the_plan(config_of, monkeypatch):
    monkeypatch.setattr("biddable.training.sharding.is_small", lambda parameter: True)
    config = config_of(training={"epochs": 1, "batch_size": 5, "sharding": "full"})
    assert plan_run(config, measure=False).refusals == []
    (refusal,) = plan_run(config, measure=False, num_processes=2).refusals
    assert refusal.startswith("training.sharding: full: found weights in few bits")
