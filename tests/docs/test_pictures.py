"""The documentation's pictures are what the code gives today, and fit for any page."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "scripts" / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_drawn_pictures_are_the_committed_ones(pictures: ModuleType) -> None:
    for name, draw in pictures.PICTURES_DRAWN.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == draw(), f"{name}: `make pictures`"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_sound_in_light_and_dark_and_loads_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_a_comparison_is_drawn_with_its_own_words_and_rates(
    pictures: ModuleType, tmp_path: Path
) -> None:
    rate = {"rate": 0.5, "ci95": [0.25, 0.75], "n": 12}
    found = {side: {"instruction_following": rate} for side in ("base", "instruct")}
    (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
    rows = [
        {
            "instruction": asked,
            "base": {"output": "\n\nsaid <b>\nagain"},
            "instruct": {"output": "Yes."},
        }
        for asked in pictures.ASKED
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "samples.jsonl").write_text(lines, encoding="utf-8")
    assert pictures.main(["--run", str(tmp_path), "--out", str(tmp_path)]) == 0
    drawn = (tmp_path / "base-and-instruct.svg").read_text(encoding="utf-8")
    words = [text.text for text in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("said <b>") == len(pictures.ASKED)
    assert "Does what it is asked: 50.0 % (25.0–75.0) → 50.0 % (25.0–75.0)" in " ".join(
        map(str, words)
    )
