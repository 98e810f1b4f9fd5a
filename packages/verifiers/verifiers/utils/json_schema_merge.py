"""Several JSON Schemas that must all hold, as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import lcm
from typing import Any

from verifiers.utils.json_schema_check import exact, is_number, same_key


class Impossible(ValueError):
    """Nothing fits a schema, or the choices made in it so far; other choices may."""


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One schema for all of `parts`, which have no $ref, allOf or branches at their top. Raises Impossible."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, item in part.items():
            rule = _RULES.get(key)
            if key not in found:
                found[key] = item
            elif rule is not None and found[key] != item:
                found[key] = rule(found[key], item)
    return found


def _types(mine: Any, other: Any) -> list[str]:
    first, second = ([kind] if isinstance(kind, str) else list(kind) for kind in (mine, other))
    both = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
    both += [kind for kind in second if kind == "integer" and "number" in first and kind not in both]
    if not both:
        raise Impossible(f"The schema asks for the types {mine!r} and {other!r} at once.")
    return both


def _const(mine: Any, other: Any) -> Any:
    if same_key(mine) != same_key(other):
        raise Impossible(f"The schema asks for the values {mine!r} and {other!r} at once.")
    return mine


def _enum(mine: Any, other: Any) -> list[Any]:
    allowed = set(map(same_key, other))
    both = [item for item in mine if same_key(item) in allowed]
    if not both:
        raise Impossible("The schema's enums have no value in common.")
    return both


def _multiple(mine: Any, other: Any) -> float:
    first, second = exact(mine), exact(other)
    common = lcm(first.numerator * second.denominator, second.numerator * first.denominator)
    found = common / (first.denominator * second.denominator)
    return int(found) if float(found).is_integer() else found


def _both(mine: Any, other: Any) -> Any:
    if mine is True or other is True:
        return other if mine is True else mine
    return False if mine is False or other is False else {"allOf": [mine, other]}


def _maps(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {**mine, **{name: _both(mine[name], part) if name in mine else part for name, part in other.items()}}


def _rows(mine: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    shared = [_both(a, b) for a, b in zip(mine, other, strict=False)]
    return [*shared, *mine[len(shared) :], *other[len(shared) :]]


def _inner(choose: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The narrower of two ends; OpenAPI 3.0's flags count where either stands."""

    def narrower(mine: Any, other: Any) -> Any:
        if is_number(mine) and is_number(other):
            return choose(mine, other)
        return mine if is_number(mine) else other if is_number(other) else mine or other

    return narrower


_RULES: dict[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "const": _const,
    "enum": _enum,
    "multipleOf": _multiple,
    "properties": _maps,
    "patternProperties": _maps,
    "dependentSchemas": _maps,
    "additionalProperties": _both,
    "propertyNames": _both,
    "items": _both,
    "contains": _both,
    "prefixItems": _rows,
    "required": lambda mine, other: list(dict.fromkeys([*mine, *other])),
    "dependentRequired": lambda mine, other: {**mine, **other},
    "uniqueItems": lambda mine, other: mine or other,
    **dict.fromkeys(
        ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"), _inner(max)
    ),
    **dict.fromkeys(
        ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"), _inner(min)
    ),
}
