"""A tool definition from a Python function: its signature gives the schema, its docstring the descriptions."""

from __future__ import annotations

import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

from verifiers.types import Tool
from verifiers.utils.async_utils import function_name

_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def tool_from_function(func: Callable[..., Any]) -> Tool:
    """The Tool of a function, a partial one (what is given by name is the default) or a callable object.

    Parameters without annotation accept anything; Google-style `Args:` describe them.
    """
    written = func.func if isinstance(func, functools.partial) else func
    if not inspect.isroutine(written) and not inspect.isclass(written):
        written = type(written).__call__
    try:
        hints = typing.get_type_hints(written, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    said = inspect.getdoc(written) or (None if isinstance(func, functools.partial) else inspect.getdoc(func))
    summary, described = _docstring(said or "")
    properties: dict[str, Any] = {}
    required = []
    shared: dict[str, Any] = {}
    for name, parameter in inspect.signature(func).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        part = _lifted(schema_of(hints.get(name, Any)), shared)
        if name in described:
            part["description"] = described[name]
        if parameter.default is parameter.empty:
            required.append(name)
        elif parameter.default is None or isinstance(parameter.default, str | int | float | bool):
            part["default"] = parameter.default
        properties[name] = part
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Tool(function_name(func), summary, {**parameters, "$defs": shared} if shared else parameters)


def _lifted(schema: Any, shared: dict[str, Any]) -> Any:
    """The schema of one parameter with its `$defs` moved to `shared`, since references begin at the schema of them all."""
    if isinstance(schema, list):
        return [_lifted(item, shared) for item in schema]
    if not isinstance(schema, dict):
        return schema
    lifted = {name: _lifted(part, shared) for name, part in schema.items() if name != "$defs"}
    own = schema.get("$defs")
    if not isinstance(own, dict):
        return lifted
    number = 1
    while True:  # until no model of another parameter has one of the names and is a different one
        names = {name: name if number == 1 else f"{name}{number}" for name in own}
        new = {names[name]: _referring(part, names) for name, part in own.items()}
        if all(shared.get(name, part) == part for name, part in new.items()):
            shared.update(new)
            return _referring(lifted, names)
        number += 1


def _referring(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema with references to these definitions, by their new names."""
    if isinstance(schema, list):
        return [_referring(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: _referring(part, names) for name, part in schema.items()}
    old = str(changed.get("$ref", "")).removeprefix("#/$defs/")
    return {**changed, "$ref": f"#/$defs/{names[old]}"} if old in names else changed


def schema_of(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type annotation; `{}` (anything) for one it does not know."""
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        inner = schema_of(arguments[0])
        notes = [note for note in arguments[1:] if isinstance(note, str)]
        return {**inner, "description": notes[0]} if notes else inner
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(argument) for argument in arguments]}
    if origin in (list, set, frozenset, Sequence) or hint in (list, set):
        return {"type": "array", "items": schema_of(arguments[0]) if arguments else {}}
    if origin is tuple or hint is tuple:
        return {"type": "array"}
    if origin in (dict, Mapping) or hint is dict:
        values = schema_of(arguments[1]) if len(arguments) == 2 else {}
        return {"type": "object", "additionalProperties": values or True}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if typing.is_typeddict(hint):
        fields = {name: schema_of(part) for name, part in typing.get_type_hints(hint).items()}
        needed = sorted(hint.__required_keys__)
        return {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}
    if hasattr(hint, "model_json_schema"):
        return dict(hint.model_json_schema())
    return {}


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description before `Args:`, and the description of every argument."""
    head, *rest = re.split(r"^\s*(?:Args|Arguments|Parameters):\s*$", text, maxsplit=1, flags=re.MULTILINE)
    summary = re.split(r"^\s*(?:Returns|Raises|Yields|Examples?):\s*$", head, maxsplit=1, flags=re.MULTILINE)[0].strip()
    described: dict[str, str] = {}
    if rest:
        current = ""
        for line in rest[0].splitlines():
            if re.match(r"^\S.*:\s*$", line):
                break
            found = re.match(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$", line)
            if found:
                current = found[1]
                described[current] = found[2].strip()
            elif current and line.strip():
                described[current] += " " + line.strip()
    return summary, described
