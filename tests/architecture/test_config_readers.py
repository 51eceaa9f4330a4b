"""Hold that every config field has exactly one reader, so that none is dead and none is guessed at.

A reader is a module that takes the field from a value that is known, by its annotation, to be one
of the config's models (``settings: TrainingConfig`` ... ``settings.epochs``).
"""

from __future__ import annotations

import ast

from biddable.config import SECTIONS, RunConfig, config_fields
from tests.architecture.source_tree import modules

MODELS = {model.__name__: model for model in (RunConfig, *SECTIONS.values())}
PREFIXES = {model.__name__: f"{section}." for section, model in SECTIONS.items()}
PREFIXES["RunConfig"] = ""


def test_every_field_has_exactly_one_reader() -> None:
    found = readers(
        {name: tree for name, tree in modules().items() if not name.startswith("config")}
    )
    missing = [key for key in config_fields() if not found.get(key)]
    several = {key: sorted(names) for key, names in found.items() if len(names) > 1}
    assert (missing, several) == ([], {})


def test_reads_are_seen_through_annotations_aliases_and_sections() -> None:
    tree = ast.parse(
        "def run(config: RunConfig, *, settings: 'TrainingConfig | None' = None):\n"
        "    method = config.method\n"
        "    def inner():\n"
        "        return method.rank, config.data.train\n"
        "    return settings.epochs, other.seed, config.output\n"
    )
    assert readers({"room": tree}) == {
        key: {"room"} for key in ("method.rank", "data.train", "training.epochs", "output")
    }


def readers(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        for key in _reads(tree, {}):
            found.setdefault(key, set()).add(name)
    return found


def _reads(scope: ast.AST, outer: dict[str, str]) -> set[str]:
    """List the keys that are read in a scope and the functions within it."""
    nodes = _own_nodes(scope)
    known = _known_models(scope, nodes, outer)
    keys: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            keys |= _reads(node, known)
        elif isinstance(node, ast.Attribute) and (model := _model_of(node.value, known)):
            key = PREFIXES[model] + node.attr
            keys |= {key} & set(config_fields())
    return keys


def _known_models(scope: ast.AST, nodes: list[ast.AST], outer: dict[str, str]) -> dict[str, str]:
    """Map the variables of a scope that hold a config model to that model's name."""
    known = dict(outer)
    if isinstance(scope, ast.FunctionDef):
        for argument in (*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs):
            known.pop(argument.arg, None)
            if model := _annotated_model(argument.annotation):
                known[argument.arg] = model
    for node in nodes:
        if isinstance(node, ast.AnnAssign):
            target, model = node.target, _annotated_model(node.annotation)
        elif isinstance(node, ast.Assign):
            target, model = node.targets[0], _model_of(node.value, known)
        else:
            continue
        if isinstance(target, ast.Name) and model:
            known[target.id] = model
    return known


def _own_nodes(scope: ast.AST) -> list[ast.AST]:
    """List a scope's nodes in the order written, functions within it unopened."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(scope):
        found.append(child)
        if not isinstance(child, ast.FunctionDef):
            found += _own_nodes(child)
    return found


def _annotated_model(annotation: ast.expr | None) -> str | None:
    if annotation is None:
        return None
    text = ast.unparse(annotation)
    return next((name for name in MODELS if name in text), None)


def _model_of(node: ast.expr, known: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and _model_of(node.value, known) == "RunConfig":
        section = SECTIONS.get(node.attr)
        return section and section.__name__
    if isinstance(node, ast.Call):  # config = load_config(path); settings = TrainingConfig(...)
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("load_config", "parse_config"):
            return "RunConfig"
        return called if called in MODELS else None
    return None
