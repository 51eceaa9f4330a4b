"""Let two processes differ, and see that both come to the same end."""

import json
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from biddable.config_training import TrainingConfig
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import ConfigError, TrainingError
from biddable.models.lora import apply_lora
from biddable.training import passes, trainer
from biddable.training.distributed import ALONE
from biddable.training.layout import Layout, planned_steps
from biddable.training.venue import Venue
from tests.tiny import in_exact_doubles, tiny_model
from tests.training.rows import questions_on_documents, random_examples
from tests.training.test_distributed import TIMEOUT_S, free_port, open_world

pytestmark = pytest.mark.slow  # two processes that import torch

SETTINGS = TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-3, on_nonfinite="skip")


def losses(log):
    return [r["loss"] for r in log.records if r["event"] in ("step", "held_out")]


def weight_sum(model):
    return sum(float(p.detach().abs().sum()) for p in model.parameters())


def with_a_bad_loss(world, *, settings=SETTINGS):
    """Let the second process find a loss that is no number in its second step."""
    model, calls = tiny_model(), []
    compute = passes.accumulate_gradient

    def spoilt(*given, **named):
        calls.append(1)
        loss = compute(*given, **named)
        return loss * float("nan") if world.rank == 1 and len(calls) == 2 else loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "accumulate_gradient", spoilt)
        log = trainer.train(model, random_examples(16), settings=settings, venue=Venue(world=world))
    skipped = [[r["step"], r["names"]] for r in log.records if r["event"] == "skip"]
    return {"skipped": skipped, "losses": losses(log), "weights": weight_sum(model)}


def with_a_bad_loss_that_ends_it(world):
    stops = SETTINGS.model_copy(update={"on_nonfinite": "stop"})
    with pytest.raises(TrainingError) as caught:
        with_a_bad_loss(world, settings=stops)
    return str(caught.value)


def with_another_run(world):
    with pytest.raises(ConfigError) as caught:
        world.require_same({"config: seed": str(world.rank), "base": "a"})
    return str(caught.value)


def with_trunks(world):
    """Train on rows that have 12 ids in common, in micro-batches of one row."""
    start = list(range(40, 52))
    rows = [
        Example(start + r.input_ids, [False] * len(start) + r.loss_mask, r.source)
        for r in random_examples(10)
    ]
    settings = TrainingConfig(epochs=1, batch_size=4, learning_rate=1e-3, micro_batch_size=1)
    model = tiny_model(dtype=torch.float64)
    layout = Layout.choose(model, settings)
    steps = planned_steps(EncodedRows.of(rows), settings=settings, seed=0, layout=layout)
    log = trainer.train(model, rows, settings=settings, held_out=rows[:3], venue=Venue(world=world))
    trunks = [step.trunk for step in steps]
    return {"trunks": trunks, "losses": losses(log), "weights": weight_sum(model)}


def with_rows_kept_together(world):
    """Train on questions on documents, those on one in one step."""
    rows, model = questions_on_documents(6, 3), tiny_model(dtype=torch.float64)
    settings = SETTINGS.model_copy(update={"keep_together": True, "batch_size": 6})
    log = trainer.train(model, rows, settings=settings, venue=Venue(world=world))
    steps = [record for record in log.records if record["event"] == "step"]
    return {
        "rows": [step["rows"] for step in steps],
        "losses": losses(log),
        "weights": weight_sum(model),
    }


def with_dropout(world):
    """Train an adapter with dropout twice, and draw the next random number of each process."""
    found = []
    for _ in range(2):
        model = tiny_model()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            apply_lora(model, rank=2, dropout=0.5)
        log = trainer.train(model, random_examples(8), settings=SETTINGS, venue=Venue(world=world))
        found.append({"losses": losses(log), "weights": weight_sum(model)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        world.seed_step(0, 1)
        found.append(float(torch.rand(())))
    return found


SCENES = (with_a_bad_loss, with_a_bad_loss_that_ends_it, with_another_run, with_dropout)


def worker(rank, port, folder):
    world = open_world(rank, port)
    found = {scene.__name__: scene(world) for scene in SCENES}
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found["with_trunks"] = with_trunks(world)
        found["with_rows_kept_together"] = with_rows_kept_together(world)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    world.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Run all scenes in two processes, once."""
    folder = tmp_path_factory.mktemp("both")
    running = multiprocessing.spawn(worker, (free_port(), str(folder)), nprocs=2, join=False)
    assert running.join(timeout=TIMEOUT_S) or running.join(timeout=TIMEOUT_S)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_loss_that_is_no_number_on_one_leaves_the_step_out_on_both(both):
    first, second = (found["with_a_bad_loss"] for found in both)
    assert first == second
    ((step, names),) = first["skipped"]
    assert step == 2
    assert names
    assert len(first["losses"]) == 3


def test_a_loss_that_is_no_number_on_one_ends_both_with_the_same_words(both):
    first, second = (found["with_a_bad_loss_that_ends_it"] for found in both)
    assert first == second
    assert "step 2: the loss is nan" in first
    assert "rows.jsonl:" in first


def test_a_process_with_another_run_is_named_on_both(both):
    first, second = (found["with_another_run"] for found in both)
    assert first == second
    assert "rank 1 of 2 has another run than rank 0: seed was 0, and is 1." in first


def test_trunks_shared_by_the_rows_of_two_processes_come_to_the_losses_of_one(both, monkeypatch):
    in_exact_doubles(monkeypatch)
    expected = with_trunks(ALONE)
    assert all(trunk >= 12 for trunk in expected["trunks"])
    for found in both:
        assert found["with_trunks"]["losses"] == pytest.approx(expected["losses"], rel=1e-10)
        assert found["with_trunks"]["weights"] == pytest.approx(expected["weights"], rel=1e-10)


def test_rows_kept_together_by_two_processes_are_those_of_one(both, monkeypatch):
    in_exact_doubles(monkeypatch)
    expected = with_rows_kept_together(ALONE)
    for found in (scenes["with_rows_kept_together"] for scenes in both):
        assert found["rows"] == expected["rows"]
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-10)
        assert found["weights"] == pytest.approx(expected["weights"], rel=1e-10)


def test_dropout_is_of_each_process_its_own_and_the_same_in_every_run(both):
    (one, again, drawn), (other, _, other_drawn) = (found["with_dropout"] for found in both)
    assert one == again == other
    assert drawn != other_drawn
