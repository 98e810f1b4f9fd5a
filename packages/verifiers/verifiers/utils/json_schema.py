"""Values that a JSON Schema accepts, drawn from a random generator.

Knows enum, const, types (also lists of them), ranges, multipleOf, lengths, common formats, nested objects, required,
arrays, prefixItems, anyOf, oneOf, allOf, `$ref` within the document and OpenAPI's nullable. `pattern` is not
generated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

_DEEP = 5
_WORDS = ("yes", "no", "left", "right", "up", "down", "hello", "world")
_FORMATS = {
    "date": "2024-01-31",
    "date-time": "2024-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


def sample(schema: Any, rng: Random, words: Sequence[str] = ()) -> Any:
    """A value that `schema` accepts; free strings are made of `words`. Raises ValueError when nothing can be
    accepted.
    """
    return _Sampler(schema, rng, words or _WORDS).value(schema, 0)


def echo(schema: Any, text: str, rng: Random) -> Any:
    """A value that `schema` accepts, with `text` in its first free string field; without such a field just a value."""
    sampler = _Sampler(schema, rng, _WORDS)
    path = sampler.first_string(schema, 0)
    value = sampler.value(schema, 0)
    if path is None:
        return value
    if not path:
        return text
    holder = value
    for name in path[:-1]:
        holder = holder.setdefault(name, {})
    holder[path[-1]] = text
    return value


class _Sampler:
    def __init__(self, root: Any, rng: Random, words: Sequence[str]) -> None:
        self.root = root
        self.rng = rng
        self.words = words

    def resolve(self, schema: Any) -> Any:
        """The schema with `$ref` followed and `allOf` merged."""
        for _ in range(32):
            if not (isinstance(schema, Mapping) and "$ref" in schema):
                break
            schema = {**self._at(str(schema["$ref"])), **{key: item for key, item in schema.items() if key != "$ref"}}
        else:
            raise ValueError("The schema's $ref leads round in a circle.")
        if isinstance(schema, Mapping) and "allOf" in schema:
            merged: dict[str, Any] = {key: item for key, item in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                for key, item in self.resolve(part).items():
                    if key == "properties":
                        merged[key] = {**merged.get(key, {}), **item}
                    elif key == "required":
                        merged[key] = [*merged.get(key, []), *item]
                    else:
                        merged[key] = item
            return merged
        return schema

    def _at(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise ValueError(f"The schema refers to {reference!r}, which is not in the same document.")
        node: Any = self.root
        for part in reference.lstrip("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, Mapping) or name not in node:
                raise ValueError(f"The schema refers to {reference!r}, which does not exist.")
            node = node[name]
        return node

    def value(self, schema: Any, depth: int) -> Any:
        schema = self.resolve(schema)
        if schema is True or schema == {}:
            return self.text({})
        if not isinstance(schema, Mapping):
            raise ValueError("The schema accepts nothing.")
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            if not schema["enum"]:
                raise ValueError("The schema has an empty enum.")
            return self.rng.choice(list(schema["enum"]))
        for kind in ("anyOf", "oneOf"):
            if schema.get(kind):
                base = {
                    key: item for key, item in schema.items() if key not in (kind, "title", "description", "default")
                }
                options = [
                    {**base, **branch} for branch in map(self.resolve, schema[kind]) if isinstance(branch, Mapping)
                ]
                return self.value(self.pick(options, depth), depth + 1)
        kinds = self.kinds(schema)
        if schema.get("nullable") and (depth > _DEEP or self.rng.random() < 0.2):
            return None
        if depth > _DEEP and "null" in kinds:
            return None
        return self.typed(self.rng.choice(kinds), schema, depth)

    def pick(self, options: list[dict[str, Any]], depth: int) -> dict[str, Any]:
        """One branch; far down one that does not nest further, if there is one."""
        if depth > _DEEP:
            flat = [option for option in options if not {"object", "array"} & set(self.kinds(option))]
            options = flat or options
        if not options:
            raise ValueError("The schema has no branch to choose.")
        return self.rng.choice(options)

    def kinds(self, schema: Mapping[str, Any]) -> list[str]:
        declared = schema.get("type")
        if isinstance(declared, str):
            return [declared]
        if isinstance(declared, Sequence) and declared:
            return list(declared)
        if "properties" in schema or "required" in schema:
            return ["object"]
        if "items" in schema or "prefixItems" in schema:
            return ["array"]
        if {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"} & set(schema):
            return ["number"]
        return ["string"]

    def typed(self, kind: str, schema: Mapping[str, Any], depth: int) -> Any:
        if kind == "object":
            return self.object(schema, depth)
        if kind == "array":
            return self.array(schema, depth)
        if kind == "integer":
            return self.integer(schema)
        if kind == "number":
            return self.number(schema)
        if kind == "boolean":
            return self.rng.random() < 0.5
        if kind == "null":
            return None
        if kind == "string":
            return self.text(schema)
        raise ValueError(f"The schema has the type {kind!r}, which JSON does not know.")

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = set(schema.get("required") or ())
        built = {}
        for name, part in properties.items():
            if name in required or (depth <= _DEEP and self.rng.random() < 0.5):
                built[name] = self.value(part, depth + 1)
        for name in schema.get("required") or ():
            if name not in built:
                extra = schema.get("additionalProperties", True)
                built[name] = self.value(extra if extra is not False else True, depth + 1)
        return built

    def array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fixed = [self.value(part, depth + 1) for part in schema.get("prefixItems") or ()]
        items = schema.get("items", True)
        low = int(schema.get("minItems", 0))
        high = int(schema.get("maxItems", max(low, 3)))
        if items is False:
            return fixed
        count = low if depth > _DEEP else self.rng.randint(low, max(low, high))
        built = fixed
        for _ in range(count * 20):
            if len(built) >= count:
                break
            item = self.value(items, depth + 1)
            if not (schema.get("uniqueItems") and item in built):
                built.append(item)
        return built

    def bounds(self, schema: Mapping[str, Any], step: float) -> tuple[float, float]:
        low, high = schema.get("minimum"), schema.get("maximum")
        below, above = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if below is True and low is not None:  # OpenAPI 3.0: a flag beside minimum
            low += step
        elif below is not None and below is not False:
            low = below + step if low is None else max(low, below + step)
        if above is True and high is not None:
            high -= step
        elif above is not None and above is not False:
            high = above - step if high is None else min(high, above - step)
        if low is None:
            low = 0 if high is None else min(0, high - 10 * step)
        if high is None:
            high = low + 10 * step
        if low > high:
            raise ValueError(f"The schema's range from {low} to {high} is empty.")
        return low, high

    def integer(self, schema: Mapping[str, Any]) -> int:
        low, high = self.bounds(schema, 1)
        step = int(schema.get("multipleOf", 1)) or 1
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last and "maximum" not in schema and "exclusiveMaximum" not in schema:
            last = first
        if first > last:
            raise ValueError(f"The schema's range from {low} to {high} holds no whole multiple of {step}.")
        return self.rng.randint(first, last) * step

    def number(self, schema: Mapping[str, Any]) -> float:
        low, high = self.bounds(schema, 1e-6 if "exclusiveMinimum" in schema or "exclusiveMaximum" in schema else 1.0)
        step = schema.get("multipleOf")
        if step:
            return self.rng.randint(math.ceil(low / step), max(math.ceil(low / step), math.floor(high / step))) * step
        return min(high, max(low, round(self.rng.uniform(low, high), 6)))

    def text(self, schema: Mapping[str, Any]) -> str:
        if schema.get("examples"):
            return str(self.rng.choice(list(schema["examples"])))
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(1, 3)))
        while len(text) < low:
            text += " " + self.rng.choice(self.words)
        return text if high is None else text[: int(high)].ljust(low, "x")

    def first_string(self, schema: Any, depth: int) -> list[str] | None:
        """The path of the first free string, by property order; [] when the value itself is one."""
        schema = self.resolve(schema)
        if not isinstance(schema, Mapping) or depth > _DEEP or "enum" in schema or "const" in schema:
            return None
        for kind in ("anyOf", "oneOf"):
            if schema.get(kind):
                found = [self.first_string(branch, depth + 1) for branch in schema[kind]]
                return [] if [] in found else None
        kinds = self.kinds(schema)
        if "string" in kinds:
            return []
        required = set(schema.get("required") or ())
        if "object" in kinds:
            properties = list((schema.get("properties") or {}).items())
            for name, part in sorted(properties, key=lambda item: item[0] not in required):
                path = self.first_string(part, depth + 1)
                if path is not None:
                    return [name, *path]
        return None
