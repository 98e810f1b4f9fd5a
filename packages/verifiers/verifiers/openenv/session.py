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
from typing import TYPE_CHECKING, Any, Literal

from verifiers.openenv.errors import ActionRejected, CapacityReached, NoAnswer, NoEpisode, SessionLost
from verifiers.openenv.probe import health_problem
from verifiers.openenv.websocket import Closed, Refused, WebSocket, WebSocketException, open_websocket
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
from verifiers.utils.urls import shown_url

if TYPE_CHECKING:
    import httpx

Dialect = Literal["ws", "http"]
CLOSE_SECONDS = 2.0
NO_WEBSOCKET_STATUS = frozenset({403, 404})
# What a proxy says when it has not reached the server, or not let us through: no model can help that.
NOT_THE_SERVER = frozenset({401, 407, 429, 502, 503, 504})


class Session(ABC):
    """A leased episode. Not for use by two tasks at once."""

    dialect: Dialect

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        self.shown = shown_url(url)
        self.timeout = timeout
        self.lost = False
        self.interrupted = False  # given up on while the server was still working on a request

    async def reset(
        self, seed: int | None = None, arguments: JSON | None = None, timeout: float | None = None
    ) -> StepResult:
        """Begin an episode; `arguments` go along with the seed. A refusal here is nobody's action, so it is SessionLost
        as well.
        """
        sent = {**({} if seed is None else {"seed": seed}), **(arguments or {})}
        try:
            return self._result(await self._reset(sent, timeout), "reset")
        except ActionRejected as error:
            raise SessionLost(f"OpenEnv reset failed for seed={seed} ({error.code}): {error}") from error

    async def step(self, action: JSON, timeout: float | None = None) -> StepResult:
        """Take one action (the action object itself); `timeout` seconds instead of the session's own."""
        return self._result(await self._step(action, timeout), "step")

    @abstractmethod
    async def state(self) -> JSON:
        """The environment's state object, as the server serialises it. Raises: ActionRejected when it has none."""

    @abstractmethod
    async def list_tools(self) -> list[ToolSpec]:
        """The tools of an MCP environment. Raises: RPCError when the server lists none."""

    async def close(self) -> None:
        """End the session and wait until the server has let go of it (bounded); never raises."""
        self.lost = True

    @abstractmethod
    async def _reset(self, arguments: JSON, timeout: float | None) -> Any: ...

    @abstractmethod
    async def _step(self, action: JSON, timeout: float | None) -> Any: ...

    def _result(self, answer: Any, what: str) -> StepResult:
        try:
            return read_result(answer, what)
        except SessionLost:
            self.drop()
            raise

    def _check_alive(self) -> None:
        if self.lost:
            raise SessionLost(f"The session with {self.shown} is over.")

    def drop(self) -> None:
        """Give up on the session at once: what it is still asked fails, and the reply reaches nobody."""
        self.lost = self.interrupted = True

    def _late(self, seconds: float) -> NoAnswer:
        return NoAnswer(f"The OpenEnv server at {self.shown} did not answer within {seconds:g} s.")


class WebSocketSession(Session):
    """A session of an openenv-core server: a fresh environment object that lives as long as the socket."""

    dialect = "ws"

    def __init__(self, url: str, socket: WebSocket, timeout: float = 60.0) -> None:
        super().__init__(url, timeout)
        self._socket = socket

    async def _reset(self, arguments: JSON, timeout: float | None) -> Any:
        return await self._exchange("reset", arguments, "observation", timeout)

    async def _step(self, action: JSON, timeout: float | None) -> Any:
        return await self._exchange("step", action, "observation", timeout)

    async def state(self) -> JSON:
        return await self._exchange("state", None, "state")

    async def list_tools(self) -> list[ToolSpec]:
        try:
            return read_tools(read_rpc(await self._exchange("mcp", rpc_request("tools/list"), "mcp")))
        except (ActionRejected, RPCError) as first:
            # Servers without the mcp frame may still answer the action; the first complaint is the one worth showing.
            try:
                return read_tools((await self.step({"type": "list_tools"})).observation)
            except (ActionRejected, RPCError):
                raise RPCError(str(first)) from first

    async def _exchange(self, kind: str, data: JSON | None, expected: str, timeout: float | None = None) -> Any:
        self._check_alive()
        seconds = self.timeout if timeout is None else timeout
        text = _encoded({"type": kind} if data is None else {"type": kind, "data": data})
        try:
            if (unasked := self._socket.unasked()) is not None:
                raise self._refusal(unasked)
            return self._read(await self._socket.request(text, seconds), kind, expected)
        except (ActionRejected, RPCError):
            raise
        except CapacityReached:
            self.lost = True
            raise
        except TimeoutError:
            self.drop()
            raise self._late(seconds) from None
        except Closed as error:
            self.drop()
            raise SessionLost(
                f"The OpenEnv server at {self.shown} closed the connection on a {kind}{error}."
            ) from error
        except BaseException:
            self.drop()
            raise

    def _refusal(self, unasked: str | bytes) -> Exception:
        """A full server says so before we have said anything. Any other frame would be taken for the reply to the next
        request, and that one's reply for the one after.
        """
        try:
            reply = json.loads(unasked)
        except (ValueError, RecursionError):
            reply = None
        if isinstance(reply, dict) and reply.get("type") == "error":
            error = frame_error(reply.get("data"))
            if not isinstance(error, ActionRejected):
                return error
        return SessionLost(f"The OpenEnv server at {self.shown} sent a frame that nobody had asked for.")

    def _read(self, frame: str | bytes, kind: str, expected: str) -> Any:
        try:
            reply = json.loads(frame)
        except (ValueError, RecursionError) as error:
            raise SessionLost(f"The OpenEnv server at {self.shown} sent a frame that is not JSON.") from error
        if not isinstance(reply, dict):
            raise SessionLost(f"The OpenEnv server at {self.shown} sent a frame that is not a JSON object.")
        received = reply.get("type")
        if received == expected:
            return reply.get("data")
        if received == "error":
            raise frame_error(reply.get("data"))
        raise SessionLost(f"The OpenEnv server at {self.shown} answered a {kind} with a frame of type {received!r}.")

    def drop(self) -> None:
        super().drop()
        self._socket.abort()

    async def close(self) -> None:
        was_alive, self.lost = not self.lost, True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if was_alive:
                    # The server answers "close" by closing once the environment is gone; a bare close frame would be
                    # answered before, and the next session could still meet a full server.
                    await self._socket.request('{"type": "close"}', CLOSE_SECONDS)
                    await self._socket.close()  # a server that answered instead does not know "close"
                else:
                    await self._socket.wait_closed()
        except Exception:  # closed, as wished, or beyond help
            pass
        finally:
            self._socket.abort()


class HTTPSession(Session):
    """The one session of a plain HTTP server: POST /reset, POST /step, POST /mcp."""

    dialect = "http"

    def __init__(self, url: str, client: httpx.AsyncClient, timeout: float = 60.0) -> None:
        super().__init__(url, timeout)
        self._client = client

    async def _reset(self, arguments: JSON, timeout: float | None) -> Any:
        # Servers declare `seed` as a query parameter or in the body; each ignores the other place.
        query = {"seed": arguments["seed"]} if "seed" in arguments else None
        return await self._ask("POST", "/reset", arguments, query, timeout)

    async def _step(self, action: JSON, timeout: float | None) -> Any:
        return await self._ask("POST", "/step", action, timeout=timeout)

    async def state(self) -> JSON:
        return await self._ask("GET", "/state")

    async def list_tools(self) -> list[ToolSpec]:
        problems = []
        for envelope in (True, False):
            request = rpc_request("tools/list")
            try:
                answer = await self._ask("POST", "/mcp", {"data": request} if envelope else request)
                return read_tools(read_rpc(answer))
            except (ActionRejected, RPCError) as error:
                problems.append(error)
        raise RPCError(str(problems[0])) from problems[0]

    async def _ask(
        self,
        method: str,
        path: str,
        body: JSON | None = None,
        query: JSON | None = None,
        timeout: float | None = None,
    ) -> Any:
        self._check_alive()
        seconds = self.timeout if timeout is None else timeout
        content = None if body is None else _encoded(body)
        try:
            async with asyncio.timeout(seconds):
                return await self._answer(method, path, content, query)
        except ActionRejected:
            raise
        except TimeoutError:
            self.drop()
            raise self._late(seconds) from None
        except BaseException:
            self.drop()
            raise

    async def _answer(self, method: str, path: str, content: str | None, query: JSON | None) -> Any:
        import httpx

        what, headers = f"{method} {path}", None if content is None else {"Content-Type": "application/json"}
        try:
            response = await self._client.request(
                method, self.url + path, content=content, headers=headers, params=query
            )
        except httpx.HTTPError as error:
            raise SessionLost(f"The OpenEnv server at {self.shown} broke off a {what} ({_name(error)}).") from error
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = response.text
        if response.is_success:
            return answer
        if response.is_redirect or response.status_code in NOT_THE_SERVER:
            raise SessionLost(
                f"The OpenEnv server at {self.shown} was not reached: {what} was answered with HTTP "
                f"{response.status_code} {response.reason_phrase}."
            )
        if response.status_code >= 500 and await health_problem(self._client, self.url, 5.0) is not None:
            raise SessionLost(
                f"The OpenEnv server at {self.shown} answered {what} with HTTP {response.status_code} "
                "and is no longer healthy."
            )
        text = error_text(answer).strip() or response.reason_phrase
        if response.status_code == 409 and path == "/step" and "reset" in text.lower():
            # A server that was started anew (uvicorn --reload, say) has no episode, and no action will bring it back.
            raise NoEpisode(f"The OpenEnv server at {self.shown} has no episode any more: {text}")
        raise ActionRejected(text, f"HTTP_{response.status_code}")


async def connect(
    url: str,
    client: httpx.AsyncClient,
    *,
    socket_path: str | None = None,
    dialect: Dialect | None = None,
    timeout: float = 60.0,
    open_timeout: float = 10.0,
) -> Session:
    """Open a session on the server at `url` ("http://host:port"), through its unix socket where it has one.

    `client` is the one for plain HTTP. `dialect` is what an earlier session of this server spoke, None to find out.
    The capacity of a WebSocket server shows only in its answer to the first request. Raises: SessionLost when nothing
    answers.
    """
    if dialect == "http":
        return HTTPSession(url, client, timeout)
    try:
        try:
            socket = await open_websocket(url + "/ws", socket_path=socket_path, seconds=open_timeout)
        except OSError:
            if socket_path is None:
                raise
            socket = await open_websocket(url + "/ws", seconds=open_timeout)
    except Refused as refused:
        if refused.status in NO_WEBSOCKET_STATUS and dialect is None:
            return HTTPSession(url, client, timeout)
        raise SessionLost(
            f"The OpenEnv server at {shown_url(url)} refused a session with HTTP {refused.status} on /ws."
        ) from refused
    except (OSError, ValueError, WebSocketException) as error:
        raise SessionLost(f"No session on the OpenEnv server at {shown_url(url)}: {_name(error)}.") from error
    return WebSocketSession(url, socket, timeout)


def _encoded(data: JSON) -> str:
    """`data` as JSON in ASCII: a lone half of a character, which a model may well write, is no valid UTF-8. Raises:
    ActionRejected when it cannot be written.
    """
    try:
        return json.dumps(data)
    except RecursionError:
        raise ActionRejected("The action is nested too deeply.", "UNSENDABLE") from None


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
