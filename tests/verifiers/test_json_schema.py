"""Sampled values are valid: checked by the pydantic models they come from, and by hand elsewhere."""

from enum import Enum
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from verifiers.utils.json_schema import echo, sample


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


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (False, "accepts nothing"),
        ({"enum": []}, "empty enum"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "from 3 to 2 is empty"),
        ({"$ref": "#/nowhere"}, "'#/nowhere', which does not exist"),
        ({"$ref": "other.json"}, "not in the same document"),
        ({"type": "colour"}, "'colour', which JSON does not know"),
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
    ],
)
def test_echo_goes_into_the_first_free_string(schema, expected):
    assert echo(schema, "hey", Random(0)) == expected
