import torch

from biddable.config import config_fields, parse_config
from biddable.data.encoded import EncodedRows
from biddable.training.identity import (
    describe_machine,
    find_differences,
    hash_model,
    identify_config,
    identify_run,
)
from tests.tiny import tiny_model
from tests.training.rows import random_examples


def config_of(**changes):
    return parse_config({"model": "mimic", "data": "a.json", "output": "runs/a", **changes})


def test_every_key_counts_but_those_that_no_number_depends_on():
    keys = {key.removeprefix("config: ") for key in identify_config(config_of())}
    free = {key for key in config_fields() if key.startswith("checkpoints")}
    free |= {"output", "training.on_nonfinite", "training.sharding", "data.cache"}
    free |= {"watch.report_to"}
    assert keys == set(config_fields()) - free


def test_what_differs_is_named_with_both_values():
    then = identify_config(config_of(seed=1, training={"epochs": 2}))
    now = identify_config(config_of(training={"epochs": 2.5}, method="lora"))
    assert find_differences(then, now) == [
        'method.name was "full", and is "lora"',
        "training.epochs was 2, and is 2.5",
        "seed was 1, and is 0",
    ]


def test_rows_kept_together_are_another_run():
    then, now = (identify_config(config_of(training={"keep_together": n})) for n in (False, True))
    assert find_differences(then, now) == ["training.keep_together was false, and is true"]


def test_a_number_counts_by_its_value():
    whole, written = (config_of(training={"epochs": number}) for number in (2, 2.0))
    assert identify_config(whole) == identify_config(written)


def test_rows_template_and_base_count_by_their_content():
    def identity(*, rows=None, template_hash="t", seed=0):
        parts = {
            "train": EncodedRows.of(rows or random_examples(4)),
            "held_out": EncodedRows.of([]),
        }
        return identify_run(config_of(), tiny_model(seed), template_hash=template_hash, rows=parts)

    then = identity()
    assert find_differences(then, identity()) == []
    assert find_differences(then, identity(seed=1)) == [
        "the weights of the model before training are others"
    ]
    assert find_differences(then, identity(template_hash="u")) == ["the template is another one"]
    swapped = random_examples(4)[::-1]
    assert find_differences(then, identity(rows=swapped)) == [
        "the rows of data.train, as they are encoded, are others"
    ]


def test_one_bit_of_the_base_is_another_base():
    model = tiny_model()
    before = hash_model(model)
    assert before == hash_model(tiny_model())
    with torch.no_grad():
        model.model.norm.weight.view(torch.int32)[3] ^= 1
    assert hash_model(model) != before
    assert hash_model(tiny_model(dtype=torch.bfloat16)) != before


def test_a_machine_is_described_by_what_bits_depend_on():
    assert describe_machine(tiny_model())["threads"] == str(torch.get_num_threads())
