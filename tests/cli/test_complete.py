"""Hold what a shell is told when somebody presses the tab key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from biddable.cli_complete import _EMBEDDED
from tests.cli.conftest import Cli

SOURCE = Path(__file__).resolve().parents[2] / "src"


def complete(words: str, *, shell: str = "bash") -> list[str]:
    """Ask as the shell's own function does, and see that nothing heavy is loaded for it."""
    code = (
        "import atexit, sys; from biddable.cli import main;"
        "heavy = {'torch', 'transformers', 'numpy'};"
        "atexit.register(lambda: print(*heavy & set(sys.modules), file=sys.stderr));"
        "sys.argv = ['biddable']; main()"
    )
    number = len(words.split(" ")) - 1
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(number), "_TYPER_COMPLETE_ARGS": words}
    env = os.environ | asked | {"_BIDDABLE_COMPLETE": f"complete_{shell}"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env | {"PYTHONPATH": str(SOURCE)},
    )
    assert ran.stderr.strip() == ""
    return ran.stdout.split()


def test_embedded_names_are_those_of_the_loader() -> None:
    from biddable.models.loading import EMBEDDED

    assert _EMBEDDED == EMBEDDED


def test_models_are_embedded_ones_and_runs() -> None:
    for folder, file in (("runs/a", "config.json"), ("runs/b", "adapter_config.json")):
        Path(folder).mkdir(parents=True)
        Path(folder, file).touch()
    Path("runs/c.partial").mkdir()
    Path("runs/c.partial/config.json").touch()
    Path("runs/notes").mkdir()
    Path("small.gguf").touch()
    assert complete("biddable chat ") == ["mimic", "smollm2", "small.gguf", "runs/a", "runs/b"]
    assert complete("biddable compare mimic runs/") == ["runs/a", "runs/b"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("biddable evaluate mimic --suite ge", ["general"]),
        ("biddable generate mimic Hello --template chat", ["chatml"]),
        ("biddable init mimic st", ["starter"]),
        ("biddable do", ["doctor"]),
    ],
)
def test_names_that_come_with_the_package(words: str, expected: list[str]) -> None:
    assert complete(words) == expected


def test_zsh_is_told_in_its_own_form() -> None:
    assert complete("biddable chat mi", shell="zsh") == ["_arguments", "'*:", ':(("mimic"))\'']


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_of_a_shell_is_shown_and_installed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    import shellingham

    monkeypatch.setattr(shellingham, "detect_shell", lambda *args: (shell, f"/bin/{shell}"))
    with pytest.raises(SystemExit) as left:
        cli("--show-completion")
    assert left.value.code in (0, None)
