"""Measure and ask a model that two processes divide, and hold that neither gathers it whole."""

import weakref
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup

from biddable.config_training import TrainingConfig
from biddable.config_watch import WatchConfig
from biddable.data.templates import get_template
from biddable.errors import RunStopped, TrainingError
from biddable.models import attention
from biddable.models.loading import LoadedModel
from biddable.training.distributed import ALONE
from biddable.training.held_out import held_out_loss
from biddable.training.layout import Layout
from biddable.training.samples import SampleAnswers
from biddable.training.sharding import Sharding
from biddable.training.trainer import train
from biddable.training.venue import Venue
from tests.tiny import in_exact_doubles, tiny_gpt2, tiny_model, tiny_tokenizer
from tests.training.rows import random_examples
from tests.training.test_distributed import open_world
from tests.training.test_sharding import in_two

LAYERS = 5
FULL = TrainingConfig(sharding="full")
COUNTS = (1, 3, 400)  # rows: of one process alone, one pass of each, one process with two


@contextmanager
def gathered_at_once():
    """Record how many parts of a model, its layers one by one, are whole at a time."""
    live, most = set(), [0]
    to_unsharded, to_sharded = FSDPParamGroup._to_unsharded, FSDPParamGroup._to_sharded

    def gather(group):
        to_unsharded(group)
        live.add(id(group))
        most[0] = max(most[0], len(live))

    def let_go(group):
        to_sharded(group)
        live.discard(id(group))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FSDPParamGroup, "_to_unsharded", gather)
        patch.setattr(FSDPParamGroup, "_to_sharded", let_go)
        yield most
    assert not live


def models():
    yield "llama", tiny_model(dtype=torch.float64, num_layers=LAYERS)
    yield "tied", tiny_model(dtype=torch.float64, num_layers=LAYERS, tie=True)
    yield "gpt2", tiny_gpt2(dtype=torch.float64)


def measured(model, world):
    rows = random_examples(max(COUNTS), seed=1)
    layout = Layout.choose(model, FULL)
    return [held_out_loss(model, rows[:count], layout=layout, world=world) for count in COUNTS]


def stopped_at(model, world):
    """Ask one process to stop at its second pass, and give at which both did."""
    calls, rows = [], random_examples(max(COUNTS), seed=1)

    def ask():
        calls.append(1)
        if world.rank == 1 and len(calls) == 2:
            raise RunStopped("stopped by SIGTERM", exit_code=143)

    with pytest.raises(RunStopped, match="stopped by SIGTERM"):
        held_out_loss(model, rows, before_batch=ask, world=world)
    return len(calls)


def answers(model, world):
    """Ask prompts that end at different lengths, some read as a tree of their starts."""
    tokenizer = tiny_tokenizer()
    loaded = LoadedModel(model, tokenizer, name="tiny", source="tiny")
    long = "Say this very long text once more, with all of its words, and then say: "
    prompts = ("Hi", *(long * 3 + word for word in ("one", "two", "three")))
    settings = WatchConfig(prompts=prompts, max_new_tokens=12)
    asked = SampleAnswers(settings, loaded, get_template("inst", tokenizer), world=world)
    return [(record["answer"], record["num_tokens"]) for record in asked(0, True)]


def require_let_go(model, world):
    """Divide a model, its numbers those of rank 0, which keeps none of what it has handed out."""
    if not world.is_main:
        torch._foreach_zero_([t.data for t in (*model.parameters(), *model.buffers())])
    before = [weakref.ref(p) for p in model.parameters()]
    Sharding.choose(model, FULL, world)
    assert not any(ref() is not None for ref in before)
    assert not any(p.is_meta for p in model.parameters())


def worker(rank, port, folder):
    world = open_world(rank, port)
    with pytest.MonkeyPatch.context() as patch:
        in_exact_doubles(patch)
        found = {}
        for kind, model in models():
            require_let_go(model, world)
            with gathered_at_once() as most:
                found[kind] = (measured(model, world), answers(model, world), most[0])
                assert stopped_at(model, world) == 2
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


def test_losses_and_answers_of_a_divided_model_are_made_layer_by_layer(tmp_path, monkeypatch):
    both = in_two(worker, tmp_path)
    in_exact_doubles(monkeypatch)
    for kind, model in models():
        wanted, asked = measured(model, ALONE), answers(model, ALONE)
        for found in both:
            losses, told, most = found[kind]
            assert [count for _, count in losses] == [count for _, count in wanted]
            assert [loss for loss, _ in losses] == pytest.approx([w for w, _ in wanted], rel=1e-10)
            assert told == asked
            assert most <= 3  # the embeddings and what stands by them, the head, and a layer


def spoiled_worker(rank, port, folder):
    world = open_world(rank, port)

    def run_out(*_, **__):
        raise torch.OutOfMemoryError("nothing is left")

    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr(attention, "build_tree", run_out)
        with pytest.raises(TrainingError) as raised:
            train(tiny_model(), random_examples(4), settings=FULL, venue=Venue(world=world))
    torch.save(str(raised.value), Path(folder, f"{rank}.pt"))


def test_memory_that_runs_out_on_one_process_as_the_layout_is_tried_ends_both(tmp_path):
    first, second = in_two(spoiled_worker, tmp_path)
    assert "rank 1 of 2: nothing is left" in second
    assert first.count("rank ") == second.count("rank ") == 1
