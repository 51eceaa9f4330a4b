"""Stop and resume whole runs from their config, and refuse to resume another run."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from torch.distributed import HashStore

from biddable.config import parse_config
from biddable.errors import CheckpointError, RunStopped, TrainingError
from biddable.training import finetune, passes, trainer
from biddable.training.distributed import World
from biddable.training.ending import leading
from biddable.training.finetune import run_training
from biddable.training.planner import plan_run
from tests.tiny import tiny_model, tiny_tokenizer

ROWS = [{"instruction": f"Say {n}", "response": str(n)} for n in range(12)]
TRAINING = {"epochs": 2, "batch_size": 4}
DOCUMENTS = {"train": "documents.jsonl"}  # of two questions each


def write_base(seed=0):
    tiny_model(seed).save_pretrained("base")
    tiny_tokenizer().save_pretrained("base")


def write_rows(rows):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(autouse=True)
def _files(tmp_path):
    write_base()
    write_rows(ROWS)


def config_of(**changes):
    values = {
        "model": "base",
        "data": {"train": "rows.jsonl", "held_out_rows": 4},
        "template": "inst",
        "training": TRAINING,
        "output": "run",
    }
    return parse_config(values | changes)


def stopped_at(step, **changes):
    """Run until after a step, then send this process the signal that schedulers send."""

    def listen(event):
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped, match=f"stopped by SIGTERM, and saved at step {step} of 4"):
        run_training(config_of(**changes), on_event=listen)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # given back


def weights_of(folder):
    (file,) = Path(folder).glob("*model.safetensors")
    return file.read_bytes()


CHATML = ["<|im_start|>", "<|im_end|>"]
KINDS = {
    "dora": ({"name": "lora", "dora": True}, {}),
    "pissa": ({"name": "lora", "init": "pissa"}, {}),
    "rslora, LoRA+": ({"name": "lora", "rslora": True, "lora_plus_ratio": 4.0}, {}),
    "new tokens": ({"name": "lora", "new_tokens": CHATML}, {"template": "chatml"}),
    "noise": ("full", {"training": {**TRAINING, "neftune_alpha": 5.0, "schedule": "wsd"}}),
    "recomputed": (
        {"name": "lora", "dropout": 0.1},
        {"training": {**TRAINING, "gradient_checkpointing": True, "weight_decay": 0.1}},
    ),
    "kept together": ("full", {"training": {**TRAINING, "keep_together": True}, "data": DOCUMENTS}),
}


@pytest.mark.parametrize(("method", "changes"), KINDS.values(), ids=KINDS)
def test_every_kind_of_training_goes_on_bit_for_bit(method, changes):
    asked = [f"{chr(97 + n % 4) * 60} {n}" for n in range(8)]
    rows = [{"instruction": text, "response": "yes"} for text in asked]
    Path("documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_training(config_of(method=method, output="unbroken", **changes))
    stopped_at(3, method=method, **changes)
    run_training(config_of(method=method, **changes), resume=True)
    assert weights_of("run") == weights_of("unbroken")


@pytest.mark.parametrize("rank", [0, 1])
def test_no_collective_is_open_while_rows_are_encoded(rank, monkeypatch):
    done = []

    class OneOfTwo(World):
        size = 2

        def open(self, device):
            done.append("opened")

    OneOfTwo.rank = rank
    encode = finetune.encode_parts
    monkeypatch.setattr(finetune, "find_world", OneOfTwo)
    monkeypatch.setattr(finetune, "encode_parts", lambda *_: done.append("encoded") or encode(*_))
    monkeypatch.setattr(finetune, "_train", lambda *_, **__: done.append("trained"))
    with pytest.raises(AttributeError) if rank == 0 else nullcontext():  # there is no log to write
        run_training(config_of())
    assert done == ["encoded", "opened", "trained"]


@pytest.mark.parametrize("method", ["full", "freeze", {"name": "lora", "dropout": 0.1}])
def test_a_resumed_run_leaves_what_an_unbroken_one_does(method):
    run_training(config_of(method=method, output="unbroken"))
    stopped_at(3, method=method)
    assert sorted(p.name for p in Path().glob("run*")) == ["run.checkpoints"]
    told = []
    run_training(config_of(method=method), resume=True, on_event=told.append)
    assert "resumed at step 3 of 4" in [event.get("summary") for event in told]
    assert sorted(p.name for p in Path().glob("run*")) == ["run"]
    assert weights_of("run") == weights_of("unbroken")
    results = [
        json.loads(Path(f, "manifest.json").read_text())["results"] for f in ("unbroken", "run")
    ]
    assert [r["resumed_at"] for r in results] == [[], [3]]
    keys = ("steps", "tokens", "held_out_loss", "held_out_loss_before", "kept_step")
    assert [results[0][key] for key in keys] == [results[1][key] for key in keys]


def refusal(**changes):
    with pytest.raises(CheckpointError) as refused:
        run_training(config_of(**changes), resume=True)
    assert str(refused.value).startswith("run.checkpoints: the run that was cut off was another")
    assert Path("run.checkpoints").exists()
    assert not Path("run").exists()
    return str(refused.value)


def test_another_run_is_refused_and_the_difference_is_named():
    stopped_at(1)
    more = {**TRAINING, "epochs": 3}
    assert "training.epochs was 2, and is 3." in refusal(training=more)
    assert 'template was "inst", and is "alpaca"' in refusal(template="alpaca")
    write_rows([{"instruction": "Say 0", "response": "zero"}, *ROWS[1:]])
    assert "the rows of data.train, as they are encoded, are others." in refusal()
    write_rows(ROWS)
    write_base(seed=1)
    assert "the weights of the model before training are others." in refusal()
    write_base()
    run_training(config_of(), resume=True)


def test_what_no_number_depends_on_may_change():
    stopped_at(1)
    changes = {"training": {**TRAINING, "on_nonfinite": "skip"}, "checkpoints": {"every_steps": 1}}
    assert run_training(config_of(**changes), resume=True) == Path("run")


@pytest.mark.parametrize(("policy", "what"), [("stop", "loss"), ("skip", "loss"), ("skip", "held")])
def test_what_a_loss_that_is_no_number_advises_is_not_refused(policy, what, monkeypatch):
    accumulate = passes.accumulate_gradient
    bad = float("nan")
    config = config_of(training={**TRAINING, "epochs": 3, "on_nonfinite": policy})
    other = config_of(training={**TRAINING, "epochs": 3, "on_nonfinite": "skip"})
    with monkeypatch.context() as patch:
        if what == "loss":
            patch.setattr(passes, "accumulate_gradient", lambda *a, **o: accumulate(*a, **o) * bad)
        else:
            patch.setattr(trainer, "held_out_loss", lambda *_, **__: (bad, 1))
        with pytest.raises(TrainingError, match="is nan; expected a finite number") as raised:
            run_training(config)
    told = str(raised.value)
    if policy == "stop":
        assert "Set training.on_nonfinite: skip to leave it out, or begin anew with a" in told
        assert told.endswith(" It is saved at step 0.")
        assert raised.value.is_resumable
        assert run_training(other, resume=True) == Path("run")
        return
    assert told.endswith(" To begin anew, delete run.checkpoints first.")
    assert "Begin anew with a lower training.learning_rate" in told
    assert not raised.value.is_resumable  # the command line would advise --resume
    shutil.rmtree("run.checkpoints")
    slower = {**config.training.model_dump(), "learning_rate": 1e-5}
    assert run_training(config_of(training=slower)) == Path("run")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])
    return "is cut"


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    return "is damaged, by its hash"


@pytest.mark.parametrize("damage", [cut, flip_a_bit])
def test_a_damaged_newest_falls_back_to_the_one_before_and_says_so(damage):
    every_step = {"every_steps": 1}
    run_training(config_of(output="unbroken"))
    stopped_at(3, checkpoints=every_step)
    newest = Path("run.checkpoints/step-00000003/trained.safetensors")
    kind = damage(newest)
    told = []
    run_training(config_of(checkpoints=every_step), resume=True, on_event=told.append)
    summaries = [event.get("summary") for event in told]
    assert summaries[0].startswith(f"passed over: {newest}: {kind}")
    assert "resumed at step 2 of 4" in summaries
    assert weights_of("run") == weights_of("unbroken")


@pytest.fixture
def disk(tmp_path):
    """A real file system of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_turns_bad_on_the_way_costs_nothing(disk, trouble, monkeypatch):
    if trouble == "read-only":  # a lock is an open file, with which mount would refuse to turn it
        monkeypatch.setattr(finetune, "locked", lambda output: nullcontext())
    run_training(config_of(output="unbroken"))
    filler = disk / "filler"

    def turn(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)

    def listen(event):
        told.append(event.get("summary", ""))
        if event["event"] == "step" and event["step"] == 3:
            if trouble == "full":
                filler.write_bytes(bytes(shutil.disk_usage(disk).free))
            else:
                turn("ro")

    told = []
    config = config_of(output=str(disk / "run"), checkpoints={"every_steps": 1})
    with pytest.raises(CheckpointError, match=r"It is saved at step 2\.$") as raised:
        run_training(config, on_event=listen)
    assert raised.value.is_resumable
    reason = {"full": "No space left", "read-only": "Read-only"}[trouble]
    failed = [text for text in told if text.startswith("training goes on, but could not be saved")]
    assert len(failed) == 2
    assert all(reason in text for text in failed)
    if trouble == "full":
        filler.unlink()
    else:
        turn("rw")
    run_training(config, resume=True)
    assert [path.name for path in disk.iterdir()] == ["run"]
    assert weights_of(disk / "run") == weights_of("unbroken")


def test_a_run_is_not_begun_where_a_cut_off_one_lies():
    stopped_at(2)
    with pytest.raises(CheckpointError, match=r"saved at step 2. Go on with it by adding --resume"):
        run_training(config_of())
    assert "adding --resume" in str(plan_run(config_of()).in_the_way)
    assert Path("run.checkpoints/step-00000002").exists()


def test_a_folder_of_another_run_is_not_taken_for_a_whole_one():
    run_training(config_of())
    with pytest.raises(CheckpointError, match="already holds a run"):
        run_training(config_of(seed=1), resume=True)


@pytest.mark.parametrize(
    "error", [TrainingError("lost"), CheckpointError("full"), RunStopped("asked", exit_code=143)]
)
def test_what_ends_all_processes_is_told_by_the_first_alone(monkeypatch, error):
    class Second(World):
        rank, size, store = 1, 2, HashStore()

        def wait_for_turn(self):
            with suppress(TrainingError), leading(self):  # what rank 0 does meanwhile
                raise TrainingError
            return ""

    def end(*_, **__):
        raise error

    monkeypatch.setattr(finetune, "find_world", Second)
    monkeypatch.setattr(finetune, "_train", end)
    with pytest.raises(type(error), match=str(error)) as raised:
        run_training(config_of())
    assert raised.value.is_told
    assert list(Path().glob("run*")) == []


def test_checkpoints_may_stay():
    stopped_at(2, checkpoints={"when_done": "keep"})
    run_training(config_of(checkpoints={"when_done": "keep"}), resume=True)
    assert Path("run.checkpoints/step-00000002").exists()


def test_without_checkpoints_ctrl_c_is_what_it_always_is():
    def listen(event):
        if event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(config_of(checkpoints={"keep": 0}), on_event=listen)
    assert list(Path().glob("run*")) == []


def test_the_best_of_a_run_is_what_its_folder_says():
    training = {**TRAINING, "epochs": 4, "keep": "best", "learning_rate": 0.05}
    folder = run_training(config_of(training=training))
    results = json.loads((folder / "manifest.json").read_text())["results"]
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = {r["step"]: r["loss"] for r in log if r["event"] == "held_out" and r["step"]}
    assert results["kept_step"] == min(losses, key=losses.get)
    assert results["held_out_loss"] == min(losses.values())
