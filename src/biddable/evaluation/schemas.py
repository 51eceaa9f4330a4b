"""Hold JSON against a JSON Schema; a schema never fetches another one from elsewhere."""

from __future__ import annotations

from typing import Any

from biddable.evaluation.extras import measuring

_NEED = "checking JSON by a schema"


def schema_violation(value: Any, schema: dict[str, Any]) -> str:
    """Say where JSON breaks a schema first; empty if it fits.

    Example:
        >>> schema_violation({"age": "7"}, {"properties": {"age": {"type": "integer"}}})
        "$.age: '7' is not of type 'integer'"
    """
    validator = _validator(schema)
    error = min(validator.iter_errors(value), key=lambda found: found.json_path, default=None)
    return f"{error.json_path}: {error.message[:200]}" if error else ""


def schema_problem(schema: dict[str, Any]) -> str | None:
    """Say what is wrong with a schema; None if it is one.

    Example:
        >>> print(schema_problem({"type": "integr"}))  # doctest: +ELLIPSIS
        check of kind "json" has no JSON Schema: $.type: 'integr' is not valid under any ...
    """
    kind = measuring("jsonschema.validators", needed_for=_NEED).validator_for(
        schema, default=measuring("jsonschema", needed_for=_NEED).Draft202012Validator
    )
    error = next(kind(kind.META_SCHEMA).iter_errors(schema), None)
    if error:
        return f'check of kind "json" has no JSON Schema: {error.json_path}: {error.message[:200]}'
    if _refers_elsewhere(schema):
        return 'check of kind "json" has a "$ref" to elsewhere; put what it names under "$defs".'
    return None


def _validator(schema: dict[str, Any]) -> Any:
    jsonschema = measuring("jsonschema", needed_for=_NEED)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return kind(schema)


def _refers_elsewhere(part: Any) -> bool:
    if isinstance(part, list):
        return any(map(_refers_elsewhere, part))
    if not isinstance(part, dict):
        return False
    target = part.get("$ref", part.get("$dynamicRef", "#"))
    is_local = not isinstance(target, str) or target.startswith("#")
    return not is_local or any(map(_refers_elsewhere, part.values()))
