"""Does a JSON Schema accept a value? As far as its words are used for actions; `format` is not looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeGuard
from urllib.parse import unquote

from verifiers.utils.patterns import matches

_TYPES: dict[str, Any] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: is_number(value),
    "integer": lambda value: is_number(value) and value == int(value),
}
_DEEPEST = 200


def is_number(value: Any) -> TypeGuard[float]:
    """Whether JSON calls it a number: not a bool, although Python does."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: float) -> Fraction:
    """The number as it is written, so that 0.3 is three times 0.1."""
    return Fraction(str(value))


def same_key(value: Any) -> str:
    """Equal for values that JSON calls equal: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(_plain(value), sort_keys=True)


def same(first: Any, second: Any) -> bool:
    """Whether JSON calls two values equal."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return same_key(first) == same_key(second)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def look_up(root: Any, reference: str) -> Any:
    """The schema at `reference` ("#/$defs/Move") in `root`. Raises ValueError, one sentence."""
    if not reference.startswith("#"):
        raise ValueError(f"The schema refers to {reference!r}, which is not in the same document.")
    node: Any = root
    parts = unquote(reference[1:]).split("/")
    if parts[0]:
        raise ValueError(f"The schema refers to {reference!r}; only references such as '#/$defs/Move' are followed.")
    for part in parts[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            raise ValueError(f"The schema refers to {reference!r}, which does not exist.")
    return node


def accepts(schema: Any, value: Any, root: Any = None, depth: int = 0) -> bool:
    """Whether `schema` accepts `value`; `root` is the document that its references point into (default: itself).

    Raises ValueError for a reference that leads nowhere or round in a circle.
    """
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        return True
    if depth > _DEEPEST:
        raise ValueError("The schema's $ref leads round in a circle.")
    if value is None and schema.get("nullable"):
        return True

    def fits(part: Any, item: Any = value) -> bool:
        return accepts(part, item, root, depth + 1)

    if "$ref" in schema and not fits(look_up(root, str(schema["$ref"]))):
        return False
    kinds = schema.get("type")
    if kinds is not None:
        named = [kinds] if isinstance(kinds, str) else list(kinds)
        if not any(kind in _TYPES and _TYPES[kind](value) for kind in named):
            return False
    if "const" in schema and not same(schema["const"], value):
        return False
    if "enum" in schema and not any(same(item, value) for item in schema["enum"]):
        return False
    if "allOf" in schema and not all(fits(part) for part in schema["allOf"]):
        return False
    if schema.get("anyOf") and not any(fits(part) for part in schema["anyOf"]):
        return False
    if schema.get("oneOf") and sum(fits(part) for part in schema["oneOf"]) != 1:
        return False
    if "not" in schema and fits(schema["not"]):
        return False
    if "if" in schema and not fits(schema.get("then" if fits(schema["if"]) else "else", True)):
        return False
    if is_number(value):
        return _number(schema, value)
    if isinstance(value, str):
        return _text(schema, value)
    if isinstance(value, list):
        return _array(schema, value, fits)
    return not isinstance(value, Mapping) or _object(schema, value, fits)


def _number(schema: Mapping[str, Any], value: float) -> bool:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and (value < low or (above is True and value == low)):  # OpenAPI 3.0: a flag beside minimum
        return False
    if high is not None and (value > high or (below is True and value == high)):
        return False
    if (is_number(above) and value <= above) or (is_number(below) and value >= below):
        return False
    step = schema.get("multipleOf")
    return not step or (exact(value) / exact(step)).denominator == 1


def _text(schema: Mapping[str, Any], value: str) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    return "pattern" not in schema or matches(str(schema["pattern"]), value)


def _array(schema: Mapping[str, Any], value: list[Any], fits: Any) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    if schema.get("uniqueItems") and len(set(map(same_key, value))) < len(value):
        return False
    fixed, rest = schema.get("prefixItems") or (), schema.get("items", True)
    if isinstance(rest, list):  # before 2020-12
        fixed, rest = rest, schema.get("additionalItems", True)
    if not all(fits(part, item) for part, item in zip(fixed, value, strict=False)):
        return False
    if not all(fits(rest, item) for item in value[len(fixed) :]):
        return False
    if "contains" not in schema:
        return True
    found = sum(fits(schema["contains"], item) for item in value)
    return schema.get("minContains", 1) <= found <= schema.get("maxContains", found)


def _object(schema: Mapping[str, Any], value: Mapping[str, Any], fits: Any) -> bool:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        return False
    if not all(name in value for name in schema.get("required") or ()):
        return False
    properties, patterns = schema.get("properties") or {}, schema.get("patternProperties") or {}
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        parts = [properties[name]] if name in properties else []
        parts += [part for pattern, part in patterns.items() if matches(pattern, name)]
        if not all(fits(part, item) for part in parts or [others]):
            return False
    if not all(fits(schema.get("propertyNames", True), name) for name in value):
        return False
    for name, needed in (schema.get("dependentRequired") or {}).items():
        if name in value and not all(other in value for other in needed):
            return False
    return all(fits(part) for name, part in (schema.get("dependentSchemas") or {}).items() if name in value)
