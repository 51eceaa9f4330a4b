import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from biddable.errors import DataError
from biddable.models import running_rows
from biddable.models.drawing import settled
from biddable.models.generation import Generation, generate, generate_each
from biddable.models.tree_prompts import read_as_tree
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
@pytest.mark.parametrize("min_tree_ids", [0, 1 << 30], ids=["trees", "padded"])
def test_batched_is_the_same_as_alone(monkeypatch, min_tree_ids, prompts, batch_size, num_stops):
    monkeypatch.setattr(running_rows, "MIN_TREE_IDS", min_tree_ids)
    model = tiny_model(seed=3, dtype=torch.float64)
    stop_ids = common_ids(model, prompts, num_stops)
    found = generate(model, prompts, stop_ids=stop_ids, max_new_tokens=20, batch_size=batch_size)
    expected = [plain_greedy(model, p, stop_ids=stop_ids, max_new_tokens=20) for p in prompts]
    assert found == expected
    assert any(g.stopped for g in found) == bool(num_stops)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_an_answer_is_given_as_soon_as_it_has_ended(monkeypatch, batch_size):
    model = tiny_model(seed=3, dtype=torch.float64)
    settings = {"stop_ids": common_ids(model, PROMPTS, 3), "max_new_tokens": 20}
    steps = []
    read_token = running_rows.RunningRows.read_token

    def counted(self, next_ids):
        steps.append(len(next_ids))
        return read_token(self, next_ids)

    monkeypatch.setattr(running_rows.RunningRows, "read_token", counted)
    given, num_steps = {}, {}
    for place, found in generate_each(model, PROMPTS, batch_size=batch_size, **settings):
        given[place], num_steps[place] = found, len(steps)
    assert [given[n] for n in range(len(PROMPTS))] == generate(model, PROMPTS, **settings)
    if batch_size == len(PROMPTS):  # as many as it has ids, the first of which the prompt gives
        lengths = {n: len(found.ids) + found.stopped for n, found in given.items()}
        assert num_steps == {n: length - 1 for n, length in lengths.items()}
        assert len(set(num_steps.values())) > 2


def test_no_new_ids_are_no_answer():
    found = generate(tiny_model(), PROMPTS, stop_ids={0}, max_new_tokens=0)
    assert found == [Generation([], False)] * len(PROMPTS)


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


SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}


def made(kind):
    """Build a model of a kind with random weights, large enough that its answers differ."""
    torch.manual_seed(2)
    config = AutoConfig.for_model(kind, **SIZES, pad_token_id=0)
    config.initializer_range = 0.2
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)  # none stops by itself
    return model


def tie_gap(model, prompt, found, expected):
    """Say how far apart the logits are of the first two ids that differ; 0 for the same answers."""
    pairs = zip(found, expected, strict=True)
    at = next((n for n, (left, right) in enumerate(pairs) if left != right), None)
    if at is None:
        return 0.0
    with torch.no_grad():
        logits = model(torch.tensor([prompt + expected[:at]])).logits[0, -1]
    return float((logits[found[at]] - logits[expected[at]]).abs() / logits.abs().max())


@pytest.mark.parametrize(
    "kind", ["llama", "qwen3", "gemma2", "phi3", "olmo2", "gpt_neox", "mixtral"]
)
@pytest.mark.parametrize("min_tree_ids", [0, 1 << 30], ids=["trees", "padded"])
def test_in_float32_only_ties_may_differ_from_transformers_alone(monkeypatch, kind, min_tree_ids):
    monkeypatch.setattr(running_rows, "MIN_TREE_IDS", min_tree_ids)
    model = made(kind)
    prompts = [*PROMPTS, *SHARED]
    found = generate(model, prompts, stop_ids=[], max_new_tokens=16, batch_size=8)
    for prompt, answer in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
        )
        alone = out[0, len(prompt) :].tolist()
        assert tie_gap(model, prompt, answer.ids, alone) < 1e-5


def test_the_tie_that_is_allowed_is_narrow():
    model = made("llama")
    prompt, expected = [5, 6], [7, 8]
    assert tie_gap(model, prompt, [7, 8], expected) == 0
    assert tie_gap(model, prompt, [7, 9], expected) > 1e-5


def test_prompts_are_read_as_trees_where_that_is_exact_and_pays(monkeypatch):
    read = []

    def listen(model, prompts):
        read.append(len(prompts))
        return read_as_tree(model, prompts)

    monkeypatch.setattr(running_rows, "read_as_tree", listen)
    generate(tiny_model(), SHARED, stop_ids=[], max_new_tokens=2)
    assert read == []  # too few ids to find out first
    monkeypatch.setattr(running_rows, "MIN_TREE_IDS", 0)
    generate(tiny_model(), SHARED, stop_ids=[], max_new_tokens=2, batch_size=4)
    assert read == [4, 2]
    generate(mistral_with_a_window(), SHARED, stop_ids=[], max_new_tokens=2)
    generate(tiny_model(), SHARED[:1], stop_ids=[], max_new_tokens=2)
    monkeypatch.setattr(running_rows, "why_not_exact", lambda model: "other logits")
    generate(tiny_model(), SHARED, stop_ids=[], max_new_tokens=2)
    assert read == [4, 2]


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


def test_another_may_have_the_last_word_on_each_id():
    seen = []

    def by(ids):
        seen.append(ids.clone())
        return torch.full_like(ids, 7)

    with settled(by):
        given = generate(tiny_model(), [[1, 2], [3]], stop_ids={5}, max_new_tokens=3)
    assert [answer.ids for answer in given] == [[7, 7, 7], [7, 7, 7]]
    alone = generate(tiny_model(), [[1, 2], [3]], stop_ids={5}, max_new_tokens=1)
    assert [[int(i)] for i in seen[0].tolist()] == [answer.ids for answer in (alone[1], alone[0])]
