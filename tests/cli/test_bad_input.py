"""Hold that bad input costs one clear line, the right exit code, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from biddable.manifest import write_json
from tests.cli.conftest import Cli, Config, Ran

SOURCE = Path(__file__).resolve().parents[2] / "src"


def is_clean_failure(ran: Ran, *, code: int = 1) -> bool:
    """Tell whether a verb failed with one line on stderr, and left no run folder."""
    told = [line for line in ran.err.splitlines() if line.startswith("biddable: ")]
    is_quiet = ran.out == "" and len(told) == 1 and "Traceback" not in ran.err
    return ran.code == code and is_quiet and not list(Path().glob("runs/*"))


def last_line(ran: Ran) -> str:
    return ran.err.splitlines()[-1]


def test_missing_config(cli: Cli) -> None:
    ran = cli("train", "run.yaml")
    assert is_clean_failure(ran)
    assert ran.err == "biddable: run.yaml: no such file; give the path of a YAML config.\n"


def test_missing_data_file_suggests_one_beside_it(cli: Cli, config: Config) -> None:
    ran = cli("train", config(data="row.jsonl"))
    assert is_clean_failure(ran)
    assert last_line(ran) == 'biddable: row.jsonl: no such file. Did you mean "rows.jsonl"?'


@pytest.mark.parametrize("verb", [("data", "show"), ("train",)])
@pytest.mark.parametrize(
    "case",
    [
        (b"", "bad.jsonl: the file is empty; expected"),
        (b'{"instruction": "a"\n', "bad.jsonl:1: not JSON"),
        (
            b'{"instruction": "a", "response": "b"}\n{"instruction": "a", "respons": "b"}\n',
            'bad.jsonl:2: has keys "instruction", "respons"; expected "instruction" and "response".'
            ' Did you mean "response"?',
        ),
        (
            b'{"instruction": "a", "response": "b"}\n{"instruction": "a", "response": " "}\n',
            'bad.jsonl:2: "response" is empty; fill it in, or delete the row.',
        ),
        (
            b'{"instruction": "a", "response": "b"}\n{"instruction": "caf\xe9", "response": "b"}\n',
            "bad.jsonl:2: byte 0xe9 is not UTF-8",
        ),
    ],
    ids=["empty", "not-json", "wrong-keys", "empty-response", "not-utf-8"],
)
def test_bad_rows(
    cli: Cli, base: Path, config: Config, verb: tuple[str, ...], case: tuple[bytes, str]
) -> None:
    content, told = case
    Path("bad.jsonl").write_bytes(content)
    given = [config(data="bad.jsonl")] if verb == ("train",) else ["bad.jsonl", "--model", base]
    ran = cli(*verb, *given)
    if verb == ("data", "show") and b"\n{" in content:  # the other row is shown all the same
        assert "1 of 2 rows kept (1 dropped)" in ran.out
        ran = replace(ran, out="")
    assert is_clean_failure(ran)
    assert last_line(ran).startswith(f"biddable: {told}")


def test_unknown_config_key_is_named_with_its_line_and_the_nearest(
    cli: Cli, config: Config
) -> None:
    ran = cli("train", config(training={"epoch": 1}))
    assert is_clean_failure(ran)
    assert ran.err.startswith("biddable: run.yaml:7: training.epoch: unknown key")
    assert 'did you mean "epochs"?' in ran.err


def test_config_that_is_not_utf8(cli: Cli) -> None:
    Path("run.yaml").write_bytes(b"model: mimic\noutput: caf\xe9\n")
    ran = cli("train", "run.yaml")
    assert is_clean_failure(ran)
    assert ran.err.startswith("biddable: run.yaml:2: not UTF-8")


def test_unknown_template(cli: Cli, config: Config, base: Path, rows: Path) -> None:
    for ran in (
        cli("train", config(template="alpacca")),
        cli("data", "show", rows, "--model", base, "--template", "alpacca"),
        cli("generate", base, "Hello", "--template", "alpacca"),
    ):
        assert is_clean_failure(ran)
        assert 'unknown template "alpacca"' in last_line(ran)
        assert last_line(ran).endswith('Did you mean "alpaca"?')


@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "mimik", "Hello"),
        ("evaluate", "mimik", "--suite", "mimic"),
        ("compare", "mimik", "mimic"),
        ("data", "show", "rows.jsonl", "--model", "mimik"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_unknown_model(cli: Cli, rows: Path, arguments: tuple[str, ...]) -> None:
    ran = cli(*arguments)
    assert is_clean_failure(ran)
    assert ran.err.startswith('biddable: model: "mimik" is neither a known name')
    assert ran.err.endswith('Did you mean "mimic"?\n')


def test_unknown_model_of_a_config(cli: Cli, config: Config) -> None:
    ran = cli("train", config(model="mimik"))
    assert is_clean_failure(ran)
    assert 'Did you mean "mimic"?' in last_line(ran)


def test_folder_without_a_model(cli: Cli) -> None:
    Path("empty").mkdir()
    ran = cli("generate", "empty", "Hello")
    assert is_clean_failure(ran)
    assert ran.err.startswith("biddable: empty: no model in it; expected a folder with config.json")


def test_rows_longer_than_the_limit_are_refused_by_name(
    cli: Cli, config: Config, rows: Path
) -> None:
    with rows.open("a") as file:
        file.write('{"instruction": "Say it.", "response": "' + "so " * 100 + '"}\n')
    ran = cli("train", config(data={"train": str(rows), "overflow": "error", "max_seq_len": 64}))
    assert is_clean_failure(ran)
    assert "rows.jsonl:13: " in ran.err
    assert "tokens; the limit is 64." in ran.err


def test_rows_longer_than_the_limit_are_dropped_by_name(
    cli: Cli, config: Config, rows: Path
) -> None:
    with rows.open("a") as file:
        file.write('{"instruction": "Say it.", "response": "' + "so " * 100 + '"}\n')
    ran = cli("train", config(data={"train": str(rows), "max_seq_len": 64}))
    assert ran.code == 0
    assert "12 of 13 rows kept (1 dropped)" in ran.err
    assert "dropped rows.jsonl:13: " in ran.err


def test_output_that_holds_a_run_is_refused_before_training(cli: Cli, config: Config) -> None:
    assert cli("train", config()).code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in Path("runs/tiny").iterdir())
    ran = cli("train", config())
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("biddable: runs/tiny: already holds a run")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in Path("runs/tiny").iterdir())


def test_full_disk_at_the_end_of_a_run_that_is_saved(
    cli: Cli, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = config(checkpoints={"every_steps": 1})
    monkeypatch.setattr("biddable.training.checkpoint.write_json", refuse)
    ran = cli("train", path)
    assert (ran.code, ran.out) == (1, "")
    assert last_line(ran).endswith(f"It is saved at step 2. Go on: biddable train {path} --resume")
    monkeypatch.setattr("biddable.training.checkpoint.write_json", write_json)
    assert cli("train", path, "--resume").code == 0
    assert [folder.name for folder in Path("runs").iterdir()] == ["tiny"]


def test_full_disk(cli: Cli, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("biddable.training.checkpoint.write_json", refuse)
    ran = cli("train", config())
    assert is_clean_failure(ran)
    assert last_line(ran).startswith("biddable: runs/tiny: cannot be written:")
    assert "No space left on device" in last_line(ran)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system too small for the model."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_is_really_full(cli: Cli, config: Config, small_disk: Path) -> None:
    ran = cli("train", config(output=str(small_disk / "run")))
    assert is_clean_failure(ran)
    assert last_line(ran).startswith(f"biddable: {small_disk / 'run'}: cannot be written:")
    assert list(small_disk.iterdir()) == []


def test_ctrl_c_while_training_without_checkpoints(config: Config) -> None:
    path = config(training={"epochs": 2_000, "batch_size": 4}, checkpoints={"keep": 0})
    process = subprocess.Popen(
        [sys.executable, "-m", "biddable", "train", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if line.startswith("step 0:"):  # the held-out loss before the first step
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert is_clean_failure(Ran(process.returncode, out, told + err), code=130)
    assert err.splitlines()[-1] == "biddable: interrupted; nothing unfinished is left behind"


def test_ctrl_c_that_comes_while_garbage_is_collected(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __del__(self) -> None:  # where Python can raise nothing
            signal.raise_signal(signal.SIGINT)

    def collect(*_: object, **__: object) -> None:
        Interrupted()
        time.sleep(5)
        pytest.fail("went on")

    monkeypatch.setattr("biddable.data.readers.examine", collect)
    ran = cli("data", "show", "rows.jsonl")
    assert is_clean_failure(ran, code=130)
    assert ran.err == "biddable: interrupted; nothing unfinished is left behind\n"


def test_ctrl_c_that_comes_while_a_verb_ends(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def end(*_: object, **__: object) -> None:
        Interrupted()

    monkeypatch.setattr("biddable.cli.app", end)
    assert is_clean_failure(cli("data", "show", "rows.jsonl"), code=130)
    time.sleep(0.1)  # and nothing comes after it


def test_a_mistyped_run_is_no_hub_id(cli: Cli) -> None:
    Path("mine/talks").mkdir(parents=True)
    ran = cli("generate", "mine/tlaks", "Hi")
    assert is_clean_failure(ran, code=1)
    assert ran.err == (
        'biddable: model: there is no tlaks in the folder mine. Did you mean "talks"?\n'
    )


@pytest.mark.parametrize("of", [(), ("data",)])
def test_every_verb_is_summed_up_in_one_line_of_80_columns(cli: Cli, of: tuple[str, ...]) -> None:
    commands = cli(*of, "--help").out.partition("Commands:\n")[2].splitlines()
    assert len(commands) >= 4
    assert not [line for line in commands if line.endswith("...") or not line[2:3].strip()]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("trian",), "biddable: No such command 'trian'. Did you mean 'train'?"),
        (("check", "x"), "biddable: No such command 'check'. Did you mean 'data check'?"),
        (
            ("train", "--confg", "x"),
            "biddable: No such option: --confg. CONFIG is given by itself, without one. See: ",
        ),
        (("train",), "biddable: Missing argument 'CONFIG'. See: biddable train --help"),
        (
            ("chat", "mimic", "--base", "other"),
            "biddable: --base takes no name; --base-model other shows that model. See: ",
        ),
        (("demo", "--metod", "lora"), "biddable: No such option: --metod"),
        (("demo", "--method", "dora"), "biddable: Invalid value for '--method': 'dora' is not"),
        (("generate", "mimic", " "), "biddable: Invalid value for PROMPT: it is empty"),
        (
            ("generate", "mimic", "a", "--bare", "--template", "inst"),
            "biddable: Invalid value for --bare: it cannot stand beside --template",
        ),
    ],
)
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...], told: str) -> None:
    ran = cli(*arguments)
    assert is_clean_failure(ran, code=2)
    assert ran.err.startswith(told)


def test_traceback_only_with_debug_wherever_it_stands(cli: Cli) -> None:
    for arguments in (("--debug", "train", "run.yaml"), ("train", "run.yaml", "--debug")):
        ran = cli(*arguments)
        assert ran.code == 1
        assert "Traceback" in ran.err
        assert last_line(ran).startswith("biddable: run.yaml: no such file")


def test_what_we_did_not_foresee_is_told_in_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("biddable.config.load_config", fail)
    ran = cli("train", "run.yaml")
    assert is_clean_failure(ran)
    assert "internal error, please report it (RuntimeError: odd)" in ran.err
