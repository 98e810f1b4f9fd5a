"""Sampled values are valid: checked by the pydantic models they come from, and by a strict checker elsewhere."""

from enum import Enum
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from strict_schema import wrong

from verifiers.utils.json_schema import echo, first, sample
from verifiers.utils.json_schema_check import accepts


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["leaf"]
    size: Annotated[int, Field(ge=3, lt=6)]


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["tree"]
    children: list["Tree | Leaf"] = Field(max_length=3)
    colour: Colour
    weight: Annotated[float, Field(gt=0, le=1)]
    note: str | None = None
    tags: set[Literal["a", "b", "c"]] = Field(min_length=1)
    pair: tuple[int, bool] = (1, True)
    even: Annotated[int, Field(multiple_of=2, ge=1, le=9)] = 2
    word: Annotated[str, Field(min_length=3, max_length=5)]
    anything: Any = None
    table: dict[str, Leaf] = {}


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kind", [Tree, Leaf, Tree | Leaf, list[Leaf], int, bool | None, Colour])
def test_samples_are_valid(kind, seed):
    adapter = TypeAdapter(kind)
    adapter.validate_python(sample(adapter.json_schema(), Random(seed)), strict=False)


@pytest.mark.parametrize(
    ("schema", "accepts"),
    [
        ({"const": 4}, lambda value: value == 4),
        ({"enum": ["0", "1"]}, lambda value: value in ("0", "1")),
        ({"type": ["string", "null"]}, lambda value: value is None or isinstance(value, str)),
        ({"type": "integer", "nullable": True, "minimum": 7}, lambda value: value is None or value >= 7),
        ({"minimum": 0, "maximum": 1, "exclusiveMaximum": True, "type": "integer"}, lambda value: value == 0),
        ({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}, lambda value: value == 5),
        ({"allOf": [{"properties": {"a": {"const": 1}}}, {"required": ["a"]}]}, lambda value: value == {"a": 1}),
        ({"properties": {}, "required": ["b"]}, lambda value: "b" in value),
        ({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "boolean"}}, lambda value: len(value) == 2),
        ({"type": "string", "examples": ["left"]}, lambda value: value == "left"),
        (True, lambda value: True),
    ],
)
def test_keywords(schema, accepts):
    assert all(accepts(sample(schema, Random(seed))) for seed in range(40))


NODE = {
    "type": "object",
    "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["v", "next"],
}
SCHEMAS: dict[str, Any] = {
    "enum": {"enum": [1, "a", None, {"b": 2}]},
    "const": {"const": {"x": [1]}},
    "tenths": {"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 1},
    "quarters": {"type": "number", "multipleOf": 0.25, "minimum": -1, "exclusiveMaximum": 1},
    "threes": {"type": "integer", "multipleOf": 3, "exclusiveMinimum": -4, "maximum": 10},
    "whole-halves": {"type": "integer", "multipleOf": 1.5, "minimum": 1},
    "thin": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
    "huge": {"type": "number", "minimum": -1e308, "maximum": 1e308},
    "below": {"type": "integer", "maximum": -5},
    "above": {"type": "number", "exclusiveMinimum": 3},
    "fractions": {"type": "integer", "minimum": 0.5, "maximum": 2.5},
    "old-flags": {"type": "number", "minimum": 1, "exclusiveMinimum": True, "maximum": 2, "exclusiveMaximum": True},
    "nested": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "c": {"type": "object", "properties": {"d": {"type": "boolean"}}, "required": ["d"]}},
        "required": ["c"],
        "additionalProperties": False,
    },
    "table": {"type": "object", "minProperties": 2, "maxProperties": 3, "additionalProperties": {"type": "integer"}},
    "few": {"type": "object", "properties": {name: {"type": "integer"} for name in "abcdef"}, "required": ["c"], "maxProperties": 2},
    "named-by-pattern": {"type": "object", "patternProperties": {"^x_[a-z]{2}$": {"type": "integer"}}, "additionalProperties": False, "minProperties": 1},
    "names": {"type": "object", "propertyNames": {"enum": ["one", "two", "three"]}, "additionalProperties": {"type": "boolean"}, "minProperties": 3},
    "dependent": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "dependentRequired": {"a": ["b"]}},
    "permutation": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3, "maxItems": 3},
    "both-bools": {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2},
    "unique-letters": {"type": "array", "items": {"type": "string", "maxLength": 1}, "uniqueItems": True, "minItems": 3},
    "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
    "contains": {"type": "array", "items": {"type": "integer"}, "contains": {"const": 7}, "maxItems": 4},
    "any-of": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "minLength": 3}]},
    "one-of": {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}], "minimum": 0, "maximum": 20},
    "all-of": {"allOf": [{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}, {"properties": {"a": {"maximum": 4}, "b": {"const": 1}}, "required": ["b"]}]},
    "all-of-enums": {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
    "all-of-steps": {"allOf": [{"type": "integer", "multipleOf": 4}, {"type": "number", "multipleOf": 6, "minimum": 1}]},
    "endless": {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    "beside-a-ref": {"type": "object", "properties": {"a": {"$ref": "#/$defs/I", "minimum": 4, "maximum": 5}}, "required": ["a"], "$defs": {"I": {"type": "integer"}}},
    "not": {"type": "integer", "minimum": 0, "maximum": 3, "not": {"enum": [0, 1]}},
    "if-then": {"type": "object", "properties": {"k": {"enum": ["a", "b"]}, "n": {"type": "integer"}}, "required": ["k"], "if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["n"]}, "else": {"not": {"required": ["n"]}}},
    "either-field": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": False},
    "types": {"type": ["integer", "null"], "minimum": 2},
    "nullable": {"type": "object", "properties": {"a": {"type": "integer", "nullable": True}}, "required": ["a"]},
    "square": {"type": "string", "pattern": "^[a-h][1-8]$"},
    "words": {"type": "string", "pattern": r"^(?:up|down|left|right)( \d{1,2})?$"},
    "ticket": {"type": "string", "pattern": r"^[A-Z]{2,4}-\d+$", "minLength": 12, "maxLength": 14},
    "ending": {"type": "string", "pattern": "[^a-z]$"},
    "password": {"type": "string", "pattern": r"^(?=.*\d)(?=.*[a-z]).{8,}$"},
    "address": {"type": "string", "pattern": r"^\w+@\w+\.(com|org)$"},
    "maybe-nothing": {"type": "string", "pattern": "^$|^ab*$"},
    "escapes": {"type": "string", "pattern": r"a{3}|[\u0041-\u0043\-\]]+"},
    "list": {"type": "string", "pattern": r"^[^\s,]+(,[^\s,]+)*$", "minLength": 3},
    "four": {"type": "string", "minLength": 4, "maxLength": 4},
    "nothing": {"type": "string", "maxLength": 0},
    **{name: {"type": "string", "format": name} for name in ("date", "date-time", "email", "uuid", "uri")},
    "anything": {},
    "sums": {"$ref": "#/$defs/E", "$defs": {"E": {"anyOf": [{"type": "object", "properties": {"op": {"const": "add"}, "a": {"$ref": "#/$defs/E"}, "b": {"$ref": "#/$defs/E"}}, "required": ["op", "a", "b"]}, {"type": "object", "properties": {"op": {"const": "lit"}, "v": {"type": "number"}}, "required": ["op", "v"]}]}}},
    "beyond-floats": {"type": "number", "minimum": 0, "maximum": 10**400},
    "no-ends": {"type": "number", "minimum": float("-inf"), "maximum": float("inf")},
    "up-to": {"type": "string", "pattern": "^a{,3}$"},
    "long-list": {"type": "array", "items": {"type": "integer"}, "maxItems": 10**6},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_value_is_accepted(name):
    schema = SCHEMAS[name]
    drawn = [sample(schema, Random(seed)) for seed in range(60)]
    drawn += [echo(schema, "hello there, you", Random(seed)) for seed in range(5)]
    for value in [first(schema), *drawn]:
        assert not wrong(schema, value) and accepts(schema, value)


def test_a_reference_may_be_escaped():
    schema = {"$ref": "#/$defs/Box%20of%20two", "$defs": {"Box of two": {"const": 2}}}
    assert sample(schema, Random(0)) == first(schema) == 2


def test_lengths_count_more_than_a_format():
    schema = {"type": "string", "format": "email", "minLength": 1, "maxLength": 5}
    assert 1 <= len(sample(schema, Random(0))) <= 5


def test_a_list_is_no_longer_than_anybody_would_write_it():
    assert max(len(sample(SCHEMAS["long-list"], Random(seed))) for seed in range(60)) == 20
    assert len(sample({"type": "array", "minItems": 30, "maxItems": 10**6}, Random(0))) == 30


def test_the_metadata_that_openenv_adds_to_every_action_changes_nothing():
    class Metadata(BaseModel):
        metadata: dict[str, Any] = Field(default_factory=dict, description="Additional metadata for the action")

    class Plain(BaseModel):
        move: Literal["up", "down"]
        steps: Annotated[int, Field(ge=0, le=99)] = 1
        table: dict[str, Any] | None = None

    class Action(Plain, Metadata):
        model_config = ConfigDict(extra="forbid")

    bare, core = Plain.model_json_schema(), Action.model_json_schema()
    assert "metadata" in core["properties"]
    for seed in range(60):
        assert sample(core, Random(seed)) == sample(bare, Random(seed))
    assert first(core) == first(bare)
    needed = {**core, "required": ["metadata"]}
    assert sample(needed, Random(0))["metadata"] == {}


def random_schema(rng: Random, depth: int = 0) -> dict[str, Any]:
    """Some schema that accepts something."""
    kind = rng.choice(["integer", "number", "string", "boolean", "enum"] + ["object", "array", "anyOf"] * (depth < 3))
    low, span = rng.randint(-20, 20), rng.randint(4, 30)
    if kind == "integer":
        extra = rng.choice([{"multipleOf": 3}, {"exclusiveMinimum": low}, {"exclusiveMaximum": low + span}, {}])
        return {"type": kind, "minimum": low, "maximum": low + span, **extra}
    if kind == "number":
        extra = rng.choice([{"multipleOf": 0.1}, {"multipleOf": 0.25}, {"exclusiveMinimum": low / 4 + 0.5}, {}])
        return {"type": kind, "minimum": low / 4, "maximum": low / 4 + span, **extra}
    if kind == "string":
        lengths = {"minLength": rng.randint(0, 4), "maxLength": rng.randint(4, 9)}
        return {"type": kind, **rng.choice([lengths, {"pattern": "^[a-c]{2,5}$"}, {"format": "uuid"}, {}])}
    if kind == "enum":
        return {"enum": rng.sample([1, "a", None, True, 2.5, [1]], rng.randint(1, 4))}
    if kind == "object":
        names = rng.sample("abcdef", rng.randint(0, 4))
        shape = {"properties": {name: random_schema(rng, depth + 1) for name in names}}
        return {
            "type": kind,
            **shape,
            "required": names[: rng.randint(0, 4)],
            "additionalProperties": rng.random() < 0.5,
        }
    if kind == "array":
        return {"type": kind, "items": random_schema(rng, depth + 1), "minItems": rng.randint(0, 2), "maxItems": 4}
    if kind == "anyOf":
        return {kind: [random_schema(rng, depth + 1) for _ in range(rng.randint(1, 3))]}
    return {"type": kind}


def test_schemas_that_nobody_wrote():
    for number in range(400):
        schema = random_schema(Random(number))
        for value in [first(schema), *(sample(schema, Random(seed)) for seed in range(5))]:
            assert not wrong(schema, value) and accepts(schema, value), (number, schema, value)


def test_what_is_drawn_varies():
    for name in ("tenths", "square", "words", "date", "uuid", "permutation", "ticket"):
        assert len({str(sample(SCHEMAS[name], Random(seed))) for seed in range(60)}) >= 4, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enum", 1),
        ("threes", -3),
        ("above", 4.0),
        ("nested", {"c": {"d": False}}),
        ("few", {"c": 0}),
        ("permutation", ["a", "b", "c"]),
        ("any-of", 5),
        ("one-of", 5),
        ("not", 2),
        ("square", "a1"),
        ("words", "up"),
        ("maybe-nothing", ""),
        ("four", "aaaa"),
        ("anything", ""),
    ],
)
def test_the_first_is_the_least(name, value):
    assert first(SCHEMAS[name]) == value == first(SCHEMAS[name])


def test_an_example_comes_before_the_shortest_string():
    schema = {
        "type": "object",
        "properties": {"say": {"type": "string", "examples": ["[1 2]", "[3 4]"]}},
        "required": ["say"],
    }
    assert first(schema) == {"say": "[1 2]"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, True),
        ({"type": "integer"}, 1.5),
        ({"type": "string"}, None),
        ({"const": 1}, True),
        ({"enum": ["1"]}, 1),
        ({"multipleOf": 0.1}, 0.25),
        ({"minimum": 1, "exclusiveMinimum": True}, 1),
        ({"exclusiveMaximum": 2}, 2),
        ({"maxLength": 2}, "abc"),
        ({"pattern": "^a"}, "ba"),
        ({"uniqueItems": True}, [1, 1.0]),
        ({"prefixItems": [{"type": "string"}]}, [1]),
        ({"items": {"type": "string"}}, ["a", 1]),
        ({"contains": {"const": 1}}, [2]),
        ({"required": ["a"]}, {"b": 1}),
        ({"properties": {"a": {"type": "string"}}}, {"a": 1}),
        ({"additionalProperties": False, "patternProperties": {"^x": True}}, {"y": 1}),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}),
        ({"maxProperties": 1}, {"a": 1, "b": 1}),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}),
        ({"oneOf": [{"minimum": 1}, {"minimum": 2}]}, 3),
        ({"not": {"type": "null"}}, None),
        ({"if": {"minimum": 5}, "then": {"maximum": 6}}, 7),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}, 1),
    ],
)
def test_what_a_schema_refuses(schema, value):
    assert not accepts(schema, value)
    assert not accepts({"type": "object", "properties": {"x": schema}, "$defs": schema.get("$defs", {})}, {"x": value})


def test_a_pattern_nobody_can_read_falls_back_on_its_examples():
    unread = {"type": "string", "pattern": r"^(?<!x)[[:alpha:]]{2,1}$", "examples": ["ab"]}
    with pytest.raises(ValueError, match=r"pattern .* cannot be read: a repetition that goes backwards at character"):
        sample({**unread, "examples": []}, Random(0))
    assert sample(unread, Random(0)) == "ab"


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (False, "accepts nothing"),
        ({"enum": []}, "empty enum"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "from 3 to 2 is empty"),
        ({"$ref": "#/nowhere"}, "'#/nowhere', which does not exist"),
        ({"$ref": "other.json"}, "not in the same document"),
        ({"$ref": "#here"}, "'#here'; only references such as"),
        ({"type": "colour"}, "'colour', which JSON does not know"),
        ({"type": "integer", "minimum": 1, "maximum": 2, "multipleOf": 5}, "from 1 to 2 holds no multiple of 5"),
        ({"$ref": "#"}, "leads round in a circle"),
        ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "nests without end"),
        ({"not": {}}, "No value could be found"),
        ({"type": "string", "pattern": "^a{5}$", "maxLength": 2}, r"pattern '\^a\{5\}\$'"),
        ({"type": "string", "pattern": "("}, r"'\(' without '\)' at character 2"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "types 'string' and 'integer' at once"),
    ],
)
def test_impossible_schemas_say_so(schema, sentence):
    with pytest.raises(ValueError, match=sentence):
        sample(schema, Random(0))


def test_the_same_generator_state_gives_the_same_value():
    schema = Tree.model_json_schema()
    assert sample(schema, Random("s")) == sample(schema, Random("s"))
    assert len({str(sample(schema, Random(seed))) for seed in range(20)}) > 10


def test_words_fill_free_strings():
    assert set(sample({"type": "string"}, Random(1), ["apple"]).split()) == {"apple"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "hey"),
        (
            {"properties": {"n": {"const": 1}, "say": {"type": "string"}}, "required": ["n", "say"]},
            {"n": 1, "say": "hey"},
        ),
        (
            {
                "properties": {"in": {"properties": {"text": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}},
                "required": ["in"],
            },
            {"in": {"text": "hey"}},
        ),
        ({"properties": {"go": {"enum": ["left"]}}, "required": ["go"]}, {"go": "left"}),
        ({"properties": {"go": {"type": "string", "maxLength": 2}}, "required": ["go"]}, {"go": "he"}),
        ({"properties": {"go": {"type": "string", "pattern": "^x$"}}, "required": ["go"]}, {"go": "x"}),
    ],
)
def test_echo_goes_into_the_first_free_string(schema, expected):
    assert echo(schema, "hey", Random(0)) == expected
