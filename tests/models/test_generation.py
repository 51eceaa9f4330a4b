import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from biddable.errors import DataError
from biddable.models.generation import Generation, generate
from tests.tiny import tiny_model

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16, 17], [8, 8], [20, 3, 4, 5, 6], [30, 31]]
SHARED = [[0, 40, 41, 42, 43, 44, 45, 46, 47, 48, *prompt] for prompt in PROMPTS]


def plain_greedy(model, prompt, *, stop_ids, max_new_tokens):
    """Recompute everything at each token: no cache, no padding, no batch."""
    ids = list(prompt)
    for _ in range(max_new_tokens):
        with torch.no_grad():
            next_id = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if next_id in stop_ids:
            return Generation(ids[len(prompt) :], True)
        ids.append(next_id)
    return Generation(ids[len(prompt) :], False)


def common_ids(model, prompts, num_ids):
    """Choose as stops some ids that the model writes, so that rows end at different steps."""
    written = [generate(model, [p], stop_ids=[], max_new_tokens=20)[0].ids for p in prompts]
    return {ids[3 + n] for n, ids in enumerate(written[:num_ids])}


@pytest.mark.parametrize("prompts", [PROMPTS, SHARED], ids=["apart", "shared start"])
@pytest.mark.parametrize("batch_size", [1, 2, 6])
@pytest.mark.parametrize("num_stops", [0, 3])
def test_batched_is_the_same_as_alone(prompts, batch_size, num_stops):
    model = tiny_model(seed=3, dtype=torch.float64)
    stop_ids = common_ids(model, prompts, num_stops)
    found = generate(model, prompts, stop_ids=stop_ids, max_new_tokens=20, batch_size=batch_size)
    expected = [plain_greedy(model, p, stop_ids=stop_ids, max_new_tokens=20) for p in prompts]
    assert found == expected
    assert any(g.stopped for g in found) == bool(num_stops)


def mistral_with_a_window():
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 60}
    return MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=6)).eval()


def gpt2():
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, n_positions=64)
    config.initializer_range = 0.2
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("make", [gpt2, mistral_with_a_window])
@pytest.mark.parametrize("prompts", [PROMPTS, SHARED], ids=["apart", "shared start"])
def test_other_architectures_batched_are_the_same_as_alone(make, prompts):
    model = make().double()
    stop_ids = common_ids(model, prompts, 2)
    found = generate(model, prompts, stop_ids=stop_ids, max_new_tokens=12)
    assert found == [plain_greedy(model, p, stop_ids=stop_ids, max_new_tokens=12) for p in prompts]


def test_order_is_kept_and_nothing_is_no_work():
    model = tiny_model(seed=3)
    forward = generate(model, PROMPTS, stop_ids=[], max_new_tokens=4)
    backward = generate(model, PROMPTS[::-1], stop_ids=[], max_new_tokens=4)
    assert forward == backward[::-1]
    assert generate(model, [], stop_ids=[0]) == []


def test_stops_at_the_models_longest_sequence():
    model = tiny_model()
    prompts = [[1] * 250, [1] * 10]
    lengths = [len(g.ids) for g in generate(model, prompts, stop_ids=[], max_new_tokens=9)]
    assert lengths == [6, 9]


@pytest.mark.parametrize("length", [0, 256])
def test_a_prompt_without_room_is_named(length):
    with pytest.raises(DataError, match=f"prompt 2 has {length} tokens; the model takes 1 to 255"):
        generate(tiny_model(), [[1], [1] * length], stop_ids=[0])


def test_draws_depend_on_the_seed_and_not_on_the_batch():
    model = tiny_model(seed=3, dtype=torch.float64)

    def draw(seed, batch_size, **how):
        return generate(
            model, PROMPTS, stop_ids=[0], max_new_tokens=8, batch_size=batch_size, seed=seed, **how
        )

    assert draw(1, 6, temperature=1.5) == draw(1, 2, temperature=1.5)
    assert draw(1, 6, temperature=1.5) != draw(2, 6, temperature=1.5)
    greedy = draw(0, 6)
    assert draw(5, 6, temperature=1.0, top_p=1e-9) == greedy
    assert draw(5, 6, temperature=1e-4) == greedy


def test_draws_follow_the_probabilities():
    model = tiny_model(seed=3)
    with torch.no_grad():
        probs = model(torch.tensor([[5, 6]])).logits[0, -1].softmax(-1)
    drawn = generate(model, [[5, 6]] * 2000, stop_ids=[], max_new_tokens=1, temperature=1.0)
    counts = torch.bincount(torch.tensor([g.ids[0] for g in drawn]), minlength=300)
    assert (counts / 2000 - probs).abs().max() < 0.03


def test_training_mode_is_given_back():
    model = tiny_model().train()
    generate(model, [[1]], stop_ids=[], max_new_tokens=1)
    assert model.training
