"""Hold the import order of DESIGN section 2, and the cost of an import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib

import pytest

from tests.architecture.source_tree import PACKAGE, imported, imported_modules, modules

ORDER = {
    "counting": 0,
    "errors": 0,
    "config_yaml": 1,
    "config_values": 1,
    "config_checkpoints": 2,
    "config_data": 2,
    "config_training": 2,
    "config_watch": 2,
    "config": 3,
    "curves": 4,
    "hub": 4,
    "manifest": 4,
    "whole_folder": 4,
    "data": 5,
    "models": 6,
    "training": 7,
    "evaluation": 7,
    "serving": 7,
    "demo": 8,
    "doctor": 8,
    "proposal": 8,
    "rehearsal": 8,
    "cli_complete": 8,
    "cli_heap": 8,
    "cli_interrupt": 8,
    "cli_help": 9,
    "cli_options": 9,
    "cli_progress": 10,
    "cli_chat": 11,
    "cli_compare": 11,
    "cli_data": 11,
    "cli_evaluate": 11,
    "cli_export": 11,
    "cli_init": 11,
    "cli_judge": 11,
    "cli_plan": 11,
    "cli_serve": 11,
    "cli": 12,
    "__main__": 13,
}
# The package itself names them all, lazily; these may use it as any user does.
MAY_USE_PUBLIC_NAMES = {
    "demo",
    "doctor",
    "rehearsal",
    "cli_complete",
    "cli_options",
    "cli_progress",
    "cli_chat",
    "cli_compare",
    "cli_data",
    "cli_evaluate",
    "cli_export",
    "cli_init",
    "cli_judge",
    "cli_plan",
    "cli_serve",
    "cli",
    "__main__",
}
# What a distribution is called where that is not the name that is imported.
IMPORTED_AS = {"pyyaml": "yaml"}


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {name.partition(".")[0] for name in modules()} - {""}
    assert rooms <= set(ORDER)


def test_imports_go_one_way() -> None:
    known = modules()
    wrong = []
    for name, tree in known.items():
        room = name.partition(".")[0]
        if room == "":
            continue
        for target, line in imported_modules(tree, known):
            other = target.partition(".")[0]
            if other == room:
                continue
            is_allowed = room in MAY_USE_PUBLIC_NAMES if other == "" else ORDER[other] < ORDER[room]
            if not is_allowed:
                wrong.append(f"{name}:{line} imports {target or 'biddable'}")
    assert wrong == []


def test_no_import_cycles() -> None:
    known = modules()
    graph = {
        name: {target for target, _ in imported_modules(tree, known)} - {name, ""}
        for name, tree in known.items()
    }
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in finished:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            finished.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())["project"]
    base = {_import_name(line) for line in project["dependencies"]}
    extras = {
        _import_name(line)
        for extra, lines in project["optional-dependencies"].items()
        if extra != "dev"
        for line in lines
    }
    used = {name.partition(".")[0] for tree in modules().values() for name, _ in imported(tree)}
    third_party = used - set(sys.stdlib_module_names) - {"biddable"}
    assert third_party - base - extras == set()
    assert base - third_party == set()


@pytest.mark.parametrize(
    "module", ["biddable", "biddable.config", "biddable.manifest", "biddable.cli"]
)
def test_import_stays_light(module: str) -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'pandas', 'scipy', 'statsmodels', 'matplotlib'}"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent)},
    )
    assert found.stdout.split() == []


def _import_name(requirement: str) -> str:
    name = requirement.lower()
    for index, character in enumerate(name):
        if not (character.isalnum() or character in "-_"):
            name = name[:index]
            break
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def test_the_reader_of_imports_sees_those_in_functions() -> None:
    tree = ast.parse("def f():\n    from biddable.data.encoding import encode\n")
    known = {"": tree, "data": tree, "data.encoding": tree}
    assert imported_modules(tree, known) == [("data.encoding", 2)]
