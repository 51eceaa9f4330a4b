import psutil
import pytest
import torch

from biddable.training.memory import free_memory, group_memory_left, peak_memory

CPU = torch.device("cpu")


def test_the_peak_of_this_process_grows_with_what_it_takes():
    before, now = peak_memory(CPU), psutil.Process().memory_info().rss
    block = torch.ones((before - now) // 4 + 50_000_000)  # floats of 4 bytes, past the peak
    assert peak_memory(CPU) >= now + 0.9 * block.nbytes > before
    assert free_memory(CPU) > 0


@pytest.fixture
def groups(tmp_path):
    """A machine whose process is in the group /job/step."""
    (tmp_path / "own").write_text("4:memory:/job/step\n2:cpu:/\n0::/job/step\n")

    def write(folder, **files):
        path = tmp_path / "groups" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name.replace("__", ".")).write_text(f"{text}\n")

    write("")
    return tmp_path / "groups", tmp_path / "own", write


def test_no_limit_is_set(groups):
    root, own, write = groups
    assert group_memory_left(root, own) is None
    write("job/step", memory__max="max", memory__current=500)
    assert group_memory_left(root, own) is None
    assert group_memory_left(root, root / "nothing") is None


def test_the_tightest_limit_counts_and_cached_files_do_not(groups):
    root, own, write = groups
    write("job/step", memory__max=1000, memory__current=700)
    write("job/step", memory__stat="anon 200\ninactive_file 300")
    assert group_memory_left(root, own) == 600
    write("job", memory__max=2000, memory__current=1900)
    assert group_memory_left(root, own) == 100


def test_the_first_version_of_groups_is_read_too(groups):
    root, own, write = groups
    write("memory/job/step", memory__limit_in_bytes=900, memory__usage_in_bytes=1000)
    assert group_memory_left(root, own) == 0
