"""Let many clients use a server for a while; benchmarks/soak.py does it for five minutes."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_no_answer_is_anothers_and_the_end_is_clean():
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--seconds", "20"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert found.returncode == 0, found.stderr
    seen = json.loads(found.stdout)
    assert seen["wrong"] == 0, seen["wrong_shown"]
    assert seen["exit_code"] == 0
    assert seen["seen"]["whole"] > 20
    assert seen["seen"]["left"] > 5
    memory = seen["memory_mb_by_tenth"]
    assert memory[-1] < 1.2 * memory[0]
