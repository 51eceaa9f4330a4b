"""Hold the generated pages and the release's version against the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import biddable

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_is_the_same_everywhere(reference: ModuleType) -> None:
    assert reference.release_problems() == []


def test_changelog_of_another_version_is_noticed(
    reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(biddable, "__version__", "9.9")
    assert reference.release_problems() == [
        "src/biddable/__init__.py: version 9.9; pyproject.toml says 0.1.0."
    ]


@pytest.mark.parametrize("page", ["api.md", "cli.md", "config.md", "decisions.md", "errors.md"])
def test_pages_equal_the_generated_ones(reference: ModuleType, page: str) -> None:
    assert (reference.PAGES / page).read_text(encoding="utf-8") == reference.PAGE_WRITERS[page]()


def test_a_page_that_differs_fails_the_check(
    reference: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(reference, "PAGES", tmp_path)
    monkeypatch.setattr(reference, "PAGE_WRITERS", {"config.md": reference.config_page})
    assert reference.main(["--check"]) == 1
    assert "docs/reference/config.md: differs" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
