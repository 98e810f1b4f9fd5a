"""What of a model's reply is an action, and what is none: nothing that a model writes may hold up a run or end it."""

from __future__ import annotations

import pytest

from verifiers.envs.integrations.openenv_chat import UnparseableAction, parse_action, read_arguments


@pytest.mark.parametrize(
    "text",
    [
        "```json" + "\n" * 50_000 + "x",
        "```" + " " * 50_000 + "x",
        "see\n```" + "\n" * 50_000 + "x",
        '{"move": NaN}',
        '{"move": 1e999}',
        '{"move": ' + "[" * 50_000,
    ],
    ids=["lines", "spaces", "open fence", "nan", "infinity", "brackets"],
)
def test_a_model_that_repeats_itself_is_refused_at_once(text):
    with pytest.raises(UnparseableAction, match="Failed to parse action JSON"):
        parse_action(text, {"properties": {"move": {"type": "integer"}}})
    with pytest.raises(UnparseableAction, match="arguments are not valid JSON"):
        read_arguments(text)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```{"a": 1}```', {"a": 1}),
        ('First `x`, ```y``` then\n```json  \n\n{"a": 1.5}\n```\nfine?', {"a": 1.5}),
        ("```\n7\n```", {"text": "7"}),
        ('```json\n{"a": 1}\n```\nor\n```json\n{"a": 2}\n```', {"text": '{"a": 1}\n```\nor\n```json\n{"a": 2}'}),
    ],
)
def test_where_an_action_is_found(text, action):
    assert parse_action(text, {"properties": {"text": {"type": "string"}}}) == action
