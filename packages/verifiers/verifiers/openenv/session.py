"""One episode's line to an OpenEnv server, in the two dialects such servers speak.

`ws`    openenv-core: the session is a WebSocket on /ws; one reply for one request, no correlation id, so a request
        that was given up on (timeout, cancellation) closes the connection: its late reply can never be taken for
        another's.
`http`  plain FastAPI servers keep their one episode behind POST /reset and POST /step: one server process is one
        session.

`connect` asks /ws first and falls back on a 403 or 404. Every request may raise ActionRejected (the session lives) or
SessionLost (it does not).
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from verifiers.openenv.errors import ActionRejected, CapacityReached, SessionLost
from verifiers.openenv.probe import health_problem
from verifiers.openenv.wire import (
    JSON,
    RPCError,
    StepResult,
    ToolSpec,
    error_text,
    frame_error,
    read_result,
    read_rpc,
    read_tools,
    rpc_request,
)

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import ClientConnection

Dialect = Literal["ws", "http"]
MAX_MESSAGE_BYTES = 100 * 1024 * 1024
NO_WEBSOCKET_STATUS = frozenset({403, 404})


class Session(ABC):
    """A leased episode. Not for use by two tasks at once."""

    dialect: Dialect

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.timeout = timeout
        self.lost = False
        self.interrupted = False  # given up on while the server was still working on a request

    async def reset(self, seed: int | None = None, **kwargs: Any) -> StepResult:
        """Begin an episode. A refusal here is nobody's action, so it is SessionLost as well."""
        arguments = kwargs if seed is None else {"seed": seed, **kwargs}
        try:
            return await self._ask(lambda: _read(self._reset(arguments), "reset"))
        except ActionRejected as error:
            raise SessionLost(f"OpenEnv reset failed for seed={seed} ({error.code}): {error}") from error

    async def step(self, action: JSON, timeout: float | None = None) -> StepResult:
        """Take one action (the action object itself)."""
        return await self._ask(lambda: _read(self._step(action), "step"), timeout)

    async def list_tools(self) -> list[ToolSpec]:
        """The tools of an MCP environment. Raises: RPCError when the server lists none."""
        return await self._ask(self._list_tools)

    async def close(self) -> None:
        """End the session and wait until the server has let go of it (bounded); never raises."""
        self.lost = True

    async def _ask(self, request: Callable[[], Awaitable[Any]], timeout: float | None = None) -> Any:
        if self.lost:
            raise SessionLost(f"The session with {self.url} is over.")
        limit = self.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                return await request()
        except TimeoutError:
            self._abandon()
            raise SessionLost(f"The OpenEnv server at {self.url} did not answer within {limit:g} s.") from None
        except (ActionRejected, RPCError):
            raise
        except CapacityReached:
            self.lost = True
            raise
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self.lost = self.interrupted = True

    @abstractmethod
    async def _reset(self, arguments: JSON) -> Any: ...

    @abstractmethod
    async def _step(self, action: JSON) -> Any: ...

    @abstractmethod
    async def _list_tools(self) -> list[ToolSpec]: ...


class WebSocketSession(Session):
    """A session of an openenv-core server: a fresh environment object that lives as long as the socket."""

    dialect = "ws"

    def __init__(self, url: str, socket: ClientConnection, timeout: float = 60.0) -> None:
        super().__init__(url, timeout)
        self._socket = socket

    async def _reset(self, arguments: JSON) -> Any:
        return await self._exchange("reset", arguments, "observation")

    async def _step(self, action: JSON) -> Any:
        return await self._exchange("step", action, "observation")

    async def state(self) -> JSON:
        """The environment's state object, as the server serialises it."""
        return await self._ask(lambda: self._exchange("state", None, "state"))

    async def _list_tools(self) -> list[ToolSpec]:
        try:
            return read_tools(read_rpc(await self._exchange("mcp", rpc_request("tools/list"), "mcp")))
        except (ActionRejected, RPCError) as first:
            # Servers without the mcp frame may still answer the action; the first complaint is the one worth showing.
            try:
                answer = read_result(await self._exchange("step", {"type": "list_tools"}, "observation"), "step")
                return read_tools(answer.observation)
            except (ActionRejected, RPCError):
                raise RPCError(str(first)) from first

    async def _exchange(self, kind: str, data: JSON | None, expected: str) -> Any:
        from websockets.exceptions import ConnectionClosed

        message = {"type": kind} if data is None else {"type": kind, "data": data}
        try:
            try:
                await self._socket.send(json.dumps(message))
            except ConnectionClosed:
                pass  # a server at capacity says so, unasked, and closes: its words are still to be read
            frame = await self._socket.recv()
        except ConnectionClosed as error:
            raise SessionLost(
                f"The OpenEnv server at {self.url} closed the connection on a {kind}{_close_reason(error)}."
            ) from error
        try:
            reply = json.loads(frame)
        except ValueError as error:
            raise SessionLost(f"The OpenEnv server at {self.url} sent a frame that is not JSON.") from error
        if not isinstance(reply, dict):
            raise SessionLost(f"The OpenEnv server at {self.url} sent a frame that is not a JSON object.")
        if reply.get("type") == "error":
            raise frame_error(reply.get("data"))
        if reply.get("type") != expected:
            raise SessionLost(
                f"The OpenEnv server at {self.url} answered a {kind} with a frame of type {reply.get('type')!r}."
            )
        return reply.get("data")

    def _abandon(self) -> None:
        super()._abandon()
        self._socket.transport.abort()

    async def close(self) -> None:
        was_alive, self.lost = not self.lost, True
        try:
            async with asyncio.timeout(2):
                if was_alive:
                    # The server answers "close" by closing once the environment is gone; a bare close frame would be
                    # answered before, and the next session could still meet a full server.
                    await self._socket.send('{"type": "close"}')
                    await self._socket.recv()
                    await self._socket.close()  # a server that answered instead does not know "close"
                else:
                    await self._socket.wait_closed()
        except Exception:  # closed, as wished, or beyond help
            pass
        finally:
            self._socket.transport.abort()


class HTTPSession(Session):
    """The one session of a plain HTTP server: POST /reset, POST /step, POST /mcp."""

    dialect = "http"

    def __init__(self, url: str, client: httpx.AsyncClient, timeout: float = 60.0) -> None:
        super().__init__(url, timeout)
        self._client = client

    async def _reset(self, arguments: JSON) -> Any:
        # Servers declare `seed` as a query parameter or in the body; each ignores the other place.
        query = {"seed": arguments["seed"]} if "seed" in arguments else None
        return await self._post("/reset", arguments, query)

    async def _step(self, action: JSON) -> Any:
        return await self._post("/step", action)

    async def _list_tools(self) -> list[ToolSpec]:
        problems = []
        for envelope in (True, False):
            request = rpc_request("tools/list")
            try:
                return read_tools(read_rpc(await self._post("/mcp", {"data": request} if envelope else request)))
            except (ActionRejected, RPCError) as error:
                problems.append(error)
        raise RPCError(str(problems[0])) from problems[0]

    async def _post(self, path: str, body: JSON, query: JSON | None = None) -> Any:
        import httpx

        try:
            response = await self._client.post(self.url + path, json=body, params=query)
        except httpx.HTTPError as error:
            raise SessionLost(f"The OpenEnv server at {self.url} broke off a POST {path} ({_name(error)}).") from error
        try:
            answer = response.json()
        except ValueError:
            answer = response.text
        if response.is_success:
            return answer
        if response.status_code >= 500 and await health_problem(self._client, self.url, 5.0) is not None:
            raise SessionLost(
                f"The OpenEnv server at {self.url} answered POST {path} with HTTP {response.status_code} "
                "and is no longer healthy."
            )
        text = error_text(answer).strip() or response.reason_phrase
        raise ActionRejected(text, f"HTTP_{response.status_code}")


async def connect(
    url: str,
    client: httpx.AsyncClient,
    *,
    dialect: Dialect | None = None,
    timeout: float = 60.0,
    open_timeout: float = 10.0,
) -> Session:
    """Open a session on the server at `url` ("http://host:port").

    `dialect` is what an earlier session of this server spoke, None to find out. The capacity of a WebSocket server
    shows only in its answer to the first request. Raises: SessionLost when nothing answers.
    """
    if dialect == "http":
        return HTTPSession(url, client, timeout)
    from websockets.asyncio.client import connect as open_socket
    from websockets.exceptions import InvalidStatus, WebSocketException

    try:
        socket = await open_socket(
            "ws" + url.removeprefix("http") + "/ws",
            open_timeout=open_timeout,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
            proxy=None,
            ping_interval=None,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        if status in NO_WEBSOCKET_STATUS and dialect is None:
            return HTTPSession(url, client, timeout)
        raise SessionLost(f"The OpenEnv server at {url} refused a session with HTTP {status} on /ws.") from error
    except (OSError, TimeoutError, WebSocketException) as error:
        raise SessionLost(f"No session on the OpenEnv server at {url}: {_name(error)}.") from error
    return WebSocketSession(url, socket, timeout)


async def _read(request: Awaitable[Any], what: str) -> StepResult:
    return read_result(await request, what)


def _close_reason(error: Any) -> str:
    received = getattr(error, "rcvd", None)
    if received is None:
        return ""
    return f" (code {received.code}{': ' + received.reason if received.reason else ''})"


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
