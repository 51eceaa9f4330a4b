"""Hold that a streamed answer is the one that `generate` gives, whatever was read before it."""

from __future__ import annotations

import pytest

from biddable.errors import DataError
from biddable.models.generation import generate
from biddable.serving.streaming import Sampling, TokenStream
from tests.models.test_rope import SWITCHING, switching_model
from tests.tiny import tiny_gpt2, tiny_model

PROMPT = [0, 41, 52, 63, 74]
MODELS = {"llama": tiny_model, "gpt2": tiny_gpt2}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.5, 1.0), (1.5, 0.5)])
def test_ids_are_those_of_generate_turn_after_turn(
    kind: str, temperature: float, top_p: float
) -> None:
    model = MODELS[kind]()
    stream, prompt = TokenStream(model), list(PROMPT)
    for turn in range(3):
        sampling = Sampling(12, temperature, top_p, seed=turn)
        drawn = {"temperature": temperature, "top_p": top_p, "seed": turn}
        (expected,) = generate(model, [prompt], stop_ids={7}, max_new_tokens=12, **drawn)
        found = list(stream.write(prompt, stop_ids={7}, sampling=sampling))
        assert found == expected.ids + [7] * expected.stopped
        assert stream.num_reused == (len(prompt) - 4 if turn else 0)
        prompt = [*prompt, *found, 90, 91, 92]


@pytest.mark.parametrize("name", SWITCHING)
def test_a_conversation_that_grows_over_a_limit_is_read_again(name: str) -> None:
    model = switching_model(name)
    stream, prompt, num_reused = TokenStream(model), PROMPT, []
    for num_new in (4, 8, 6):  # 16 ids are the limit
        prompt = [each % 97 for each in prompt]
        (expected,) = generate(model, [prompt], stop_ids=(), max_new_tokens=num_new)
        found = list(stream.write(prompt, stop_ids=(), sampling=Sampling(num_new)))
        assert found == expected.ids
        num_reused.append(stream.num_reused)
        prompt = [*prompt, *found, 9]
    (expected,) = generate(model, [prompt[:9]], stop_ids=(), max_new_tokens=6)
    assert list(stream.write(prompt[:9], stop_ids=(), sampling=Sampling(6))) == expected.ids
    assert stream.num_reused == 0  # what is there was read as part of a longer one


def test_another_prompt_shares_only_what_it_shares() -> None:
    model = tiny_model()
    stream = TokenStream(model)
    list(stream.write(PROMPT, stop_ids=(), sampling=Sampling(5)))
    other = [*PROMPT[:3], 99, 98]
    (expected,) = generate(model, [other], stop_ids=(), max_new_tokens=5)
    assert list(stream.write(other, stop_ids=(), sampling=Sampling(5))) == expected.ids
    assert stream.num_reused == 3


def test_a_pass_that_is_interrupted_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    stream = TokenStream(model)
    tokens = stream.write(PROMPT, stop_ids=(), sampling=Sampling(5))
    next(tokens)
    with monkeypatch.context() as patch:
        layer = model.model.layers[1]  # the first layer's states are in the cache by then

        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(layer, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(tokens)
    (expected,) = generate(model, [PROMPT], stop_ids=(), max_new_tokens=5)
    assert list(stream.write(PROMPT, stop_ids=(), sampling=Sampling(5))) == expected.ids


def test_an_answer_ends_where_the_model_does() -> None:
    stream = TokenStream(tiny_model())  # reads 256
    assert len(list(stream.write([5] * 250, stop_ids=(), sampling=Sampling(50)))) == 6
    for prompt in ([], [5] * 256):
        with pytest.raises(DataError, match=f"has {len(prompt)} tokens; the model takes 1 to 255"):
            next(stream.write(prompt, stop_ids=(), sampling=Sampling()))
