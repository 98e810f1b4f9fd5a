"""A model that says what it is told to, the same in every rollout: turn by turn a text, tool calls, or a function."""

from __future__ import annotations

import json
from typing import Any

import verifiers as vf
from verifiers.evaluation.policies import Policy


class Scripted(Policy):
    """`Scripted([("bash", {"command": "ls"})], "done")`: a turn is a text, a list of (tool, arguments), or a function of
    the prompt that returns one of them. After the last turn it says "done". `seen` are the last prompts, by example.
    """

    def __init__(self, *turns: Any) -> None:
        super().__init__()
        self.turns = turns
        self.seen: dict[Any, list[Any]] = {}

    def move(self, prompt, tools, state) -> vf.AssistantMessage:
        self.seen[state.get("example_id")] = list(prompt)
        number = len(state["trajectory"])
        turn = self.turns[number] if number < len(self.turns) else "done"
        if callable(turn):
            turn = turn(prompt)
        if isinstance(turn, str):
            return vf.AssistantMessage(turn)
        calls = [
            vf.ToolCall(f"c{at}", name, given if isinstance(given, str) else json.dumps(given))
            for at, (name, given) in enumerate(turn)
        ]
        return vf.AssistantMessage(None, tool_calls=calls)

    def answer(self, prompt, tools, action_schema, rng) -> vf.AssistantMessage:
        raise NotImplementedError("`move` answers.")


def said(output: dict[str, Any], role: str = "tool") -> list[Any]:
    """The contents of the messages of a role in the completion of an output row."""
    return [message["content"] for message in output["completion"] if message["role"] == role]
