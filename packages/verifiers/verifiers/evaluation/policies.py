"""Offline baselines: policies that answer without a model, so that an environment can be tried with no key and no
network.

`baseline/random` samples a valid action or tool call, `baseline/first` always takes the first one, `baseline/echo` says
the last user message back; `baseline/replay:FILE` (verifiers.evaluation.replay) says what an earlier run said. Random
numbers come from (episode seed, rollout index, turn): a run repeats exactly, and two rollouts of one example differ.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from verifiers.clients.client import Client
from verifiers.errors import ModelError
from verifiers.types import AssistantMessage, Messages, Response, State, Tool, ToolCall, Usage
from verifiers.utils.json_schema import echo, first, sample
from verifiers.utils.message_utils import content_text, last_text

PREFIX = "baseline/"
_GIVES_UP = 0.25
"""How likely a random tool user stops after a tool has answered; episodes that never say done end all the same."""
MOST_TURNS = 2_000
"""An episode that a baseline does not end by then would go on until the memory is full, since its turns cost nothing."""
FIRST_CALLS = 10
"""How often `baseline/first` calls its tool in an episode that does not end by itself."""


class Offline(Client):
    """A client that thinks for itself instead of asking an endpoint."""

    def setup_client(self, client_or_config: Any) -> None:
        return None

    async def to_native_tool(self, tool: Tool) -> Tool:
        return tool

    async def to_native_prompt(self, messages: Messages) -> tuple[Messages, dict[str, Any]]:
        return messages, {}

    async def get_native_response(
        self,
        prompt: Messages,
        model: str,
        sampling_args: Mapping[str, Any],
        tools: list[Tool] | None,
        state: State | None = None,
        **_: Any,
    ) -> AssistantMessage:
        if state is not None and len(state.get("trajectory") or ()) >= MOST_TURNS:
            raise ModelError(
                f"The baseline has taken {MOST_TURNS:,} turns and the episode has not ended: give the environment max_turns or "
                "a stop condition."
            )
        return self.move(prompt, tools or [], state if state is not None else State())

    @abstractmethod
    def move(self, prompt: Messages, tools: Sequence[Tool], state: State) -> AssistantMessage:
        """What is said in this turn of the rollout `state`."""

    async def raise_from_native_response(self, response: AssistantMessage) -> None:
        return None

    async def from_native_response(self, response: AssistantMessage) -> Response:
        said = "tool_calls" if response.tool_calls else "stop"
        return Response(message=response, usage=Usage(), finish_reason=said, model=type(self).__name__)

    async def close(self) -> None:
        return None


class Policy(Offline):
    """Sees the conversation, the tools, and the action schema of an OpenEnv episode."""

    def move(self, prompt: Messages, tools: Sequence[Tool], state: State) -> AssistantMessage:
        seed = (state.get("info") or {}).get("seed", state.get("example_id", 0))
        turn = len(state.get("trajectory") or ())
        rng = Random(f"{seed}:{state.get('rollout_index', 0)}:{turn}")
        return self.answer(prompt, tools, state.get("openenv_action_schema"), rng)

    @abstractmethod
    def answer(
        self, prompt: Messages, tools: Sequence[Tool], action_schema: Mapping[str, Any] | None, rng: Random
    ) -> AssistantMessage:
        """The policy's move. Raises ValueError when there is none."""


class RandomPolicy(Policy):
    """Tools: calls one with valid arguments, and gives up now and then once one has answered. Otherwise an action, or
    words.
    """

    def answer(
        self, prompt: Messages, tools: Sequence[Tool], action_schema: Mapping[str, Any] | None, rng: Random
    ) -> AssistantMessage:
        words = _words(prompt)
        if tools:
            if _answered_by_tool(prompt) and rng.random() < _GIVES_UP:
                return AssistantMessage("I am done.")
            tool = rng.choice(list(tools))
            return _call(tool, sample(_arguments_of(tool), rng, words), rng)
        if action_schema:
            return AssistantMessage(json.dumps(sample(action_schema, rng, words)))
        return AssistantMessage(" ".join(rng.choice(words or ["hello"]) for _ in range(rng.randint(1, 8))))


class FirstPolicy(Policy):
    """The same move every time. Tools: calls the first one with its first arguments until it has been answered
    FIRST_CALLS times. Otherwise the first action, or the first word.
    """

    def answer(
        self, prompt: Messages, tools: Sequence[Tool], action_schema: Mapping[str, Any] | None, rng: Random
    ) -> AssistantMessage:
        if tools:
            if sum(message.get("role") == "tool" for message in prompt) >= FIRST_CALLS:
                return AssistantMessage("I am done.")
            return _call(tools[0], first(_arguments_of(tools[0])), rng)
        if action_schema:
            return AssistantMessage(json.dumps(first(action_schema)))
        return AssistantMessage((_words(prompt) or ["hello"])[0])


class EchoPolicy(Policy):
    """Tools: calls the first with the last user message in its first string, then repeats its answer. Otherwise an
    action with it, or it alone.
    """

    def answer(
        self, prompt: Messages, tools: Sequence[Tool], action_schema: Mapping[str, Any] | None, rng: Random
    ) -> AssistantMessage:
        text = last_text(prompt, "user")
        if tools:
            if _answered_by_tool(prompt):
                return AssistantMessage(last_text(prompt, "tool"))
            return _call(tools[0], echo(_arguments_of(tools[0]), text, rng), rng)
        if action_schema:
            return AssistantMessage(json.dumps(echo(action_schema, text, rng)))
        return AssistantMessage(text)


POLICIES: dict[str, type[Policy]] = {
    "baseline/random": RandomPolicy,
    "baseline/first": FirstPolicy,
    "baseline/echo": EchoPolicy,
}


def _answered_by_tool(prompt: Messages) -> bool:
    return bool(prompt) and prompt[-1].get("role") == "tool"


def _arguments_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, an object also where it does not say so."""
    return {"type": "object", **tool.parameters}


def _call(tool: Tool, arguments: Any, rng: Random) -> AssistantMessage:
    call = ToolCall(id=f"call_{rng.getrandbits(48):012x}", name=tool.name, arguments=json.dumps(arguments))
    return AssistantMessage(None, tool_calls=[call])


def _words(prompt: Messages) -> list[str]:
    """The words of what was last said to the policy, each once, in order."""
    for message in reversed(prompt):
        if message.get("role") != "assistant":
            found = re.findall(r"[^\W_]+", content_text(message.get("content")))
            if found:
                return list(dict.fromkeys(found))
    return []
