"""Write a run folder from a model that two processes divide, and compare with a whole one's."""

import errno
import json
import os
import signal
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import multiprocessing
from transformers import MixtralConfig, MixtralForCausalLM

from biddable.config import parse_config
from biddable.config_training import TrainingConfig
from biddable.errors import CheckpointError, TrainingError
from biddable.models.freezing import freeze_layers
from biddable.models.lora import LoRAKind, apply_lora
from biddable.models.token_rows import train_token_rows
from biddable.training import gathering, preparation
from biddable.training.checkpoint import RunRecord, save_run
from biddable.training.finetune import run_training
from biddable.training.gathering import gathered_by_main
from biddable.training.sharding import Sharding
from tests.tiny import tiny_gpt2, tiny_model, tiny_tokenizer
from tests.training.test_distributed import TIMEOUT_S, free_port, open_world, write_run
from tests.training.test_sharding import in_two

FULL = TrainingConfig(sharding="full")
RECORD = RunRecord(config={"seed": 1}, manifest={"base_model": "tiny"}, log=[])
KINDS = ("llama", "tied", "gpt2", "mixtral", "rows", "tied rows", "lora", "dora", "pissa")
FILE_BYTES = 2**16  # the embeddings have a file to themselves
INDEX = "model.safetensors.index.json"


def model_of(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind == "gpt2":
            return tiny_gpt2()
        if kind == "mixtral":  # saved with a matrix for each expert, held as one tensor of all
            sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6}
            heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
            return MixtralForCausalLM(MixtralConfig(vocab_size=300, **sizes, **heads)).eval()
        model = tiny_model(tie="tied" in kind)
        if kind in ("lora", "dora", "pissa"):
            init = "pissa" if kind == "pissa" else "zeros"
            apply_lora(model, rank=2, kind=LoRAKind(dora=kind == "dora", init=init))
        if kind in ("rows", "tied rows", "lora"):
            if kind != "lora":
                freeze_layers(model, 1)
                model.lm_head.requires_grad_(False)
            train_token_rows(model, [5, 290])
        for parameter in model.parameters():  # as if it had been trained
            parameter.data += 0.01 * torch.randn_like(parameter) * parameter.requires_grad
        return model


def save(kind, folder, model, gather=None):
    return save_run(
        Path(folder, kind), model=model, tokenizer=tiny_tokenizer(), record=RECORD, gather=gather
    )


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def tensors_of(files):
    """Give what weights' files hold, by name, as lists that can be compared."""
    named = {name: tensor for path in files for name, tensor in load_file(path).items()}
    return {name: tensor.tolist() for name, tensor in named.items()}


class Whole:
    """Watch what is gathered: at most how many bytes of it are there at a time."""

    def __init__(self, patch):
        self.live, self.most = 0, 0
        self._gather = gathering.whole
        patch.setattr(gathering, "whole", self)

    def __call__(self, tensor):
        made = self._gather(tensor)
        self.live += made.nbytes
        self.most = max(self.most, self.live)
        weakref.finalize(made, self._forget, made.nbytes)
        return made

    def _forget(self, size):
        self.live -= size


def saving_worker(rank, port, folder):
    world = open_world(rank, port)
    found = {}
    for kind in KINDS:
        model = model_of(kind)
        Sharding.choose(model, FULL, world)
        with gathered_by_main(model, world) as gather:
            assert (gather is None) == (rank == 1)
            if gather is not None:
                save(kind, folder, model, gather)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "_FILE_BYTES", FILE_BYTES)
        for kind in ("llama", "mixtral"):
            model = model_of(kind)
            Sharding.choose(model, FULL, world)
            seen = Whole(patch)
            with gathered_by_main(model, world) as gather:
                if gather is not None:
                    save(f"{kind} in files", folder, model, gather)
            largest = max(p.numel() * p.element_size() for p in model.parameters())
            found[kind] = (seen.most, largest)
        found["refused"] = refused(world, folder, patch)
    with suppress(KeyError), gathered_by_main(model, world) as gather:
        if gather is not None:
            world.is_broken = True
            raise KeyError  # the other one is told that there is no more to come
    torch.save(found, Path(folder, f"{rank}.pt"))
    world.close()


def refused(world, folder, patch):
    """Let the disk refuse the second file of weights; rank 0 alone has to say so."""
    model, calls = model_of("llama"), []
    Sharding.choose(model, FULL, world)

    def refuse(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(gathering, "save_file", refuse)
    try:
        with gathered_by_main(model, world) as gather:
            if gather is not None:
                save("refused", folder, model, gather)
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.fixture
def one_thread():
    """Let PiSSA's start be made in as many threads as by the processes: its bits depend on that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_folder_of_gathered_parts_is_that_of_the_whole_model(tmp_path):
    both = in_two(saving_worker, tmp_path)
    for kind in KINDS:
        wanted = files_of(save(kind, tmp_path / "whole", model_of(kind)))
        assert files_of(tmp_path / kind) == wanted
    for kind in ("llama", "mixtral"):
        cut, made = tmp_path / "cut" / kind, tmp_path / f"{kind} in files"
        model_of(kind).save_pretrained(cut, max_shard_size=FILE_BYTES)
        weights = sorted(made.glob("model-*.safetensors"))
        assert len(weights) > 3
        if kind == "llama":  # of mixtral transformers puts parts of one tensor into one file
            assert {path.name: path.read_bytes() for path in made.glob("model*")} == {
                path.name: path.read_bytes() for path in cut.glob("model*")
            }
        assert tensors_of(weights) == tensors_of(cut.glob("*.safetensors"))
        assert len(json.loads((made / INDEX).read_text())["weight_map"]) == len(tensors_of(weights))
        (of_main, largest), (of_other, _) = (found[kind] for found in both)
        assert of_other <= 2 * largest  # one parameter, and the one that takes its place
        assert of_main <= FILE_BYTES + 4 * largest  # a file, and a layer that is under way
    assert "No space left on device" in both[0]["refused"]
    assert both[1]["refused"] == ""
    assert not list(tmp_path.glob("*.partial"))
    assert not (tmp_path / "refused").exists()


def test_a_conversion_that_reaches_over_layers_is_given_all(tmp_path, monkeypatch):
    model = tiny_model()
    state, asked = model.state_dict(), []

    def convert(model, given):
        asked.append(len(given))
        end = "" if len(given) == len(state) else ".part"
        return {name + end: tensor for name, tensor in given.items()}

    monkeypatch.setattr(gathering, "revert_weight_conversion", convert)
    gathering.write_weights(model, tmp_path, state.__getitem__)
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert asked[-1] == len(state)


def config_of(name):
    return parse_config(
        {
            "model": "base",
            "template": "inst",
            "data": {"train": "rows.jsonl", "held_out_rows": 4},
            "training": {"epochs": 2, "batch_size": 4, "sharding": "full", "keep": "best"},
            "checkpoints": {"every_steps": 3},
            "output": name,
        }
    )


def running_worker(rank, port, name, dies, resume):
    """Make a run; one process may be killed as rank 0 asks it for a part of the third weight."""
    for key, value in {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }.items():  # fmt: skip
        os.environ[key] = str(value)
    torch.set_num_threads(1)
    gather, calls = gathering.whole, []

    def gather_or_die(tensor):
        calls.append(1)
        if dies and rank == 1 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return gather(tensor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "whole", gather_or_die)
        if rank == 1:
            patch.delattr(preparation, "load")  # only the first one has the base
        try:
            run_training(config_of(name), resume=resume)
        except TrainingError as error:
            Path(f"{name}.told").write_text(str(error))


def run_in_two(name, *, dies=False, resume=False):
    context, port = multiprocessing.get_context("spawn"), free_port()
    running = [
        context.Process(target=running_worker, args=(rank, port, name, dies, resume))
        for rank in (0, 1)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(TIMEOUT_S)
        process.kill()  # one that waits for the other
    return [process.exitcode for process in running]


@pytest.mark.slow
def test_a_process_that_is_killed_as_the_folder_is_written_leaves_the_run_to_go_on(tmp_path):
    write_run(tmp_path)
    assert run_in_two("killed", dies=True) == [0, -signal.SIGKILL]
    told = Path("killed.told").read_text()
    assert "another process of this run has ended" in told
    assert "It is saved at step " in told
    assert not Path("killed").exists()
    assert not Path("killed.partial").exists()
    assert run_in_two("killed", resume=True) == [0, 0]
    assert run_in_two("unbroken") == [0, 0]
    found, wanted = files_of("killed"), files_of("unbroken")
    assert found["model.safetensors"] == wanted["model.safetensors"]
    assert found.keys() == wanted.keys()
    assert not Path("killed.checkpoints").exists()
