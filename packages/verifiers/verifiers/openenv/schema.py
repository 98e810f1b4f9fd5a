"""What a server's /schema says: which contract, and whether it is JSON Schema at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TYPES = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


def contract_of(action_schema: dict[str, Any]) -> str:
    """The contract of an action schema: "mcp" or "gym".

    "mcp" when an action is a tool call: `tool_name` and `arguments`, or a type that can be list_tools or call_tool.
    """
    properties = action_schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if {"tool_name", "arguments"} <= properties.keys():
        return "mcp"
    kind = properties.get("type")
    kinds = [*(kind.get("enum") or ()), kind.get("const")] if isinstance(kind, dict) else []
    if {"list_tools", "call_tool"} & {item for item in kinds if isinstance(item, str)}:
        return "mcp"
    for key in ("oneOf", "anyOf"):
        options = [option for option in action_schema.get(key) or () if isinstance(option, dict)]
        if options and all(contract_of(option) == "mcp" for option in options):
            return "mcp"
    return "gym"


def schema_problem(schema: Any, place: str) -> str | None:
    """The first thing in `schema` that is not JSON Schema (2020-12, as far as its words are used here), as a sentence
    that names its `place`; None when there is none."""
    return next(_problems(schema, place), None)


def _problems(schema: Any, place: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{place} is not a JSON object but {_shown(schema)}."
        return
    yield from _type(schema, place)
    for word in SCHEMA_MAPS:
        if word in schema:
            if not isinstance(schema[word], dict):
                yield f"{place}.{word} must be an object of schemas, not {_shown(schema[word])}."
                continue
            for name, part in schema[word].items():
                yield from _problems(part, f"{place}.{word}.{name}")
    for word in SCHEMA_LISTS:
        if word in schema:
            if not isinstance(schema[word], list) or not schema[word]:
                yield f"{place}.{word} must be a list of schemas, not {_shown(schema[word])}."
                continue
            for index, part in enumerate(schema[word]):
                yield from _problems(part, f"{place}.{word}[{index}]")
    for word in SCHEMAS:
        if word in schema and not (word == "items" and isinstance(schema[word], list)):
            yield from _problems(schema[word], f"{place}.{word}")
    yield from _values(schema, place)


def _type(schema: dict[str, Any], place: str) -> Iterator[str]:
    if "type" not in schema:
        return
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    for name in named:
        if not isinstance(name, str) or name not in TYPES:
            yield f"{place}.type is {_shown(name)}, which is no JSON Schema type ({', '.join(sorted(TYPES))})."


def _values(schema: dict[str, Any], place: str) -> Iterator[str]:
    required = schema.get("required")
    if required is not None and (not isinstance(required, list) or not all(isinstance(name, str) for name in required)):
        yield f"{place}.required must be a list of names, not {_shown(required)}."
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        yield f"{place}.enum must be a list of values, not {_shown(schema['enum'])}."
    for word in (*NUMBERS, *COUNTS):
        value = schema.get(word)
        whole = word in COUNTS
        if value is not None and (isinstance(value, bool) or not isinstance(value, int if whole else int | float)):
            yield f"{place}.{word} must be a {'whole ' if whole else ''}number, not {_shown(value)}."
    if "$ref" in schema and not isinstance(schema["$ref"], str):
        yield f"{place}.$ref must be a string, not {_shown(schema['$ref'])}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
