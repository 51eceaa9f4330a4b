"""Run each verb from end to end on tiny models."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from biddable import create_instruction_dataset, demo
from biddable.errors import CheckpointError
from tests.cli.conftest import Cli, Config

SOURCE = Path(__file__).resolve().parents[2] / "src"


def test_help_names_every_verb_and_loads_no_torch() -> None:
    """The subprocess counts its own processor time, that of starting Python included."""
    code = (
        "import sys, time; from biddable.cli import main; sys.argv = ['biddable', '--help'];"
        "status = main(); heavy = {'torch', 'transformers', 'rich', 'yaml'} & set(sys.modules);"
        "print(json := repr((status, sorted(heavy), time.process_time())), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    status, heavy, seconds = eval(ran.stderr)
    assert (status, heavy) == (0, [])
    assert seconds < 0.5
    for verb in ("demo", "train", "plan", "compare", "evaluate", "generate", "data"):
        assert f"\n  {verb} " in ran.stdout


def test_python_m_biddable_is_the_same_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "biddable", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert ran.stdout.startswith("biddable 0.")


def test_without_a_verb_the_help_is_shown(cli: Cli) -> None:
    ran = cli()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: biddable")


def test_train_leaves_a_run_and_says_what_came_of_it(cli: Cli, config: Config) -> None:
    ran = cli("train", config())
    assert ran.code == 0
    assert ran.out.startswith("runs/tiny: 2 steps, ")
    assert "held-out loss" in ran.out
    told = ran.err.splitlines()[-1]
    assert told.startswith("biddable: go on: biddable chat runs/tiny, or biddable compare ")
    assert told.endswith(" runs/tiny --out runs/tiny-compare")
    assert "train: 8 of 8 rows kept" in ran.err
    assert "all parameters train" in ran.err
    found = {path.name for path in Path("runs/tiny").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.yaml", "manifest.json"} < found
    assert [path.name for path in Path("runs").iterdir()] == ["tiny"]


def test_train_with_a_plain_method_and_json(cli: Cli, config: Config) -> None:
    ran = cli("train", config(method="lora"), "--json")
    result = json.loads(ran.out)
    assert result["run"] == "runs/tiny"
    assert result["results"]["steps"] == 2
    assert Path("runs/tiny/adapter_model.safetensors").is_file()
    assert "LoRA of rank 8" in ran.err


def test_train_writes_every_event_as_it_happens(cli: Cli, config: Config) -> None:
    watch = {"prompts": ["Say 1."], "max_new_tokens": 3}
    ran = cli("train", config(watch=watch), "--events", "events.jsonl")
    assert ran.code == 0
    events = [json.loads(line) for line in Path("events.jsonl").read_text().splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["source", "end"]
    log = [json.loads(line) for line in Path("runs/tiny/log.jsonl").read_text().splitlines()]
    assert [event for event in events if event in log] == log
    assert ran.err.count("  → ") == 2  # before the first step and after the epoch
    assert "step 2/2  loss " in ran.err
    assert Path("runs/tiny/loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_log_that_cannot_be_written_is_said_before_training(cli: Cli, config: Config) -> None:
    ran = cli("train", config(), "--events", "nowhere/events.jsonl")
    assert ran.code == 1
    assert ran.err.startswith("biddable: nowhere/events.jsonl: cannot be written")
    assert not Path("runs").exists()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_answers_with_its_own_template(cli: Cli, config: Config, method: str) -> None:
    assert cli("train", config(method=method)).code == 0
    ran = cli("generate", "runs/tiny", "Say 1.", "--max-new-tokens", 4, "--json")
    answer = json.loads(ran.out)
    assert (ran.code, answer["template"], answer["prompt"]) == (0, "inst", "Say 1.")
    assert answer["num_tokens"] <= 4


def test_a_base_continues_and_says_so(cli: Cli, base: Path) -> None:
    ran = cli("generate", base, "Say 1.", "--max-new-tokens", 4)
    assert ran.code == 0
    assert ran.out.strip()
    assert "was taught no template, so it is given the bare prompt" in ran.err
    assert "cut after 4 tokens: the model did not stop by itself" in ran.err
    assert cli("generate", base, "Say 1.", "--bare", "--max-new-tokens", 4).out == ran.out


def test_generate_reads_stdin(cli: Cli, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Say 1."))
    ran = cli("generate", base, "-", "--max-new-tokens", 1, "--json")
    assert json.loads(ran.out)["prompt"] == "Say 1."


def test_data_show_marks_what_is_learned(cli: Cli, base: Path, rows: Path) -> None:
    ran = cli("data", "show", rows, "--model", base, "--template", "inst", "--limit", 2)
    assert ran.code == 0
    assert "[INST] Say 0. [/INST]⟦ 0 it is.<|endoftext|>⟧" in ran.out
    assert "2 of 12 rows shown" in ran.out
    assert "learned" in ran.out.splitlines()[-1]
    assert ran.err == ""


def test_data_show_as_json(cli: Cli, base: Path, rows: Path) -> None:
    ran = cli("data", "show", rows, "--model", base, "--limit", 1, "--json")
    shown = json.loads(ran.out)
    assert (shown["num_rows"], shown["template"], len(shown["rows"])) == (12, "inst", 1)
    (row,) = shown["rows"]
    assert row["source"] == "rows.jsonl:1"
    assert len(row["input_ids"]) == len(row["loss_mask"])


def test_data_show_of_the_built_in_examples(cli: Cli, base: Path) -> None:
    ran = cli("data", "show", "mimic", "--model", base, "--limit", 1)
    assert ran.code == 0
    num_rows = len(create_instruction_dataset())
    assert f"1 of {num_rows:,} rows shown" in ran.out


def test_data_show_finds_rows_and_marks_tokens(cli: Cli, base: Path, rows: Path) -> None:
    ran = cli("data", "show", rows, "--model", base, "--search", "say 1", "--start", 3, "--tokens")
    assert ran.code == 0
    assert "rows.jsonl:11" in ran.out
    assert "rows.jsonl:2 " not in ran.out
    assert "2 of 12 rows found, 2 of them shown" in ran.out
    assert "│" in ran.out


def test_data_show_goes_on_where_a_row_cannot_be_shown(cli: Cli, base: Path, rows: Path) -> None:
    lines = rows.read_text().splitlines()
    lines[0] = json.dumps({"instruction": "Say it.", "response": " "})
    lines[1] = json.dumps({"instruction": "Say [INST] it.", "response": "It."})
    rows.write_text("\n".join(lines))
    template = Path("picky.jinja")
    template.write_text(
        "{% for m in messages %}{% if 'Say 3' in m.content %}{{ raise_exception('no threes') }}"
        "{% endif %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    ran = cli("data", "show", rows, "--model", base, "--template", template, "--limit", 2)
    assert ran.code == 1
    assert "⟦ It.<|endoftext|>⟧" in ran.out
    assert "rows.jsonl:4: " in ran.out
    assert "no threes" in ran.out
    assert 'rows.jsonl:1: "response" is empty' in ran.out
    assert "10 of 12 rows kept (2 dropped)" in ran.out
    assert ran.err == (
        'biddable: rows.jsonl:1: "response" is empty; fill it in, or delete the row.'
        " (2 rows cannot be shown)\n"
    )
    ran = cli("data", "show", rows, "--model", base, "--template", template, "--json")
    found = json.loads(ran.out)
    assert ran.code == 1
    assert [error["line"] for error in found["errors"]] == [1, 4]


def test_what_a_template_teaches_besides_is_told(cli: Cli, config: Config) -> None:
    path = Path("headed.jinja")
    path.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    )
    run = config(template=str(path))
    base = yaml.safe_load(run.read_text())["model"]
    note = "'assistant: ' is learned with every answer"
    shown = ("--model", base, "--template", path)
    assert note in cli("data", "show", "rows.jsonl", *shown).err
    assert note in cli("data", "check", "rows.jsonl", *shown).out
    assert note in " ".join(cli("plan", run).out.split())
    assert note in " ".join(cli("train", run).err.split())


def test_data_show_and_check_name_what_is_passed_over(cli: Cli, base: Path, rows: Path) -> None:
    folder = Path("folder")
    folder.mkdir()
    rows.rename(folder / rows.name)
    (folder / "notes.txt").write_text("x")
    expected = "not data, passed over: folder/notes.txt"
    assert expected in cli("data", "show", folder, "--model", base).err
    assert expected in cli("data", "check", folder).out
    found = json.loads(cli("data", "check", folder, "--json").out)
    assert found["notes"] == [expected]
    assert expected in cli("data", "convert", folder, "out.jsonl").err


def test_data_show_writes_a_page(cli: Cli, base: Path, rows: Path) -> None:
    for limit in (12, 5):  # an older page is replaced
        ran = cli("data", "show", rows, "--model", base, "--html", "page.html", "--limit", limit)
        assert (ran.code, ran.out) == (0, "")
        assert f"page.html: {limit} of 12 rows" in ran.err
    assert Path("page.html").read_text(encoding="utf-8").count("<article") == 5


def test_data_show_writes_no_page_over_a_file_that_is_none(
    cli: Cli, base: Path, rows: Path
) -> None:
    before = rows.read_bytes()
    ran = cli("data", "show", rows, "--model", base, "--html", rows)
    assert ran.code == 1
    assert "rows.jsonl: is there and is no page" in ran.err
    assert rows.read_bytes() == before


def test_plan_tells_and_trains_nothing(cli: Cli, config: Config) -> None:
    ran = cli("plan", config())
    assert (ran.code, ran.err) == (0, "")
    assert "✓ the stop token <|endoftext|>" in ran.out
    assert "trained tokens" in ran.out
    assert "This run can start: biddable train " in ran.out
    assert not Path("runs").exists()


def test_plan_as_json(cli: Cli, config: Config) -> None:
    ran = cli("plan", config(method="lora"), "--json")
    plan = json.loads(ran.out)
    assert (ran.code, plan["ready"], plan["num_steps"]) == (0, True, 2)
    assert plan["readiness"]["stop_text"] == "<|endoftext|>"
    assert plan["readiness"]["facts"][0]["code"] == "stop-token"
    assert plan["ledgers"]["train"]["num_rows"] == 8


def test_plan_of_a_run_that_would_be_refused(cli: Cli, config: Config, rows: Path) -> None:
    data = {"train": str(rows), "max_seq_len": 2, "overflow": "error"}
    ran = cli("plan", config(data=data))
    assert ran.code == 1
    assert "This run would be refused" in ran.out
    assert cli("plan", config(data=data), "--json").code == 1
    assert cli("train", config(data=data)).code == 1


@pytest.fixture
def items() -> Path:
    """A suite of three items with checks, one of them code."""
    rows = [
        {
            "id": f"q{n}",
            "category": f"c{n % 2}",
            "ring": "entity",
            "instruction": text,
            "response": answer,
            "check": check,
        }
        for n, (text, answer, check) in enumerate(
            (
                ("What is 2+2?", "4", {"kind": "number", "value": 4}),
                ("Say hi.", "hi", {"kind": "contains", "all": ["hi"]}),
                (
                    "Write a Python function to reverse a string",
                    "def f(s):\n    return s[::-1]",
                    {
                        "kind": "python",
                        "reference": "def f(s):\n    return s[::-1]\n",
                        "tests": [["f('ab')", "'ba'"]],
                    },
                ),
            )
        )
    ]
    path = Path("items.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_compare_on_the_rows_that_the_run_held_out(cli: Cli, config: Config, base: Path) -> None:
    assert cli("train", config(data={"train": "rows.jsonl", "held_out_rows": 4})).code == 0
    Path("cut").mkdir()
    Path("cut/config.json").write_text((base / "config.json").read_text())
    for failing in (("compare", "cut", "runs/tiny"), ("evaluate", "runs/tiny", "--template", "x")):
        ran = cli(*failing, "--out", "new")
        assert (ran.code, Path("new").exists()) == (1, False), ran.err
    ran = cli("compare", base, "runs/tiny", "--max-new-tokens", 4)
    assert ran.code == 0
    assert "answer loss" in ran.out
    assert ran.out.splitlines()[-1] == (
        "runs/compare/comparison.json  runs/compare/samples.jsonl  runs/compare/report.html"
        "  runs/compare/report.md  runs/compare/card.md"
    )
    result = json.loads(Path("runs/compare/comparison.json").read_text())
    assert (result["n"], result["suite"]) == (4, "runs/compare/held_out.jsonl")
    measured, command = result["measured"], f"biddable compare {base} runs/tiny --max-new-tokens 4"
    assert measured["command"] == command
    assert measured["models"]["base"]["sha256"] != measured["models"]["instruct"]["sha256"]
    assert command in Path("runs/compare/report.html").read_text()
    assert f"`{command}`" in Path("runs/compare/card.md").read_text()
    assert result["training"]["losses"].keys() == {"train", "held_out"}
    held_out = Path("runs/compare/held_out.jsonl").read_text().splitlines()
    assert held_out == Path("rows.jsonl").read_text().splitlines()[-4:]

    again = cli("compare", base, "runs/tiny", "--max-new-tokens", 4)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("biddable: runs/compare: already holds comparison.json; choose")
    assert cli("compare", base, "runs/tiny", "--max-new-tokens", 2, "--replace").code == 0


def test_compare_as_json_on_items_with_checks(cli: Cli, base: Path, items: Path) -> None:
    given = ("--suite", items, "--template", "inst", "--max-new-tokens", 4, "--out", "cmp")
    ran = cli("compare", base, base, *given, "--run-code", "--json")
    result = json.loads(ran.out)
    assert result == json.loads(Path("cmp/comparison.json").read_text())
    assert result["instruct"]["answer_correct"]["n"] == 3
    assert result["decoding"]["run_code"] is True


def test_compare_tells_what_tuning_cost(cli: Cli, base: Path, items: Path) -> None:
    Path("own.txt").write_text("A page of my own.\n\nIt has two parts.")
    given = ("--suite", items, "--template", "inst", "--max-new-tokens", 4)
    ran = cli("compare", base, base, *given, "--forgetting-text", "own.txt")
    assert ran.code == 0, ran.err
    assert "plain text, bits per byte" in ran.out
    assert "memorisation was not measured" in ran.out.replace("\n", " ")
    result = json.loads(Path("runs/compare/comparison.json").read_text())
    assert (result["forgetting"]["text"], result["forgetting"]["num_pages"]) == ("own.txt", 1)
    assert result["forgetting"]["kl_to_base"] == 0
    ran = cli("compare", base, base, *given, "--no-forgetting", "--replace")
    assert "bits per byte" not in ran.out
    assert json.loads(Path("runs/compare/comparison.json").read_text())["forgetting"] is None


def test_compare_refuses_a_forgetting_text_that_is_not_there(cli: Cli, base: Path) -> None:
    ran = cli("compare", base, base, "--forgetting-text", "none.txt")
    assert (ran.code, ran.out) == (1, "")
    assert "none.txt: no such text; expected english, mimic, or a file" in ran.err
    assert not Path("runs/compare").exists()
    ran = cli("compare", base, base, "--forgetting-text", "own.txt", "--no-forgetting")
    assert ran.code == 2
    assert "it cannot stand beside --forgetting-text" in ran.err


def test_compare_without_anything_held_out_asks_for_a_suite(cli: Cli, base: Path) -> None:
    ran = cli("compare", base, base)
    assert ran.code == 1
    assert "name a suite: mimic, or a file" in ran.err


def test_evaluate_one_model(cli: Cli, base: Path, items: Path) -> None:
    given = ("evaluate", base, "--suite", items, "--max-new-tokens", 4, "--prompt-form", "bare")
    ran = cli(*given)
    assert ran.code == 0
    assert "answer correct" in ran.out
    assert ran.out.splitlines()[-1] == "runs/evaluate/scores.json  runs/evaluate/samples.jsonl"
    result = json.loads(Path("runs/evaluate/scores.json").read_text())
    assert (result["n"], result["prompt_form"], result["template"]) == (3, "bare", None)
    samples = Path("runs/evaluate/samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["sample"]["id"] for line in samples] == ["q0", "q1", "q2"]
    assert cli(*given).code == 1
    again = cli(*given, "--replace")
    assert "6 of 6 answers and losses were there already (--no-cache" in again.err
    assert "already" not in cli(*given, "--replace", "--no-cache").err


def test_evaluate_wants_to_know_how_to_ask(cli: Cli, base: Path, items: Path) -> None:
    ran = cli("evaluate", base, "--suite", items)
    assert ran.code == 1
    assert "how should it be asked? It brings no chat template" in ran.err
    assert "bare for a base" in ran.err
    ran = cli("evaluate", base, "--suite", items, "--prompt-form", "bare", "--template", "inst")
    assert 'template "inst" has no place in prompts of the form bare' in ran.err


def test_evaluate_ready_responses(cli: Cli, items: Path) -> None:
    asked = [json.loads(line)["instruction"] for line in items.read_text().splitlines()]
    rows = [{"prompt": text, "response": "4"} for text in asked[:2]]
    Path("r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = cli("evaluate", "--responses", "r.jsonl", "--suite", items, "--out", "judged")
    assert ran.code == 0
    assert f"1 item has no response, left out: {items}:3" in ran.err
    assert json.loads(Path("judged/scores.json").read_text())["n"] == 2
    refused = cli("evaluate", "--responses", "r.jsonl", "--suite", "gsm8", "--out", "none/a")
    assert (refused.code, Path("none").exists()) == (1, False)
    for wrong in (("--responses", "r.jsonl"), (), ("mimic", "--responses", "r.jsonl")):
        assert cli("evaluate", *wrong).code == 2


def test_evaluate_in_8_bits_refuses_what_has_no_weights_here(cli: Cli, items: Path) -> None:
    Path("r.jsonl").touch()
    given = ("--suite", items, "--quantize", "int8", "--out", "judged")
    ran = cli("evaluate", "--responses", "r.jsonl", *given)
    assert ran.code == 2
    assert "ready responses have no weights" in ran.err
    ran = cli("evaluate", "http://127.0.0.1:9/v1", *given, "--replace")
    assert ran.code == 1
    assert "http://127.0.0.1:9/v1 is not run by biddable itself" in ran.err


def test_evaluate_in_8_bits_and_compare_with_the_whole(cli: Cli, base: Path, items: Path) -> None:
    pytest.importorskip("torchao", reason="needs the extra quant")
    given = ("--suite", items, "--prompt-form", "bare", "--max-new-tokens", 4)
    assert cli("evaluate", base, *given, "--out", "whole").code == 0
    assert cli("evaluate", base, *given, "--quantize", "int8", "--out", "small").code == 0
    assert cli("compare", "whole", "small", "--out", "cmp").code == 0
    result = json.loads(Path("cmp/comparison.json").read_text())
    assert (result["base_model"], result["instruct_model"]) == (str(base), f"{base} in int8")
    losses = [result[side]["answer_loss"] for side in ("base", "instruct")]
    assert 0 < abs(losses[0] - losses[1]) < 0.05


def test_compare_ready_responses_with_a_model(cli: Cli, base: Path, items: Path) -> None:
    asked = [json.loads(line)["instruction"] for line in items.read_text().splitlines()]
    lines = [json.dumps({"prompt": text, "response": "4"}) + "\n" for text in asked]
    Path("r.jsonl").write_text("".join(lines))
    given = ("--suite", items, "--max-new-tokens", 4, "--template", "inst", "--out", "cmp")
    ran = cli("compare", "r.jsonl", base, *given)
    assert ran.code == 0, ran.err
    result = json.loads(Path("cmp/comparison.json").read_text())
    assert result["prompt_form"] == {"base": None, "instruct": "template"}
    assert "how they were decoded is not known" in ran.out.replace("\n", " ")


def test_evaluate_a_run_with_its_template_as_json(cli: Cli, config: Config, items: Path) -> None:
    assert cli("train", config()).code == 0
    ran = cli("evaluate", "runs/tiny", "--suite", items, "--max-new-tokens", 4, "--json")
    result = json.loads(ran.out)
    assert (result["prompt_form"], result["template"]) == ("template", "inst")
    assert result["scores"]["instruction_following"]["n"] == 3


@pytest.fixture
def tiny_demo(monkeypatch: pytest.MonkeyPatch, base: Path, rows: Path, items: Path) -> None:
    """Let the demo work on a base, examples and items that take a moment."""
    for name, value in {"BASE": base, "TRAIN": rows, "SUITE": items}.items():
        monkeypatch.setattr(f"biddable.demo.{name}", str(value))
    monkeypatch.setattr("biddable.demo.MAX_NEW_TOKENS", 4)
    settings = {
        name: {**value, "training": {"epochs": 1, "batch_size": 8}}
        for name, value in demo.SETTINGS.items()
    }
    monkeypatch.setattr("biddable.demo.SETTINGS", settings)


@pytest.mark.usefixtures("tiny_demo")
@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_demo(cli: Cli, method: str) -> None:
    ran = cli("demo", "--method", method, "--seed", 1)
    assert ran.code == 0
    assert "What is 2+2?" in ran.out
    assert "what the models write is run in a limited process" in " ".join(ran.out.split())
    assert ran.out.splitlines()[-1].startswith(
        "runs/demo/report.html  runs/demo/comparison.json  runs/demo/samples.jsonl  (0 min "
    )
    found = {path.name for path in Path("runs/demo").iterdir()}
    assert {"config.yaml", "manifest.json", *demo.FILES} < found
    manifest = json.loads(Path("runs/demo/manifest.json").read_text())
    assert (manifest["method"], manifest["seed"]) == (method, 1)
    answer = cli("generate", "runs/demo", "What is 2+2?", "--max-new-tokens", 2, "--json")
    assert json.loads(answer.out)["template"] == "inst"
    assert [path.name for path in Path("runs").iterdir()] == ["demo"]


@pytest.mark.usefixtures("tiny_demo")
def test_demo_replaces_its_own_folder_and_no_other(cli: Cli) -> None:
    first = cli("demo", "--json")
    assert (first.code, json.loads(first.out)["n"]) == (0, 3)
    Path("runs/demo/mark").touch()
    assert cli("demo", "--json").code == 0
    assert not Path("runs/demo/mark").exists()

    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    ran = cli("demo", "--out", "mine")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("biddable: mine: holds something that the demo did not make")
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]


@pytest.mark.usefixtures("tiny_demo")
@pytest.mark.parametrize("error", [KeyboardInterrupt, CheckpointError("no space")])
def test_demo_that_comes_to_nothing_leaves_the_older_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    assert cli("demo", "--json").code == 0
    Path("runs/demo/mark").touch()

    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("biddable.demo.compare", stop)
    ran = cli("demo", "--json")
    assert ran.code == (130 if error is KeyboardInterrupt else 1)
    assert Path("runs/demo/mark").exists()
    assert [path.name for path in Path("runs").iterdir()] == ["demo"]

    Path("runs/demo").rename("runs/demo.old")  # as a demo leaves it that is killed outright
    assert cli("demo", "--json").code == ran.code
    assert Path("runs/demo/mark").exists()


def test_help_says_in_words_what_an_option_takes(cli: Cli) -> None:
    from biddable.cli import app, data_app

    verbs = [[command.callback.__name__] for command in app.registered_commands]
    verbs += [["data", str(command.name)] for command in data_app.registered_commands]
    for verb in verbs:
        shown = cli(*verb, "--help").out
        assert re.search(r"<(str|int|float|bool|list)|<[a-z|0-9]+>", shown) is None
        assert "{" not in shown.partition("\n")[0]
    assert "biddable compare [OPTIONS] BASE INSTRUCT\n" in cli("compare", "--help").out
    shown = cli("generate", "--help").out
    assert all(part in shown for part in ("--seed INTEGER", "--top-p NUMBER", "PROMPT  What to"))
