"""ToolEnv: the model calls Python functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from verifiers.decorators import stop
from verifiers.envs.multiturn_env import MultiTurnEnv
from verifiers.errors import InfraError, ToolCallError, ToolError, ToolParseError
from verifiers.rubrics.rubric import Rubric
from verifiers.types import AssistantMessage, Messages, MessagesLike, State, Tool, ToolCall, ToolMessage
from verifiers.utils.async_utils import function_name, maybe_await
from verifiers.utils.tool_utils import tool_from_function


class ToolEnv(MultiTurnEnv):
    """Gives the model stateless Python functions as tools; the rollout ends when it answers without calling one.

    tools: functions, sync or async; schema from signature and docstring. error_formatter: what the model sees of an
    exception. stop_errors: exceptions (by class) that end the rollout instead, as ToolParseError or ToolCallError; an
    InfraError as itself, so that the rollout stays unscored.
    """

    def __init__(
        self,
        tools: Sequence[Callable[..., Any]] | None = None,
        max_turns: int = 10,
        error_formatter: Callable[[Exception], str] = lambda error: f"{error}",
        stop_errors: Sequence[type[Exception]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_turns=max_turns, **kwargs)
        self.error_formatter = error_formatter
        self.stop_errors = tuple(stop_errors or ())
        self.tools: list[Callable[..., Any]] = []
        self.tool_map: dict[str, Callable[..., Any]] = {}
        self._counts = Rubric(funcs=[total_tool_calls], weights=[0.0])
        self.add_rubric(self._counts)
        for tool in tools or ():
            self.add_tool(tool)

    def add_tool(self, tool: Callable[..., Any]) -> None:
        """Offer one more function."""
        self._offer(tool, tool_from_function(tool))

    def _offer(self, tool: Callable[..., Any], shown: Tool) -> None:
        """Offer `tool` to the model as `shown`, under the name that it has there."""
        if shown.name in self.tool_map:
            raise ValueError(f"There is already a tool called {shown.name!r}; tools need different names.")
        self.tools.append(tool)
        self.tool_map[shown.name] = tool
        self.tool_defs.append(shown)
        self._counts.add_metric(_counter(shown.name))

    def remove_tool(self, tool: Callable[..., Any] | str) -> None:
        """Take a function away."""
        name = tool if isinstance(tool, str) else function_name(tool)
        self.tools.remove(self.tool_map.pop(name))
        self.tool_defs = [offered for offered in self.tool_defs if offered.name != name]
        kept = [
            pair
            for pair in zip(self._counts.funcs, self._counts.weights, strict=True)
            if function_name(pair[0]) != f"{name}_calls"
        ]
        self._counts.funcs = [func for func, _ in kept]
        self._counts.weights = [weight for _, weight in kept]

    @stop
    async def no_tools_called(self, state: State) -> bool:
        """The model answered in words."""
        trajectory = state["trajectory"]
        if not trajectory:
            return False
        last = trajectory[-1]["completion"][-1]
        return last.get("role") == "assistant" and not last.get("tool_calls")

    async def call_tool(
        self, tool_name: str, tool_args: dict[str, Any], tool_call_id: str, **kwargs: Any
    ) -> ToolMessage:
        """Call a tool; lists of content parts pass through, everything else becomes its text."""
        result = await maybe_await(self.tool_map[tool_name](**tool_args))
        return ToolMessage(result if _is_parts(result) else str(result), tool_call_id=tool_call_id)

    async def env_response(self, messages: Messages, state: State, **kwargs: Any) -> MessagesLike:
        """The answers of the tools that the last message called, in order."""
        last = messages[-1]
        calls = last.tool_calls if isinstance(last, AssistantMessage) else None
        return [await self._answer(call, messages, state) for call in calls or ()]

    async def _answer(self, call: ToolCall, messages: Messages, state: State) -> ToolMessage:
        try:
            arguments = json.loads(call["arguments"])
            if not isinstance(arguments, dict):
                raise ValueError(f"Expected tool arguments to be a dict, got {type(arguments).__name__}: {arguments}")
        except Exception as error:
            return self._failed(call, error, ToolParseError)
        try:
            arguments = await self._arguments(call["name"], arguments, messages, state)
            return await self.call_tool(call["name"], arguments, call["id"])
        except SystemExit as stopped:  # of a program that the tool has run
            return self._failed(call, ToolCallError(f"The tool called exit({stopped.code!r})."), ToolCallError)
        except Exception as error:
            return self._failed(call, error, ToolCallError)

    async def _arguments(
        self, name: str, arguments: dict[str, Any], messages: Messages, state: State
    ) -> dict[str, Any]:
        """What the tool is called with."""
        return arguments

    def _failed(self, call: ToolCall, error: Exception, kind: type[ToolError]) -> ToolMessage:
        """What the model sees of an error; one of `stop_errors` is raised instead."""
        if not isinstance(error, self.stop_errors):
            return ToolMessage(self.error_formatter(error), tool_call_id=call["id"])
        if isinstance(error, InfraError):  # as what it is: a machine that failed is nothing the model is scored for
            raise error
        raise kind(str(error)) from error


def total_tool_calls(completion: Messages) -> float:
    """How many tools the model called."""
    return float(sum(len(message.get("tool_calls") or ()) for message in completion))


def _counter(name: str) -> Callable[..., float]:
    def count(completion: Messages) -> float:
        return float(sum(call["name"] == name for message in completion for call in message.get("tool_calls") or ()))

    count.__name__ = f"{name}_calls"
    return count


def _is_parts(result: Any) -> bool:
    return (
        isinstance(result, list)
        and bool(result)
        and all(isinstance(part, dict) and part.get("type") in ("text", "image_url") for part in result)
    )
