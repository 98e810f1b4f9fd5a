"""Values that a JSON Schema accepts: drawn from a random generator, or the first one there is.

Knows enum, const, types (also lists of them), ranges, multipleOf, lengths, pattern, common formats, nested objects,
required, arrays, prefixItems, anyOf, oneOf, allOf, if/then/else, `$ref` within the document and OpenAPI's nullable. What
cannot be built straight away (not, oneOf that overlaps, …) is drawn again until the schema accepts it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import Any

from verifiers.utils.json_schema_check import accepts, exact, is_number, look_up, same_key
from verifiers.utils.json_schema_choice import Choice, Dice, First
from verifiers.utils.json_schema_merge import Impossible, merged
from verifiers.utils.patterns import generate, matches

_DEEP = 5
_DEEPEST = 40
_DRAWS = 100
_INNER_DRAWS = 8
_BUDGET = 2000
_SPAN = 10
"""How far numbers go where the schema sets no end."""
_MOST_ITEMS = 20
"""So many items an array has at most, where the schema asks for no more."""
_LARGEST = Fraction(sys.float_info.max)
_COMBINED = frozenset({"allOf", "anyOf", "oneOf", "if", "then", "else", "$ref"})
_UNSURE = frozenset({"allOf", "anyOf", "oneOf", "if", "not", "contains", "dependentSchemas", "$ref"})
"""Words after which a value is checked where it is made, not only at the end."""
_NOTES = frozenset(
    {"title", "description", "default", "$schema", "$defs", "definitions", "deprecated", "discriminator"}
)
_SURE = _NOTES.union(
    {"type", "const", "enum", "nullable", "properties", "required", "additionalProperties"},
    {"items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern"},
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
)
"""Words with which a value is right as it is built; after any other it is checked."""
_KINDS = {
    "object": {"properties", "required", "additionalProperties", "patternProperties", "minProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


def sample(schema: Any, rng: Random, words: Sequence[str] = ()) -> Any:
    """A value that `schema` accepts; free strings are made of `words`. Raises ValueError when none is found."""
    return _Builder(schema, Dice(rng, words)).drawn(schema, 0, _DRAWS)


def first(schema: Any) -> Any:
    """The first value that `schema` accepts, always the same: the first enum value, type and branch, the smallest number
    in range (without a lower end: 0, or ten below the upper one), the first example of a string or else the shortest one,
    the shortest array, and required fields only. Raises ValueError when none is found.
    """
    for number in range(_DRAWS):
        try:
            return _Builder(schema, First(number)).drawn(schema, 0, 1)
        except Impossible:  # the next of everything then
            continue
    return sample(schema, Random(0))


def echo(schema: Any, text: str, rng: Random) -> Any:
    """A value that `schema` accepts, with `text` in its first free string field, cut to the field's maxLength; without
    such a field, or where the text is not accepted, just a value.
    """
    builder = _Builder(schema, Dice(rng))
    found = builder.first_string(schema, 0)
    value = builder.drawn(schema, 0, _DRAWS)
    if found is None:
        return value
    path, longest = found
    said = text if longest is None else text[: int(longest)]
    if not path:
        return said if accepts(schema, said) else value
    echoed = _with(value, path, said)
    return echoed if accepts(schema, echoed) else value


def _with(value: Any, path: Sequence[str], said: str) -> Any:
    held = dict(value) if isinstance(value, Mapping) else {}
    held[path[0]] = said if len(path) == 1 else _with(held.get(path[0]), path[1:], said)
    return held


class _Builder:
    def __init__(self, root: Any, choice: Choice) -> None:
        self.root = root
        self.choice = choice
        self.unsure = False
        self.budget = _BUDGET

    def drawn(self, schema: Any, depth: int, draws: int) -> Any:
        """A value that is checked; drawn again while it is not accepted. Raises ValueError when none ever is."""
        problem: Impossible | None = None
        for _ in range(draws):
            self.budget -= 1
            if self.budget < 0:
                break
            try:
                value = self.typed(self.flat(schema, depth), depth)
            except Impossible as error:
                problem = problem or error
                continue
            if not self.unsure or accepts(schema, value, self.root):
                return value
        raise problem or Impossible("No value could be found that the schema accepts.")

    # One schema without $ref, allOf and branches

    def flat(self, schema: Any, depth: int) -> Mapping[str, Any]:
        """The schema with `$ref` followed, `allOf` merged, and one branch chosen of each set of them."""
        if isinstance(schema, Mapping) and _COMBINED.isdisjoint(schema):
            return schema
        self.unsure = True
        return merged(list(self.parts(schema, depth, 0)))

    def parts(self, schema: Any, depth: int, followed: int) -> Iterator[Mapping[str, Any]]:
        if schema is False:
            raise Impossible("The schema accepts nothing.")
        if not isinstance(schema, Mapping):
            return
        if followed > 32:
            raise ValueError("The schema's $ref leads round in a circle.")
        if _COMBINED.isdisjoint(schema):
            yield schema
            return
        yield {key: item for key, item in schema.items() if key not in _COMBINED}
        if "$ref" in schema:
            yield from self.parts(look_up(self.root, str(schema["$ref"])), depth, followed + 1)
        for part in schema.get("allOf") or ():
            yield from self.parts(part, depth, followed + 1)
        for kind in ("anyOf", "oneOf"):
            if schema.get(kind):
                yield from self.parts(self.branch(schema[kind], depth), depth, followed + 1)
        if "if" in schema:
            if self.choice.maybe(0.5):
                yield from self.parts(schema["if"], depth, followed + 1)
                yield from self.parts(schema.get("then", True), depth, followed + 1)
            else:
                yield from self.parts(schema.get("else", True), depth, followed + 1)

    def branch(self, options: Sequence[Any], depth: int) -> Any:
        """One branch; far down one of those that end soonest."""
        options = [option for option in options if option is not False] or options
        if depth > _DEEP:
            heights = [self.height(option) for option in options]
            options = [option for option, height in zip(options, heights, strict=True) if height == min(heights)]
        return self.choice.pick(options)

    def height(self, schema: Any, below: tuple[str, ...] = ()) -> float:
        """How many levels the smallest value has below its own, 0 for a number; infinite where a `$ref` leads round."""
        if not isinstance(schema, Mapping):
            return 0
        parts = [self.height(part, below) for part in schema.get("allOf") or ()]
        if "$ref" in schema:
            name = str(schema["$ref"])
            round_again = name in below or len(below) > _DEEPEST
            parts.append(math.inf if round_again else self.height(look_up(self.root, name), (*below, name)))
        for kind in ("anyOf", "oneOf"):
            if schema.get(kind):
                parts.append(min(self.height(part, below) for part in schema[kind]))
        if "object" in kinds(schema):
            properties = schema.get("properties") or {}
            needed = [properties[name] for name in schema.get("required") or () if name in properties]
            parts.append(1 + max((self.height(part, below) for part in needed), default=0))
        elif "array" in kinds(schema):
            items = schema.get("items")
            parts.append(1 + (self.height(items, below) if schema.get("minItems") else 0))
        return max(parts, default=0)

    # Values

    def value(self, schema: Any, depth: int) -> Any:
        """A value; in almost every case one that `schema` accepts."""
        if depth > _DEEPEST:
            raise ValueError("The schema nests without end.")
        if depth and isinstance(schema, Mapping) and not _UNSURE.isdisjoint(schema):
            return self.drawn(schema, depth, _INNER_DRAWS if isinstance(self.choice, Dice) else 1)
        return self.typed(self.flat(schema, depth), depth)

    def typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        if not _SURE.issuperset(schema):
            self.unsure = True
        if schema.get("nullable") and (depth > _DEEP or self.choice.maybe(0.2)):
            return None
        if "const" in schema:
            self.unsure = True
            return schema["const"]
        if "enum" in schema:
            if not schema["enum"]:
                raise Impossible("The schema has an empty enum.")
            self.unsure = self.unsure or len(schema) > 1 + ("type" in schema) + ("title" in schema)
            return self.choice.pick(schema["enum"])
        if _NOTES.issuperset(schema):
            return self.text({})
        named = kinds(schema)
        kind = "null" if depth > _DEEP and "null" in named else self.choice.pick(named)
        if kind == "object":
            return self.object(schema, depth)
        if kind == "array":
            return self.array(schema, depth)
        if kind in ("integer", "number"):
            return self.number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self.choice.maybe(0.5)
        if kind == "null":
            return None
        if kind == "string":
            return self.text(schema)
        raise ValueError(f"The schema has the type {kind!r}, which JSON does not know.")

    # Objects and arrays

    def object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        others = schema.get("additionalProperties", True)
        required = list(dict.fromkeys(schema.get("required") or ()))
        fewest, most = int(schema.get("minProperties", 0)), schema.get("maxProperties", math.inf)
        built: dict[str, Any] = {}
        for name, part in properties.items():
            if name in required:
                built[name] = self.value(part, depth + 1)
            elif _free_form(part):
                continue
            elif depth <= _DEEP and len(built) + len(required) < most and self.choice.maybe(0.5):
                self.optional(built, name, part, depth)
        for name in required:
            if name not in built:
                built[name] = self.value(self.part_for(name, schema), depth + 1)
        for name in list(built):
            for other in (schema.get("dependentRequired") or {}).get(name, ()):
                if other not in built:
                    built[other] = self.value(properties.get(other, others), depth + 1)
        for name, part in properties.items():
            if len(built) < fewest and name not in built:
                self.optional(built, name, part, depth)
        wanted = fewest
        if not properties and depth <= _DEEP and (isinstance(others, Mapping) or schema.get("patternProperties")):
            wanted = max(fewest, min(most, self.choice.whole(0, 2)))  # a table: its rows are all it has
        for _ in range(int(wanted) * 10):
            if len(built) >= wanted:
                break
            name = self.new_name(schema, len(built))
            if name not in built:
                built[name] = self.value(self.part_for(name, schema), depth + 1)
        return built

    def optional(self, built: dict[str, Any], name: str, part: Any, depth: int) -> None:
        try:
            built[name] = self.value(part, depth + 1)
        except Impossible:  # it must be left out then
            pass

    def part_for(self, name: str, schema: Mapping[str, Any]) -> Any:
        for pattern, part in (schema.get("patternProperties") or {}).items():
            if matches(pattern, name):
                return part
        return schema.get("additionalProperties", True)

    def new_name(self, schema: Mapping[str, Any], number: int) -> str:
        patterns = list(schema.get("patternProperties") or {})
        if patterns and schema.get("additionalProperties", True) is False:
            return self.matching(self.choice.pick(patterns), {})
        if "propertyNames" in schema:
            return str(
                self.choice.at(number, lambda: self.value({"type": "string", "allOf": [schema["propertyNames"]]}, 1))
            )
        return self.choice.word(number)

    def array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        fixed, items = schema.get("prefixItems") or (), schema.get("items", True)
        if isinstance(items, list):  # before 2020-12
            fixed, items = items, schema.get("additionalItems", True)
        low = int(schema.get("minItems", 0))
        most = schema.get("maxItems")
        low = max(low, min(len(fixed), low if most is None else int(most)))
        high = int(max(low, 3) if most is None else min(most, max(low, len(fixed), _MOST_ITEMS)))
        built = [self.value(part, depth + 1) for part in list(fixed)[:high]]
        if items is False:
            return built
        if "contains" in schema:
            wanted = {"allOf": [items, schema["contains"]]}
            built += [self.value(wanted, depth + 1) for _ in range(int(schema.get("minContains", 1)))]
        count = low if depth > _DEEP else self.choice.whole(low, max(low, high))
        unique, seen = schema.get("uniqueItems"), set(map(same_key, built))
        for number in range(count * 20):
            if len(built) >= count:
                break
            item = (
                self.choice.at(number, lambda: self.value(items, depth + 1)) if unique else self.value(items, depth + 1)
            )
            if not (unique and same_key(item) in seen):
                built.append(item)
                seen.add(same_key(item))
        return built

    # Numbers and strings

    def number(self, schema: Mapping[str, Any], whole: bool) -> float:
        low, high, after, before = _range(schema)
        step = exact(schema["multipleOf"]) if schema.get("multipleOf") else None
        if step is None and not whole:
            return self.real(low, high, after, before)
        step = Fraction(1) if step is None else Fraction(step.numerator) if whole else step
        start = None if low is None else math.ceil(low / step)
        end = None if high is None else math.floor(high / step)
        if start is not None and after and start * step == low:
            start += 1
        if end is not None and before and end * step == high:
            end -= 1
        if start is None:
            start = 0 if end is None or end >= 0 else end - _SPAN
        if end is None:
            end = start + _SPAN
        if start > end:
            what = "" if step == 1 else f" multiple of {float(step):g}"
            ends = f"from {_shown(low)} to {_shown(high)}"
            raise Impossible(f"The schema's range {ends} {'is empty' if not what else 'holds no' + what}.")
        found = self.choice.whole(start, end) * step
        return int(found) if whole else float(found)

    def real(self, low: Fraction | None, high: Fraction | None, after: bool, before: bool) -> float:
        start = _real(low) if low is not None else 0.0 if high is None or high > 0 else _real(high) - _SPAN
        end = _real(high) if high is not None else start + _SPAN
        if start > end or (start == end and (after or before)):
            raise Impossible(f"The schema's range from {start:g} to {end:g} is empty.")
        middle = start / 2 + end / 2
        drawn = self.choice.real(start, end)
        for value in (round(drawn, 6), drawn, start + 1, middle):
            if start <= value <= end and not (after and value == start) and not (before and value == end):
                return value
        raise Impossible(f"The schema's range from {start:g} to {end:g} holds no number.")

    def text(self, schema: Mapping[str, Any]) -> str:
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        if high is not None and low > high:
            raise Impossible(f"The schema's lengths from {low} to {high} are empty.")
        if "pattern" in schema:
            return self.matching(str(schema["pattern"]), schema)
        if found := self.choice.example([item for item in schema.get("examples") or () if isinstance(item, str)]):
            return found
        formed = self.choice.formed(str(schema.get("format", "")))
        if formed and low <= len(formed) <= (len(formed) if high is None else high):
            return formed
        return self.choice.text(low, None if high is None else int(high))

    def matching(self, pattern: str, schema: Mapping[str, Any]) -> str:
        """A string that `pattern` matches, of the schema's lengths."""
        need = {key: schema[key] for key in ("minLength", "maxLength") if key in schema}
        problem = f"No string could be found for the schema's pattern {pattern!r}."
        try:
            for number in range(_DRAWS):
                text = generate(pattern, self.choice.pick, self.choice.repeats(number, int(need.get("minLength", 0))))
                if accepts({"pattern": pattern, **need}, text):
                    return text
        except ValueError as error:
            problem = str(error)
        for text in schema.get("examples") or ():
            if accepts({"type": "string", **need}, text) and matches(pattern, text):
                return text
        raise Impossible(problem)

    def first_string(self, schema: Any, depth: int) -> tuple[list[str], int | None] | None:
        """The path of the first free string, required ones first, and its maxLength; an empty path when the value itself
        is one."""
        if not isinstance(schema, Mapping) or depth > _DEEP:
            return None
        for kind in ("anyOf", "oneOf"):
            if schema.get(kind):
                found = [self.first_string(branch, depth + 1) for branch in schema[kind]]
                return next((one for one in found if one is not None and not one[0]), None)
        flat = self.flat(schema, depth)
        if {"enum", "const", "pattern", "format"} & flat.keys():
            return None
        named = kinds(flat)
        if "string" in named:
            return [], flat.get("maxLength")
        if "object" in named:
            required = set(flat.get("required") or ())
            properties = list((flat.get("properties") or {}).items())
            for name, part in sorted(properties, key=lambda item: item[0] not in required):
                found = self.first_string(part, depth + 1)
                if found is not None:
                    return [name, *found[0]], found[1]
        return None


def _free_form(schema: Any) -> bool:
    """Whether a schema is an object of which nothing is said, such as the `metadata` that openenv adds to every action."""
    return (
        isinstance(schema, Mapping)
        and schema.get("type") == "object"
        and schema.get("additionalProperties", True) is True
        and _NOTES.issuperset(schema.keys() - {"type", "additionalProperties"})
    )


def kinds(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema names, else the one that its other words speak of."""
    declared = schema.get("type")
    if isinstance(declared, str):
        return [declared]
    if isinstance(declared, Sequence) and declared:
        return list(declared)
    return [next((kind for kind, words in _KINDS.items() if words & schema.keys()), "string")]


def _range(schema: Mapping[str, Any]) -> tuple[Fraction | None, Fraction | None, bool, bool]:
    """Lowest, highest, and whether the number lies strictly after and before them."""
    low, after = _end(schema.get("minimum"), schema.get("exclusiveMinimum"), lambda end, beyond: beyond >= end)
    high, before = _end(schema.get("maximum"), schema.get("exclusiveMaximum"), lambda end, beyond: beyond <= end)
    return low, high, after, before


def _end(end: Any, beyond: Any, narrower: Callable[[float, float], bool]) -> tuple[Fraction | None, bool]:
    end, beyond = (None if item in (math.inf, -math.inf) else item for item in (end, beyond))
    if is_number(beyond) and (end is None or narrower(end, beyond)):
        return exact(beyond), True
    return None if end is None else exact(end), beyond is True  # OpenAPI 3.0: a flag beside minimum


def _real(end: Fraction) -> float:
    """The nearest number that a float can be."""
    return float(max(-_LARGEST, min(end, _LARGEST)))


def _shown(end: Fraction | None) -> str:
    return "any" if end is None else f"{float(end):g}"
