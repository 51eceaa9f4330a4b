import inspect
import time

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from biddable.models.generation import generate
from biddable.serving.engine import Engine, EngineThread
from biddable.serving.requests import Asked, Ended, EngineLimits, Piece, QueueFull
from tests.models.test_rope import switching_model
from tests.serving.served import tiny_loaded

SHARED = [0, *range(40, 60)]
PROMPTS = [
    [5, 6, 7],
    [9],
    [*SHARED, 11, 12, 13],
    [8, 8],
    [*SHARED, 30],
    list(range(20, 120)),
    [31, 30],
]


class Heard:
    def __init__(self):
        self.text, self.tokens, self.ended = "", [], None

    def __call__(self, event):
        assert self.ended is None
        if isinstance(event, Ended):
            self.ended = event
        else:
            assert isinstance(event, Piece)
            self.text += event.text
            self.tokens += event.tokens


def ask(engine, ids, **how):
    heard = Heard()
    how = {"max_new_tokens": 20, "stop_ids": frozenset(), **how}
    (heard.ticket,) = engine.submit([Asked(ids, **how)], [heard])
    return heard


def finish(engine):
    with torch.inference_mode():
        while engine.has_work:
            engine.turn()


def alone(loaded, ids, **how):
    how = {"max_new_tokens": 20, "stop_ids": [], **how}
    (found,) = generate(loaded.model, [ids], **how)
    return loaded.tokenizer.decode(found.ids, clean_up_tokenization_spaces=False), found


def in_turns(engine, asks):
    """Submit requests some turns apart, so that each joins others at a different place."""
    heard = []
    with torch.inference_mode():
        for number, act in enumerate(asks):
            heard.append(act())
            for _ in range(number % 4):
                engine.turn()
    finish(engine)
    return heard


def mistral_with_a_window():
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 300}
    return MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=6)).eval().double()


def gpt2():
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=256)
    config.initializer_range = 0.2
    return GPT2LMHeadModel(config).eval().double()


@pytest.mark.parametrize("make", [None, gpt2, mistral_with_a_window])
@pytest.mark.parametrize("most_running", [1, 3, 16])
def test_answers_that_share_a_batch_are_those_of_each_prompt_alone(make, most_running):
    loaded = tiny_loaded(model=make and make())
    ends = [{}, {"stop_ids": frozenset(alone(loaded, PROMPTS[1])[1].ids[5:6])}]
    engine = Engine(loaded, limits=EngineLimits(most_running=most_running))
    wanted = [(p, ends[n % 2], 3 + 5 * (n % 5)) for n, p in enumerate(PROMPTS * 3)]
    found = in_turns(
        engine,
        [lambda w=w: ask(engine, w[0], max_new_tokens=w[2], **w[1]) for w in wanted],
    )
    for heard, (prompt, how, limit) in zip(found, wanted, strict=True):
        text, expected = alone(loaded, prompt, max_new_tokens=limit, **how)
        assert heard.text == text
        assert heard.ended == Ended("stop" if expected.stopped else "length", len(expected.ids))


def test_draws_are_those_of_generate_whoever_else_is_in_the_batch():
    loaded = tiny_loaded()
    engine = Engine(loaded)
    how = {"temperature": 1.3, "top_p": 0.9}
    found = in_turns(
        engine, [lambda n=n, p=p: ask(engine, p, seed=n, **how) for n, p in enumerate(PROMPTS)]
    )
    assert [h.text for h in found] == [
        alone(loaded, p, seed=n, **how)[0] for n, p in enumerate(PROMPTS)
    ]
    several = [ask(engine, PROMPTS[0], seed=7, number=n, **how) for n in range(3)]
    finish(engine)
    together = generate(
        loaded.model, [PROMPTS[0]] * 3, stop_ids=[], max_new_tokens=20, seed=7, **how
    )
    assert [h.text for h in several] == loaded.tokenizer.batch_decode([g.ids for g in together])
    assert len({h.text for h in several}) == 3


def test_a_temperature_that_float32_cannot_hold_is_none_at_all():
    loaded = tiny_loaded()
    engine = Engine(loaded)
    heard = ask(engine, PROMPTS[0], temperature=5e-324)
    finish(engine)
    assert heard.text == alone(loaded, PROMPTS[0])[0]


def test_the_cache_holds_no_more_places_than_the_longest_row_needs():
    engine = Engine(tiny_loaded())
    ask(engine, PROMPTS[5], max_new_tokens=2)
    with torch.inference_mode():
        for n in range(40):
            ask(engine, [n + 1, 2], max_new_tokens=6)
            engine.turn()
            engine.turn()
        layer = engine._batch._cache.layers[0]
        assert layer.keys.shape[2] <= 8
        assert layer._key_store.shape[2] <= 8 + 64
    finish(engine)


def test_a_row_that_was_read_from_a_shared_start_keeps_its_first_ids_when_others_join():
    """Padding lies between that start and the rest of a shorter prompt, not before all of it."""
    loaded = tiny_loaded()
    engine = Engine(loaded)
    longer = ask(engine, [*SHARED, 11, 12, 13], max_new_tokens=2)
    shorter = ask(engine, [*SHARED, 30], top_logprobs=0)
    with torch.inference_mode():
        for _ in range(3):
            engine.turn()
        assert longer.ended is not None
        ask(engine, PROMPTS[0])
    finish(engine)
    lone = Engine(loaded)
    expected = ask(lone, [*SHARED, 30], top_logprobs=0)
    finish(lone)
    found, told = ([token.logprob for token in each.tokens] for each in (shorter, expected))
    assert found == pytest.approx(told, abs=1e-9)


def test_a_batch_is_bounded_in_rows_and_in_places():
    engine = Engine(tiny_loaded(), limits=EngineLimits(most_running=4, most_places=240))
    heard = [ask(engine, [1, 2], max_new_tokens=10) for _ in range(6)]
    heard.append(ask(engine, PROMPTS[5], max_new_tokens=100))  # alone it is let in all the same
    most = 0
    with torch.inference_mode():
        while engine.has_work:
            engine.turn()
            most = max(most, engine.num_running)
            if engine.num_running > 1:
                assert heard[-1].text == ""
    assert most == 4
    assert all(h.ended.reason == "length" for h in heard)


def test_a_queue_takes_all_of_a_request_or_none_of_it():
    engine = Engine(tiny_loaded(), limits=EngineLimits(most_running=2, most_waiting=1))
    asked = [Asked([1], frozenset(), max_new_tokens=2)] * 4
    with pytest.raises(QueueFull, match="at most 1 may"):
        engine.submit(asked, [Heard() for _ in asked])
    assert not engine.has_work
    engine.submit(asked[:3], [Heard() for _ in asked[:3]])
    with pytest.raises(QueueFull):
        ask(engine, [1])
    finish(engine)
    ask(engine, [1])


def test_who_is_cancelled_or_late_leaves_and_nobody_else_notices():
    loaded = tiny_loaded()
    engine = Engine(loaded, limits=EngineLimits(most_running=4))
    stays, goes = ask(engine, PROMPTS[0]), ask(engine, PROMPTS[1])
    late = ask(engine, PROMPTS[3], deadline=time.monotonic() - 1)
    waits = [ask(engine, PROMPTS[6]) for _ in range(3)]
    with torch.inference_mode():
        for _ in range(4):
            engine.turn()
        goes.ticket.cancel()
        waits[-1].ticket.cancel()
        engine.turn()
    assert late.ended == Ended("timeout", 0)
    assert goes.ended == Ended("cancelled", 4)
    assert waits[-1].ended.reason == "cancelled"
    finish(engine)
    assert stays.text == alone(loaded, PROMPTS[0])[0]
    assert waits[0].text == alone(loaded, PROMPTS[6])[0]


def test_a_model_that_fails_ends_the_answers_and_the_engine_goes_on(monkeypatch):
    loaded = tiny_loaded()
    engine = Engine(loaded)
    first = ask(engine, PROMPTS[0])
    with torch.inference_mode():
        engine.turn()
        monkeypatch.setattr(loaded.model, "forward", lambda input_ids, **_: 1 / 0, raising=True)
        second = ask(engine, PROMPTS[1])
        engine.turn()
    assert first.ended.reason == second.ended.reason == "error"
    assert "ZeroDivisionError" in first.ended.message
    monkeypatch.undo()
    third = ask(engine, PROMPTS[1])
    finish(engine)
    assert third.text == alone(loaded, PROMPTS[1])[0]


def failing_at(loaded, monkeypatch, is_wrong):
    forward = loaded.model.forward

    def fails(input_ids, **given):
        if is_wrong(input_ids):
            raise ValueError("not these")
        return forward(input_ids=input_ids, **given)

    # RunningRows asks the signature what may be given
    fails.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(loaded.model, "forward", fails)


def test_a_step_that_fails_for_one_answer_ends_no_other(monkeypatch):
    loaded = tiny_loaded()
    expected = [alone(loaded, prompt)[0] for prompt in PROMPTS[:2]]
    engine = Engine(loaded)
    good, bad, late = ask(engine, PROMPTS[0]), ask(engine, [99, 3]), ask(engine, PROMPTS[1])
    with torch.inference_mode():
        for _ in range(4):
            engine.turn()
    failing_at(loaded, monkeypatch, lambda ids: len(ids) == 3 or 99 in ids)
    finish(engine)
    assert [good.text, late.text] == expected
    assert good.ended.reason == late.ended.reason == "length"
    assert (bad.ended.reason, bad.ended.message) == ("error", "ValueError: not these")
    assert bad.ended.num_tokens == 5


def test_a_prompt_that_cannot_be_read_ends_no_other_that_came_with_it(monkeypatch):
    loaded = tiny_loaded()
    expected = alone(loaded, PROMPTS[0])[0]
    failing_at(loaded, monkeypatch, lambda ids: 99 in ids)
    engine = Engine(loaded)
    good, bad = ask(engine, PROMPTS[0]), ask(engine, [99, 3])
    finish(engine)
    assert (good.text, bad.ended.reason, bad.ended.num_tokens) == (expected, "error", 0)


def test_who_cannot_listen_harms_no_other():
    loaded = tiny_loaded()
    engine = Engine(loaded)
    good = ask(engine, PROMPTS[0])

    def closed(event):
        raise RuntimeError("the loop is closed")

    engine.submit([Asked([9], frozenset(), max_new_tokens=5)], [closed])
    finish(engine)
    assert good.text == alone(loaded, PROMPTS[0])[0]


@pytest.mark.parametrize("make", [None, mistral_with_a_window, gpt2])
def test_answers_go_on_while_a_long_prompt_is_read_and_a_common_start_is_read_once(
    monkeypatch, make
):
    monkeypatch.setattr("biddable.serving.long_prompts._PIECE", 16)
    monkeypatch.setattr("biddable.serving.long_prompts._WORTH_TAKING", 8)
    loaded = tiny_loaded(model=make and make())
    long = [[*range(20, 100), 5, 6], [*range(20, 100), 7], [*range(20, 40), *range(60, 90)]]
    expected = [alone(loaded, prompt)[0] for prompt in (PROMPTS[0], *long)]
    engine = Engine(loaded)
    running = ask(engine, PROMPTS[0])
    with torch.inference_mode():
        engine.turn()
        waiting = [ask(engine, prompt) for prompt in long]
        read = []
        failing_at(loaded, monkeypatch, lambda ids: read.append(ids.numel()))
        engine.turn()
        assert (engine.num_running, engine.num_waiting) == (4, 0)
        assert read == [16, 1]  # a piece, and the next id of who is running
        engine.turn()
    finish(engine)
    assert [each.text for each in (running, *waiting)] == expected
    assert max(read) <= 16
    assert sum(n for n in read if n > 4) == 80 + 30  # of 82, 81 and 50 ids


def test_rows_that_grow_over_a_limit_of_their_angles_are_answered_as_alone(monkeypatch):
    monkeypatch.setattr("biddable.serving.long_prompts._PIECE", 6)
    monkeypatch.setattr("biddable.serving.long_prompts._WORTH_TAKING", 4)
    loaded = tiny_loaded(model=switching_model("longrope"))  # the limit is 16
    start = list(range(40, 50))
    prompts = [[5, 6, 7], [*start, *range(12)], [*start, 3], [9, 8], [*start, 60, 61]]
    engine = Engine(loaded)
    found = in_turns(engine, [lambda p=p: ask(engine, p) for p in prompts])
    expected = [alone(loaded, prompt)[0] for prompt in prompts]
    assert [heard.text for heard in found] == expected


def test_a_long_prompt_is_given_up_or_fails_alone_while_it_is_read(monkeypatch):
    monkeypatch.setattr("biddable.serving.long_prompts._PIECE", 16)
    loaded = tiny_loaded()
    expected = alone(loaded, PROMPTS[0])[0]
    failing_at(loaded, monkeypatch, lambda ids: 99 in ids)
    engine = Engine(loaded)
    good = ask(engine, PROMPTS[0])
    gone, late = ask(engine, range(20, 90)), ask(engine, range(20, 90), deadline=0.0)
    bad = ask(engine, range(60, 110))
    with torch.inference_mode():
        engine.turn()
        gone.ticket.cancel()
    finish(engine)
    reasons = [each.ended.reason for each in (gone, late, bad)]
    assert (good.text, reasons) == (expected, ["cancelled", "timeout", "error"])


def test_texts_that_end_an_answer_are_not_told_nor_any_part_of_them():
    loaded = tiny_loaded()
    whole = alone(loaded, PROMPTS[0])[0]
    stop = whole[9:13]
    at = whole.index(stop)
    engine = Engine(loaded)
    heard = ask(engine, PROMPTS[0], stops=("never", stop))
    finish(engine)
    assert heard.text == whole[:at]
    assert heard.ended.reason == "stop"
    assert heard.ended.num_tokens < 20


def test_told_probabilities_are_those_of_the_model():
    loaded = tiny_loaded()
    engine = Engine(loaded)
    heard = ask(engine, PROMPTS[0], top_logprobs=3, max_new_tokens=4)
    finish(engine)
    ids = alone(loaded, PROMPTS[0])[1].ids[:4]
    logits = loaded.model(torch.tensor([PROMPTS[0] + ids])).logits[0].detach()
    scores = logits.log_softmax(-1)[len(PROMPTS[0]) - 1 : -1]
    assert "".join(token.text for token in heard.tokens) == heard.text
    for n, token in enumerate(heard.tokens):
        assert token.logprob == pytest.approx(float(scores[n, ids[n]]), abs=1e-5)
        best = scores[n].topk(3).values.tolist()
        assert [other.logprob for other in token.others] == pytest.approx(best, abs=1e-5)


def test_engines_run_by_turns_on_one_thread_until_it_is_closed():
    engines = [Engine(tiny_loaded(seed)) for seed in (3, 4)]
    thread = EngineThread(engines)
    heard = [[ask(engine, p) for p in PROMPTS] for engine in engines]
    while not all(h.ended for of in heard for h in of):
        time.sleep(0.01)
    for engine, told in zip(engines, heard, strict=True):
        assert [h.text for h in told] == [alone(engine.loaded, p)[0] for p in PROMPTS]
    left = ask(engines[0], PROMPTS[0], max_new_tokens=None)
    thread.close()
    assert left.ended.reason in ("timeout", "length")
    assert not thread._thread.is_alive()
