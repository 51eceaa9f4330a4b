import pytest
import torch

from biddable.config_training import TrainingConfig
from biddable.data.batching import BatchPlan
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.errors import TrainingError
from biddable.models.lora import apply_lora
from biddable.models.loss import MAX_LOGITS
from biddable.training import micro_batches
from biddable.training.micro_batches import FittingCuts, activation_bytes, is_out_of_memory
from biddable.training.trainer import train
from tests.tiny import in_exact_doubles, tiny_model
from tests.training.rows import random_examples


def limited(model, most, *, error=torch.OutOfMemoryError):
    """Let a model run out of memory above so many ids, in its backward pass if it has one."""
    sizes = []

    def check(module, args, kwargs, output):
        size = kwargs["input_ids"].numel()
        sizes.append(size)
        if size > most and torch.is_grad_enabled():
            output.last_hidden_state.register_hook(fail)
        elif size > most:
            fail(None)

    def fail(gradient):
        raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    model.model.register_forward_hook(check, with_kwargs=True)
    return sizes


def run(model, *, examples=None, held_out=(), **settings):
    events = []
    values = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3} | settings
    log = train(
        model,
        examples or random_examples(20),
        settings=TrainingConfig(**values),
        held_out=held_out,
        on_event=events.append,
    )
    steps = [record for record in log.records if record["event"] == "step"]
    notes = [record["text"] for record in log.records if record["event"] == "note"]
    assert notes == [event["text"] for event in events if event["event"] == "note"]
    return steps, notes


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 5}, {"layout": "padded"}])
def test_a_step_that_does_not_fit_is_taken_again_in_halves_and_comes_to_the_same(
    error, settings, monkeypatch
):
    in_exact_doubles(monkeypatch)
    whole = tiny_model(dtype=torch.float64)
    expected, notes = run(whole, **settings)
    assert notes == []
    model = tiny_model(dtype=torch.float64)
    sizes = limited(model, 40, error=error)
    steps, notes = run(model, **settings)
    assert max(sizes) > 40  # it did run out
    assert "out of memory with micro-batches of up to" in notes[0]
    assert max(sizes[-8:]) <= 40  # and does so no more
    for key in ("step", "epoch", "num_tokens", "num_loss_tokens", "lr"):
        assert [r[key] for r in steps] == [r[key] for r in expected]
    for key in ("loss", "grad_norm"):
        ours, theirs = [r[key] for r in steps], [r[key] for r in expected]
        assert ours == pytest.approx(theirs, rel=1e-10, abs=1e-12)
    weights = zip(model.parameters(), whole.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in weights)


def test_a_start_that_all_rows_share_is_run_again_with_the_step(monkeypatch):
    in_exact_doubles(monkeypatch)
    start = list(range(20, 32))
    examples = [
        Example(start + row.input_ids, [False] * 12 + row.loss_mask, row.source)
        for row in random_examples(16)
    ]
    plan = BatchPlan(examples, batch_size=8, micro_batch_size=5, is_tree=True)
    assert all(step.trunk >= 12 for step in plan)
    runs = []
    for most in (10**9, 50):
        model = tiny_model(dtype=torch.float64)
        limited(model, most)
        runs.append(run(model, examples=examples, micro_batch_size=5))
    assert [len(notes) > 0 for _, notes in runs] == [False, True]
    expected, found = ([record["loss"] for record in steps] for steps, _ in runs)
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_failed_attempt_draws_nothing_from_the_random_state(monkeypatch):
    """With dropout, a run that fails once equals the one that starts with the smaller size."""

    def losses(most):
        torch.manual_seed(3)
        model = tiny_model()
        apply_lora(model, rank=2, dropout=0.5)
        limited(model, most)
        steps, notes = run(model, examples=random_examples(8), epochs=3, learning_rate=0.1)
        return [record["loss"] for record in steps], notes

    failing, notes = losses(40)
    limit = int(notes[-1].split("up to ")[-1].split(".")[0])

    def start_small(cuts, *args, **kwargs):
        cuts.limit = limit

    monkeypatch.setattr(FittingCuts, "choose_start", start_small)
    assert losses(40) == (failing, [])


def test_the_held_out_rows_are_measured_in_smaller_groups_too():
    examples = random_examples(12)
    whole, small = tiny_model(dtype=torch.float64), tiny_model(dtype=torch.float64)
    log = train(whole, examples, settings=TrainingConfig(epochs=1), held_out=examples)
    limited(small, 60)
    events = []
    found = train(
        small,
        examples,
        settings=TrainingConfig(epochs=1),
        held_out=examples,
        on_event=events.append,
    )
    assert found.held_out_losses == pytest.approx(log.held_out_losses, rel=1e-10)
    kinds = [event["event"] for event in events]
    assert kinds[kinds.index("held_out") + 1] == "note"


def test_a_row_that_does_not_fit_alone_is_named_and_no_weight_is_touched():
    model = tiny_model()
    before = [p.detach().clone() for p in model.parameters()]
    limited(model, 10)
    with pytest.raises(TrainingError, match=r"one row of \d+ tokens \(rows\.jsonl:\d+\)\. Lower"):
        run(model, examples=random_examples(8))
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_another_error_is_not_taken_for_a_lack_of_memory():
    model = tiny_model()
    model.lm_head.weight.data = model.lm_head.weight.data[:, :-1]
    with pytest.raises(RuntimeError, match="shape"):
        run(model)
    assert not is_out_of_memory(RuntimeError("no"))


def test_the_first_size_comes_from_what_is_free(monkeypatch):
    in_exact_doubles(monkeypatch)
    expected, _ = run(tiny_model(dtype=torch.float64))
    monkeypatch.setattr(micro_batches, "free_for_activations", lambda model: 1_500_000)
    model = tiny_model(dtype=torch.float64)
    sizes = limited(model, 10**9)
    steps, notes = run(model)
    assert len(notes) == 1
    assert "are free for micro-batches, so they have up to" in notes[0]
    limit = int(notes[0].split("up to ")[1].split()[0].replace(",", ""))
    longest = max(len(example.input_ids) for example in random_examples(20))
    assert max(sizes) <= max(limit, longest) < 80
    assert [r["loss"] for r in steps] == pytest.approx([r["loss"] for r in expected], rel=1e-10)


def test_weights_and_logits_have_their_room_first(monkeypatch):
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: 10**9)
    model = tiny_model()
    model.model.embed_tokens.requires_grad_(False)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    left = 900_000_000 - 3 * 4 * trained - 2 * 4 * MAX_LOGITS
    assert micro_batches.free_for_activations(model) == left


def test_a_size_that_was_given_is_kept_until_it_fails(monkeypatch):
    monkeypatch.setattr(micro_batches, "free_memory", lambda device: 0)
    sizes = limited(tiny := tiny_model(), 10**9)
    _, notes = run(tiny, micro_batch_size=8)
    assert notes == []
    assert max(sizes) > 60


def test_activations_are_counted_once_and_weights_are_not():
    weight = torch.nn.Parameter(torch.ones(100, 100))
    model = torch.nn.Module()
    model.weight = weight
    x = torch.ones(50, 100)

    def forward():
        hidden = x @ weight  # keeps x
        return (hidden * hidden + hidden * 2).sum(), torch.ones(())  # keeps hidden, twice

    expected = 2.2 * (x.nbytes + 50 * 100 * 4)
    assert activation_bytes(model, forward) == pytest.approx(expected, rel=0.01)


def test_a_token_that_rows_share_counts_once_in_a_tree():
    rows = EncodedRows.of([Example([1, 2, 3, 4, n], [False] * 4 + [True]) for n in range(5, 9)])
    for is_tree, expected in ((True, [(0, 1, 2), (3,)]), (False, [(0,), (1,), (2,), (3,)])):
        cuts = FittingCuts(rows, is_tree=is_tree, tell=lambda event: None)
        cuts.limit = 7
        assert cuts.cut([(0, 1, 2, 3)]) == expected


def test_cuts_keep_the_order_and_the_limit():
    rows = EncodedRows.of(random_examples(20))
    cuts = FittingCuts(rows, is_tree=False, tell=lambda event: None)
    groups = [tuple(range(12)), tuple(range(12, 20))]
    assert cuts.cut(groups) == groups
    cuts.limit = 45
    cut = cuts.cut(groups)
    assert [row for group in cut for row in group] == list(range(20))
    sizes = [len(group) * max(rows.lengths[list(group)]) for group in cut]
    assert max(sizes) <= 45
    assert len(cut) > len(groups)
