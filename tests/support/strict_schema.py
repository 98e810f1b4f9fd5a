"""A JSON Schema checker that is strict and slow: it lists what is wrong, knows formats, and refuses words it does not
know. It shares no line with the library's own."""

from __future__ import annotations

import json
import re
import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

FORMATS = {
    "date": date.fromisoformat,
    "date-time": datetime.fromisoformat,
    "uuid": uuid.UUID,
    "email": lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", text).end(),
    "uri": lambda text: {"http": 1, "https": 1}[urlsplit(text).scheme],
}
KINDS = {"integer": int, "string": str, "boolean": bool, "object": dict, "array": list, "null": type(None)}
SILENT = {"title", "description", "default", "$defs", "discriminator", "examples", "then", "else"}


def wrong(schema: Any, value: Any, root: Any = None) -> list[str]:
    """Every complaint about `value`, each beginning with the word of the schema that makes it."""
    root = schema if root is None else root
    if schema is True:
        return []
    if schema is False:
        return ["false"]
    if schema.get("nullable") and value is None:
        return []
    found = []
    for word, given in schema.items():
        if word not in SILENT and not CHECKS[word](given, value, schema, root):
            found.append(f"{word} {given!r} against {value!r}")
    return found


def ok(schema: Any, value: Any, root: Any) -> bool:
    return not wrong(schema, value, root)


def key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def kind(name: str, value: Any) -> bool:
    if name == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, KINDS[name]) and (name != "integer" or not isinstance(value, bool))


def follow(reference: str, root: Any) -> Any:
    for name in reference.split("/")[1:]:
        root = root[name]
    return root


def formed(name: str, value: Any) -> bool:
    try:
        return value is None or bool(FORMATS[name](value))
    except (ValueError, AttributeError, KeyError):
        return False


def number(compare):
    return lambda given, value, schema, root: not kind("number", value) or compare(Decimal(str(value)), given, schema)


def sized(what, compare):
    return lambda given, value, schema, root: not isinstance(value, what) or compare(len(value), given)


def extras(given: Any, value: Any, schema: Any, root: Any) -> bool:
    if not isinstance(value, dict):
        return True
    patterns = schema.get("patternProperties", {})
    named = {
        name for name in value if name in schema.get("properties", {}) or any(re.search(p, name) for p in patterns)
    }
    return all(ok(given, item, root) for name, item in value.items() if name not in named)


CHECKS = {
    "$ref": lambda given, value, schema, root: ok(follow(given, root), value, root),
    "type": lambda given, value, schema, root: any(
        kind(name, value) for name in ([given] if isinstance(given, str) else given)
    ),
    "const": lambda given, value, schema, root: key(given) == key(value),
    "enum": lambda given, value, schema, root: key(value) in [key(item) for item in given],
    "nullable": lambda given, value, schema, root: True,
    "allOf": lambda given, value, schema, root: all(ok(part, value, root) for part in given),
    "anyOf": lambda given, value, schema, root: any(ok(part, value, root) for part in given),
    "oneOf": lambda given, value, schema, root: [ok(part, value, root) for part in given].count(True) == 1,
    "not": lambda given, value, schema, root: not ok(given, value, root),
    "if": lambda given, value, schema, root: ok(
        schema.get("then" if ok(given, value, root) else "else", True), value, root
    ),
    "minimum": number(
        lambda value, end, schema: value > end or (value == end and schema.get("exclusiveMinimum") is not True)
    ),
    "maximum": number(
        lambda value, end, schema: value < end or (value == end and schema.get("exclusiveMaximum") is not True)
    ),
    "exclusiveMinimum": number(lambda value, end, schema: end is True or value > end),
    "exclusiveMaximum": number(lambda value, end, schema: end is True or value < end),
    "multipleOf": number(lambda value, step, schema: value % Decimal(str(step)) == 0),
    "minLength": sized(str, lambda length, given: length >= given),
    "maxLength": sized(str, lambda length, given: length <= given),
    "pattern": lambda given, value, schema, root: not isinstance(value, str) or bool(re.search(given, value)),
    "format": lambda given, value, schema, root: formed(given, value),
    "minItems": sized(list, lambda length, given: length >= given),
    "maxItems": sized(list, lambda length, given: length <= given),
    "uniqueItems": lambda given, value, schema, root: len({key(item) for item in value}) == len(value),
    "prefixItems": lambda given, value, schema, root: all(
        ok(part, item, root) for part, item in zip(given, value, strict=False)
    ),
    "items": lambda given, value, schema, root: (
        not isinstance(value, list)
        or all(ok(given, item, root) for item in value[len(schema.get("prefixItems", ())) :])
    ),
    "contains": lambda given, value, schema, root: any(ok(given, item, root) for item in value),
    "required": lambda given, value, schema, root: not isinstance(value, dict) or set(given) <= set(value),
    "properties": lambda given, value, schema, root: (
        not isinstance(value, dict) or all(ok(part, value[name], root) for name, part in given.items() if name in value)
    ),
    "patternProperties": lambda given, value, schema, root: all(
        ok(part, item, root) for p, part in given.items() for name, item in value.items() if re.search(p, name)
    ),
    "additionalProperties": extras,
    "propertyNames": lambda given, value, schema, root: all(ok(given, name, root) for name in value),
    "minProperties": sized(dict, lambda length, given: length >= given),
    "maxProperties": sized(dict, lambda length, given: length <= given),
    "dependentRequired": lambda given, value, schema, root: all(
        set(more) <= set(value) for name, more in given.items() if name in value
    ),
}
