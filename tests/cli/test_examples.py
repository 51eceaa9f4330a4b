"""Hold that the configs in examples/ are ones that ``biddable train`` takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from biddable import load_config

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_config(path: Path) -> None:
    config = load_config(path)
    assert config.output.startswith("runs/")
    assert f"biddable train examples/{path.name}" in path.read_text(encoding="utf-8")
