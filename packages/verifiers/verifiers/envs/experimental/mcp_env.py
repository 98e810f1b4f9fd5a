"""MCPEnv: the tools of MCP servers, programs of this machine (stdio) or addresses (Streamable HTTP).

The constructor is the one of the official documentation (API, MCPEnv); `url`, `headers` and `cwd` of a server, and the two
timeouts, are ours. For servers that all rollouts may share: a server is connected to once, and keeps its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from verifiers.decorators import teardown
from verifiers.envs.tool_env import ToolEnv
from verifiers.errors import InfraError, ToolError
from verifiers.types import State, Tool
from verifiers.utils.optional import require
from verifiers.utils.urls import shown_url

CONNECT_SECONDS = 30.0
STREAM_SECONDS = 300.0  # a server may be silent while it works
_SECRET = re.compile(r"-{0,2}[\w-]*(?:key|token|secret|password|authorization)[\w-]*", re.IGNORECASE)
REQUIREMENT = ("MCPEnv", "mcp>=2,<3", "mcp")


class MCPServerError(InfraError):
    """An MCP server did not start, or is gone."""


@dataclass(kw_only=True)
class MCPServerConfig:
    """A server: `command` with `args`, `env` (beside a few of this process) and `cwd`; or `url` with `headers`."""

    name: str
    command: str = ""
    args: list[str] = field(default_factory=list)
    env: dict[str, str] | None = field(default=None, repr=False)
    cwd: str | None = None
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    description: str = ""

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError(f"The MCP server {self.name!r} needs a command or a url, and not both.")

    def without_secrets(self, text: str) -> str:
        """The text without what keys are given in: queries of addresses, headers, and what is called a key, a token, a
        secret or a password in `env` and `args`.
        """
        hidden = [*self.headers.values(), *(value for name, value in (self.env or {}).items() if _SECRET.search(name))]
        for position, argument in enumerate(self.args):
            name, separator, value = argument.partition("=")
            if separator and _SECRET.search(name):
                hidden.append(value)
            elif position and argument and _SECRET.fullmatch(self.args[position - 1]):
                hidden.append(argument)
        for value in sorted((value for value in hidden if len(value) > 3), key=len, reverse=True):
            text = text.replace(value, "…")
        for address in (self.url, *self.args):
            if "://" in address:
                text = text.replace(address, shown_url(address))
                if query := address.partition("?")[2]:
                    text = text.replace(query, "…")
        return text


class MCPEnv(ToolEnv):
    """As ToolEnv, with the tools of MCP servers; functions in `tools` are offered beside them.

    Servers are connected to with the first rollout and let go of at the end of the run. What a tool calls an error goes
    back to the model; a server that is gone is `state["error"]`, unscored, and connected to anew by the next rollout.

    mcp_servers: MCPServerConfig, or mappings with its fields. tool_timeout_seconds: for one call; the model is told.
    startup_timeout_seconds: for a server to start and to list its tools.

    Raises ImportError without the library, ValueError for servers that cannot be.
    """

    def __init__(
        self,
        mcp_servers: Sequence[MCPServerConfig | Mapping[str, Any]] = (),
        max_turns: int = 10,
        error_formatter: Callable[[Exception], str] = lambda error: f"Error: {error}",
        stop_errors: Sequence[type[Exception]] | None = None,
        tool_timeout_seconds: float = 60.0,
        startup_timeout_seconds: float = 30.0,
        **kwargs: Any,
    ) -> None:
        if not hasattr(require("mcp", *REQUIREMENT), "Client"):
            raise ImportError(f"MCPEnv requires mcp 2. Install with: uv add '{REQUIREMENT[1]}'")
        self.mcp_servers = [_config(server) for server in mcp_servers]
        names = [server.name for server in self.mcp_servers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"There is more than one MCP server called {twice[0]!r}; servers need different names.")
        self.tool_timeout_seconds = tool_timeout_seconds
        self.startup_timeout_seconds = startup_timeout_seconds
        self._connections: dict[str, _Connection] = {}
        self._connecting: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            max_turns=max_turns,
            error_formatter=error_formatter,
            stop_errors=[InfraError] if stop_errors is None else stop_errors,
            **kwargs,
        )

    async def setup_state(self, state: State, **kwargs: Any) -> State:
        """Connect to the servers where that is not done. Raises MCPServerError."""
        await super().setup_state(state)
        await self.connect()
        if not (state["info"].get("tool_defs") or state["info"].get("oai_tools")):
            state["tool_defs"] = list(self.tool_defs)
        return state

    async def connect(self) -> None:
        """Connect to every server that is not connected, and offer its tools."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._connections, self._connecting, self._loop = {}, asyncio.Lock(), loop
        assert self._connecting is not None
        async with self._connecting:
            for server in self.mcp_servers:
                connection = self._connections.get(server.name)
                if connection is not None and not connection.lost:
                    continue
                if connection is not None:
                    await connection.close()
                connection = self._connections[server.name] = _Connection(server)
                tools = await connection.open(self.startup_timeout_seconds)
                try:
                    for found in tools:
                        self._offer_tool(server, found)
                except MCPServerError:  # for the next rollout too, instead of one with a part of the tools
                    await connection.close()
                    raise

    def _offer_tool(self, server: MCPServerConfig, found: Any) -> None:
        shown = Tool(found.name, found.description or "", found.input_schema)
        held = self.tool_map.get(shown.name)
        if isinstance(held, _MCPTool) and held.server == server.name:
            return  # connected anew
        if held is not None:
            raise MCPServerError(
                f"The MCP server {server.name!r} has a tool called {shown.name!r}, and so has another; "
                "tools need different names."
            )
        self._offer(_MCPTool(self, server.name, shown.name), shown)

    async def call_mcp(self, server: str, tool: str, arguments: Mapping[str, Any]) -> Any:
        """What a tool of a server answers: a text, or content parts where there are pictures.

        Raises ToolError with the tool's own words, MCPServerError when the server is gone.
        """
        connection = self._connections.get(server)
        if connection is None or connection.lost or self._loop is not asyncio.get_running_loop():
            raise MCPServerError(f"The MCP server {server!r} is not connected.")
        return await connection.call(tool, arguments, self.tool_timeout_seconds)

    @teardown
    async def close_servers(self) -> None:
        """Let go of the servers; the next rollout connects anew."""
        connections, self._connections = [*self._connections.values()], {}
        if self._loop is asyncio.get_running_loop():
            await asyncio.gather(*(connection.close() for connection in connections))


class _MCPTool:
    """A tool of a server as a function."""

    def __init__(self, env: MCPEnv, server: str, name: str) -> None:
        self.env, self.server, self.__name__ = env, server, name

    async def __call__(self, **arguments: Any) -> Any:
        return await self.env.call_mcp(self.server, self.__name__, arguments)


class _Connection:
    """A connection, held by a task of its own, because the library wants it closed where it was opened."""

    def __init__(self, server: MCPServerConfig) -> None:
        self.server = server
        self.client: Any = None
        self._listed = False
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._task is None or self._task.done() or self._over.is_set()

    async def open(self, seconds: float) -> list[Any]:
        """The server's tools, once it has said them. Raises MCPServerError."""
        ready: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            self._task = asyncio.create_task(self._hold(ready, log))
            try:
                async with asyncio.timeout(seconds):
                    await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
                if ready.done():
                    return ready.result()
                reason = _reason(self._task.exception())
            except TimeoutError:
                reason = f"it was not ready after {seconds:g} s (startup_timeout_seconds)"
            except BaseException:
                await self.close()
                raise
            await self.close()
            log.seek(0)
            words = next((line.strip() for line in reversed(log.readlines()) if line.strip()), "")
        where = self.server.url or " ".join([self.server.command, *self.server.args])
        said = f" It said: {words}" if words else ""
        told = f"The MCP server {self.server.name!r} ({where}) did not start: {reason}.{said}"
        raise MCPServerError(self.server.without_secrets(told))

    async def _hold(self, ready: asyncio.Future[list[Any]], log: Any) -> None:
        from mcp import Client  # ty: ignore[import-not-found]

        async with contextlib.AsyncExitStack() as stack:
            target = await self._transport(stack, log)
            self.client = await stack.enter_async_context(Client(target, cache=None))
            tools, cursor = [], None
            while True:
                page = await self.client.list_tools(cursor=cursor)
                tools += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
            self._listed = True
            ready.set_result(tools)
            await self._over.wait()

    async def _transport(self, stack: contextlib.AsyncExitStack, log: Any) -> Any:
        import httpx2
        from mcp import StdioServerParameters, stdio_client  # ty: ignore[import-not-found]
        from mcp.client.streamable_http import streamable_http_client  # ty: ignore[import-not-found]

        server = self.server
        if server.url:
            patience = httpx2.Timeout(CONNECT_SECONDS, read=STREAM_SECONDS)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=server.headers, timeout=patience))
            return streamable_http_client(server.url, http_client=http)
        parameters = StdioServerParameters(command=server.command, args=server.args, env=server.env, cwd=server.cwd)
        return stdio_client(parameters, errlog=log)

    async def call(self, tool: str, arguments: Mapping[str, Any], seconds: float) -> Any:
        """What a tool answers. Raises ToolError, MCPServerError."""
        from mcp import MCPError  # ty: ignore[import-not-found]
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT  # ty: ignore[import-not-found]

        try:
            result = await self.client.call_tool(tool, dict(arguments), read_timeout_seconds=seconds)
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise ToolError(f"The tool {tool} did not answer within {seconds:g}s.") from None
            if error.code != CONNECTION_CLOSED:
                raise ToolError(error.error.message) from error
            raise self._gone(error) from None
        except Exception as error:
            raise self._gone(error) from None
        answer = _answer(result)
        if result.is_error:
            raise ToolError(answer if isinstance(answer, str) else json.dumps(answer))
        return answer

    def _gone(self, error: Exception) -> MCPServerError:
        self._over.set()
        told = f"The MCP server {self.server.name!r} is gone: {_reason(error)}."
        return MCPServerError(self.server.without_secrets(told))

    async def close(self) -> None:
        """End the connection, and a server that is a program with it."""
        task = self._task
        if task is None:
            return
        if not self._listed:
            task.cancel()
        self._over.set()
        await asyncio.gather(task, return_exceptions=True)


def _config(server: MCPServerConfig | Mapping[str, Any]) -> MCPServerConfig:
    if isinstance(server, MCPServerConfig):
        return server
    known = [item.name for item in fields(MCPServerConfig)]
    if unknown := sorted(set(server) - set(known)):
        raise ValueError(f"An MCP server has no field {unknown[0]!r}; it has: {', '.join(known)}.")
    if not server.get("name"):
        raise ValueError(f"An MCP server needs a name; this one has the fields {sorted(server)}.")
    return MCPServerConfig(**server)


def _answer(result: Any) -> str | list[dict[str, Any]]:
    """The content of a result: its texts, or content parts where there are pictures; else its structured content."""
    parts: list[dict[str, Any]] = []
    for part in result.content:
        if part.type == "text":
            parts.append({"type": "text", "text": part.text})
        elif part.type == "image":
            address = f"data:{part.mime_type};base64,{part.data}"
            parts.append({"type": "image_url", "image_url": {"url": address}})
        else:
            parts.append({"type": "text", "text": part.model_dump_json(exclude_none=True)})
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _reason(error: BaseException | None) -> str:
    """The first real error in a group of them, as text."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return "it ended" if error is None else (str(error) or type(error).__name__).rstrip(".")
