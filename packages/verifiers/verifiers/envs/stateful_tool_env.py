"""StatefulToolEnv: tools that also get what the model must not choose, such as the rollout's own sandbox."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from verifiers.envs.tool_env import ToolEnv
from verifiers.types import Messages, State, Tool
from verifiers.utils.async_utils import function_name, maybe_await
from verifiers.utils.tool_utils import tool_from_function


class StatefulToolEnv(ToolEnv):
    """As ToolEnv; before each call `update_tool_args` puts in what the rollout's state holds.

    `add_tool(self.look, args_to_skip=["session"])` offers a function whose argument `session` the model does not see.
    A call in which the model names a hidden argument all the same goes back to it as an error.
    """

    def __init__(self, tools: Sequence[Callable[..., Any]] | None = None, **kwargs: Any) -> None:
        self._hidden: dict[str, frozenset[str]] = {}
        super().__init__(tools=tools, **kwargs)

    def add_tool(self, tool: Callable[..., Any], args_to_skip: Sequence[str] = ()) -> None:
        """Offer one more function, without the arguments in `args_to_skip`.

        Raises ValueError for an argument that the function does not have.
        """
        whole = tool_from_function(tool)
        known = whole.parameters["properties"]
        for name in args_to_skip:
            if name not in known:
                raise ValueError(
                    f"args_to_skip names {name!r}, which is no argument of the tool {whole.name!r}; "
                    f"it has: {', '.join(known) or 'none'}."
                )
        self._offer(tool, _without(whole, frozenset(args_to_skip)))
        self._hidden[whole.name] = frozenset(args_to_skip)

    def remove_tool(self, tool: Callable[..., Any] | str) -> None:
        super().remove_tool(tool)
        self._hidden.pop(tool if isinstance(tool, str) else function_name(tool), None)

    @abstractmethod
    def update_tool_args(
        self, tool_name: str, tool_args: dict[str, Any], messages: Messages, state: State, **kwargs: Any
    ) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """The arguments a tool is called with, from those the model gave; sync or async. `state` may be changed, too.

        messages: the conversation, the call included. What it raises is treated as an error of the tool.
        """

    async def _arguments(
        self, name: str, arguments: dict[str, Any], messages: Messages, state: State
    ) -> dict[str, Any]:
        if taken := sorted(self._hidden.get(name, frozenset()) & arguments.keys()):
            raise TypeError(f"{name}() got an unexpected keyword argument '{taken[0]}'")
        return await maybe_await(self.update_tool_args(name, arguments, messages, state))


def _without(tool: Tool, hidden: frozenset[str]) -> Tool:
    schema = tool.parameters
    shown = {name: part for name, part in schema["properties"].items() if name not in hidden}
    required = [name for name in schema["required"] if name not in hidden]
    return Tool(tool.name, tool.description, {**schema, "properties": shown, "required": required}, tool.strict)
