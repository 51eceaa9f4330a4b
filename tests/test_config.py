from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from biddable.config import RunConfig, config_fields, load_config, parse_config
from biddable.config_data import DataConfig
from biddable.errors import ConfigError

LEAST = {"model": "mimic", "data": {"train": "rows.json"}, "output": "runs/a"}


def _write(text: str) -> Path:
    path = Path("run.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def _problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(_write(text))
    return str(caught.value).splitlines()


def _problem(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config({**LEAST, **values})
    return str(caught.value)


def test_defaults_are_those_of_the_design() -> None:
    config = parse_config(LEAST)
    assert config.method.name == "full"
    assert (config.training.epochs, config.training.batch_size) == (3, 16)
    assert (config.training.learning_rate, config.template, config.seed) == (None, None, 0)
    assert (config.data.overflow, config.training.learn) == ("drop", "answers")


def test_plain_names_stand_for_sections() -> None:
    config = parse_config({**LEAST, "data": "rows.json", "method": "lora"})
    assert config == parse_config({**LEAST, "method": {"name": "lora"}})


def test_a_whole_file_is_read() -> None:
    config = load_config(
        _write(
            "model: smollm2\n"
            "data: {train: rows.json, train_rows: 300, held_out_rows: 60, shuffle_seed: 0}\n"
            "template: alpaca\n"
            "method: {name: lora, rank: 16, target_modules: [q_proj, v_proj]}\n"
            "training: {epochs: 0.5, learning_rate: 1e-4, micro_batch_size: 4}\n"
            "seed: 1\n"
            "output: runs/smollm2\n"
        )
    )
    assert config.training.learning_rate == 1e-4
    assert config.training.epochs == 0.5
    assert config.method.target_modules == ["q_proj", "v_proj"]
    assert config.data.held_out_rows == 60


@given(
    learning_rate=st.none() | st.floats(1e-8, 1.0),
    epochs=st.integers(1, 99) | st.floats(0.01, 99),
    method=st.sampled_from(["full", "freeze", "lora"]),
)
def test_a_config_written_out_in_full_reads_the_same(
    learning_rate: float | None, epochs: float, method: str
) -> None:
    training = {"learning_rate": learning_rate, "epochs": epochs}
    config = parse_config({**LEAST, "method": method, "training": training})
    written = yaml.safe_dump(config.model_dump(mode="json"))
    assert load_config(_write(written)) == config


def test_all_problems_come_at_once_with_their_lines() -> None:
    problems = _problems(
        "model: mimic\n"
        "dat: rows.json\n"
        "epochs: 3\n"
        "method: lorra\n"
        "training:\n"
        "  bach_size: 3\n"
        "  epochs: two\n"
        "  lr: 1\n"
        "  rank: 4\n"
    )
    assert problems == [
        'run.yaml:2: dat: unknown key; did you mean "data"?',
        'run.yaml:3: epochs: unknown key; write it as "training.epochs".',
        "run.yaml:4: method.name: found \"lorra\"; it should be 'full', 'freeze' or 'lora'; "
        'did you mean "lora"?',
        'run.yaml:6: training.bach_size: unknown key; did you mean "batch_size"?',
        'run.yaml:7: training.epochs: found "two"; it should be a whole number or it should be '
        "a number.",
        'run.yaml:8: training.lr: unknown key; write it as "training.learning_rate".',
        'run.yaml:9: training.rank: unknown key; write it as "method.rank".',
        "run.yaml: data: missing; add it (a section of its own).",
        "run.yaml: output: missing; add it (the run folder to make).",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"seed": True}, "config: seed: found true; it should be a whole number."),
        ({"seed": -1}, "config: seed: found -1; it should be at least 0."),
        ({"output": ""}, 'config: output: found ""; it should not be empty.'),
        ({"data": 3}, "config: data: found 3; it should be a section of keys."),
        ({"training": None}, "config: training: found nothing; it should be a section of keys."),
        (
            {"training": {"epochs": 0}},
            "config: training.epochs: found 0; it should be greater than 0.",
        ),
        (
            {"training": {"learning_rate": "1e-4"}},
            'config: training.learning_rate: found "1e-4"; it should be a number.',
        ),
        (
            {"training": {"batch_size": 4, "micro_batch_size": 8}},
            "config: training.micro_batch_size: found 8; it should be at most "
            "training.batch_size (4).",
        ),
        (
            {"data": {"train": "a", "held_out": "b", "held_out_rows": 3}},
            "config: data.held_out_rows: found 3; it cannot stand beside data.held_out; "
            "remove one of the two.",
        ),
        (
            {"method": {"rank": 4}},
            'config: method.rank: found 4; it has no effect with method "full"; remove it or '
            "set method.name: lora.",
        ),
        (
            {"method": {"name": "lora", "num_frozen_layers": 2}},
            'config: method.num_frozen_layers: found 2; it has no effect with method "lora"; '
            "remove it or set method.name: freeze.",
        ),
        (
            {"method": {"name": "lora", "target_modules": []}},
            "config: method.target_modules: found []; it should name at least one layer, or be "
            '"all-linear".',
        ),
        (
            {"method": {"name": "freeze", "freeze": []}},
            "config: method.freeze: found []; it should name at least one layer.",
        ),
        (
            {"method": {"name": "freeze", "dora": True}},
            'config: method.dora: found true; it has no effect with method "freeze"; remove it or '
            "set method.name: lora.",
        ),
        (
            {"method": {"name": "lora", "dropout": 0.1, "init": "pissa"}},
            'config: method.init: found "pissa"; with method.dropout the base\'s own largest '
            "directions would be dropped in training; remove one of the two.",
        ),
        (
            {"training": {"warmup_share": 0.2, "warmup_steps": 10}},
            "config: training.warmup_steps: found 10; it cannot stand beside "
            "training.warmup_share (0.2); remove one of the two.",
        ),
        (
            {"training": {"schedule": "constant", "min_lr_share": 0.1}},
            'config: training.min_lr_share: found 0.1; it has no effect with schedule "constant"; '
            "remove it or set training.schedule: cosine or linear or wsd.",
        ),
        (
            {"training": {"decay_share": 0.3}},
            'config: training.decay_share: found 0.3; it has no effect with schedule "cosine"; '
            "remove it or set training.schedule: wsd.",
        ),
        (
            {"training": {"schedule": "wsd", "warmup_share": 0.5, "decay_share": 0.6}},
            "config: training.decay_share: found 0.6; it should be at most 0.5, for "
            "training.warmup_share (0.5) is of the same steps.",
        ),
        (
            {"training": {"schedule": "wsd", "decay_share": 1.0}},
            "config: training.decay_share: found 1.0; it should be at most 0.9, for "
            "training.warmup_share (0.1) is of the same steps.",
        ),
        (
            {"training": {"schedule": "wsd", "decay_share": 1.1}},
            "config: training.decay_share: found 1.1; it should be at most 1.",
        ),
        (
            {"training": {"schedule": "wsd", "decay_share": 0.0}},
            "config: training.decay_share: found 0.0; it should be greater than 0.",
        ),
        (
            {"method": {"name": "full", "quantize_base": "int8"}},
            'config: method.quantize_base: found "int8"; it has no effect with method "full"; '
            "remove it or set method.name: lora.",
        ),
        (
            {"method": {"name": "full", "train_tokens": ["<a>"]}},
            'config: method.train_tokens: found [<a>]; it has no effect with method "full"; '
            "remove it or set method.name: freeze or lora.",
        ),
        (
            {"method": {"name": "lora", "train_tokens": []}},
            "config: method.train_tokens: found []; it should name at least one token, or be "
            '"none".',
        ),
        (
            {"method": {"name": "lora", "train_tokens": "none", "new_tokens": ["<a>"]}},
            "config: method.new_tokens: found [<a>]; with method.train_tokens: none their rows "
            "would stay noise; remove one of the two.",
        ),
        (
            {"training": {"epochs": 2, "keep": "best"}},
            'config: training.keep: found "best"; it needs a held-out loss; set data.held_out or '
            "data.held_out_rows.",
        ),
        (
            {"training": {"patience": 2}},
            "config: training.patience: found 2; it needs a held-out loss; set data.held_out or "
            "data.held_out_rows.",
        ),
        (
            {"template": {"name": "inst"}},
            "config: template: found {name: inst}; it should be text.",
        ),
        (
            {"data": {"train": "a", "learning_rat": 1}},
            'config: data.learning_rat: unknown key; did you mean "training.learning_rate"?',
        ),
        (
            {"data": {"train": "a", "wibble": "x" * 99}},
            "config: data.wibble: unknown key; allowed here: "
            f"{', '.join(DataConfig.model_fields)}.",
        ),
        (
            {"seed": "x" * 99},
            f'config: seed: found "{"x" * 56}...; it should be a whole number.',
        ),
    ],
)
def test_each_problem_says_what_was_found_and_what_is_allowed(
    values: dict[str, Any], expected: str
) -> None:
    assert _problem(values) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "run.yaml: empty; it needs at least model, data and output."),
        ("# nothing\n", "run.yaml: empty; it needs at least model, data and output."),
        ("- model\n", "run.yaml:1: not a mapping; write `key: value` lines."),
        ("model: a\nmodel: b\n", "run.yaml:2: model: given twice, first in line 1; remove one."),
        (
            "training:\n  epochs: 1\n  epochs: 2\n",
            "run.yaml:3: training.epochs: given twice, first in line 2; remove one.",
        ),
        ("model: [a\n", "run.yaml:2: not YAML: expected ',' or ']', but got '<stream end>'."),
        (
            "model: !!python/name:os.system\n",
            "run.yaml:1: not YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/name:os.system'.",
        ),
        ("model: 2020-13-45\n", "run.yaml: not YAML: month must be in 1..12."),
        (
            "a: \x07\n",
            "run.yaml: not YAML: unacceptable character #x0007: special characters "
            "are not allowed.",
        ),
    ],
)
def test_a_file_that_is_no_config(text: str, expected: str) -> None:
    assert _problems(text) == [expected]


def test_a_recursive_file_ends_in_a_message() -> None:
    assert _problems("a: &x\n  b: *x\n")
    assert _problems("a: &x\n  - *x\n")
    assert _problems("seed: &x\n  b: *x\n")[0].startswith(
        "run.yaml:1: seed: found &id001 {b: *id001};"
    )
    assert _problems("a: " + "[" * 5000) == ["run.yaml: not YAML: nested too deeply."]
    assert _problems("!!set {a, b}") == ["run.yaml:1: not a mapping; write `key: value` lines."]


def test_a_source_in_a_list_knows_its_line_and_refuses_a_key_given_twice() -> None:
    text = "data:\n  train:\n    - a.jsonl\n    - path: b.jsonl\n      wieght: 2\n"
    assert 'run.yaml:5: data.train[1].wieght: unknown key; did you mean "weight"?' in _problems(
        text
    )
    twice = "data:\n  role_map:\n    bot: user\n    bot: assistant\n"
    expected = "run.yaml:4: data.role_map.bot: given twice, first in line 3; remove one."
    assert _problems(twice) == [expected]


def test_a_missing_file_a_folder_and_other_encodings() -> None:
    with pytest.raises(ConfigError, match=r"^none\.yaml: no such file; give the path"):
        load_config("none.yaml")
    Path("folder.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"^folder\.yaml: cannot be read"):
        load_config("folder.yaml")
    Path("latin.yaml").write_bytes("model: a\noutput: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"^latin\.yaml:2: not UTF-8"):
        load_config("latin.yaml")


def test_a_config_cannot_be_changed() -> None:
    config = parse_config(LEAST)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    fields = config_fields()
    assert all(fields.values())
    assert "data.train" in fields
    assert "data" not in fields
    assert set(RunConfig.model_fields) == {key.partition(".")[0] for key in fields}
