"""A container engine of this host: found, asked with time limits, its answers and its silence as typed errors.

Docker Engine API, which Podman speaks too. `aiodocker` holds the connection and makes the plain calls; what is streamed
(builds, archives, the two directions of a command) is asked for here, so that it is never held in memory as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
from yarl import URL

from prime_hub.runner.runtimes.base import RunnerError, RuntimeUnavailable

OLDEST_API = (1, 40)
NEWEST_API = (1, 45)
"""Between these the shapes of requests and answers are known here; a newer engine is asked in the older version."""
ASK_SECONDS = 60.0
CONNECT_SECONDS = 10.0
LINE_BYTES = 16 << 20
HEAD_BYTES = 65536
UNIX = "unix://"
HTTP = "http://engine"


class EngineError(RunnerError):
    """The engine refused; `status` is the HTTP status (0 where the refusal came in a stream)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineGone(RuntimeUnavailable):
    """The engine does not answer (any more)."""


class Engine:
    """One engine. `podman` tells which of the two it is; `info` is what it said of itself at `open`."""

    def __init__(self, address: str) -> None:
        if not address.startswith(UNIX):
            raise RuntimeUnavailable(
                f"The engine's address '{address}' is not a socket of this host, where its sandboxes would have to be "
                "reached; give 'unix:///…' as DOCKER_HOST, CONTAINER_HOST or the option engine=…."
            )
        self.address = address
        self.path = Path(address.removeprefix(UNIX))
        self.version: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.limits: dict[str, int] = {}
        """The engine's own hard limits, `nofile` and `nproc`, as far as this host tells."""
        self.podman = False
        self._docker: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None

    @property
    def name(self) -> str:
        """What it calls itself, for sentences."""
        return "Podman" if self.podman else "Docker"

    @property
    def docker(self) -> aiodocker.Docker:
        """The client. Raises EngineGone before `open` and after `close`."""
        if self._docker is None:
            raise EngineGone("The container engine was not opened.")
        return self._docker

    async def open(self) -> None:
        """Connect and learn what it is. Raises RuntimeUnavailable."""
        self._check_socket()
        # A connection for each call: a restart of the engine leaves none that only looks alive, and those that wait
        # for the end of a container do not use up a pool.
        self._connector = aiohttp.UnixConnector(str(self.path), limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS)
        self._docker = aiodocker.Docker(self.address, connector=self._connector, timeout=timeout, api_version="v1.40")
        try:
            self.version = await self.json("GET", "version", versioned=False, seconds=CONNECT_SECONDS)
            parts = [str(part.get("Name", "")) for part in self.version.get("Components") or []]
            self.podman = any("podman" in part.lower() for part in parts)
            self._docker.api_version = "v" + self._agreed()
            self.info = await self.json("GET", "info", seconds=ASK_SECONDS)
            self.limits = await asyncio.to_thread(_limits_behind, self.path)
        except BaseException:
            await self.close()
            raise

    def _check_socket(self) -> None:
        if not self.path.exists():
            raise EngineGone(
                f"No container engine listens at {self.path}; start one, or name its socket with engine=…."
            )
        if not os.access(self.path, os.R_OK | os.W_OK):
            raise RuntimeUnavailable(
                f"This user may not use the container engine at {self.path}; run the Hub as one who may (for Docker, a "
                "member of the group docker)."
            )

    def _agreed(self) -> str:
        offered = _numbers(self.version.get("ApiVersion"))
        least = _numbers(self.version.get("MinAPIVersion"))
        if offered < OLDEST_API or least > NEWEST_API:
            wanted = ".".join(map(str, OLDEST_API))
            raise RuntimeUnavailable(
                f"The engine at {self.path} speaks version {self.version.get('ApiVersion')} of the Docker API, and "
                f"{wanted} or a later 1.x is needed; install a newer engine."
            )
        return ".".join(map(str, max(least, min(offered, NEWEST_API))))

    @property
    def api(self) -> tuple[int, ...]:
        """The version of the API that is spoken."""
        return _numbers(self.docker.api_version.removeprefix("v"))

    async def close(self) -> None:
        """Let the connection go. Idempotent."""
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = ASK_SECONDS,
        versioned: bool = True,
    ) -> Any:
        """Ask for JSON; None for an empty answer. Raises EngineError, EngineGone."""
        async with self.stream(
            method, path, params=params, body=body, headers=headers, seconds=seconds, versioned=versioned
        ) as reply:
            content = await reply.read()
        return json.loads(content) if content.strip() else None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content: AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = ASK_SECONDS,
        versioned: bool = True,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Ask, and read the answer as it comes; `seconds` is for all of it. Raises EngineError, EngineGone."""
        docker = self.docker
        head = dict(headers or {})
        data: Any = content
        if body is not None:
            data, head["Content-Type"] = json.dumps(body), "application/json"
        elif content is not None:
            head.setdefault("Content-Type", "application/x-tar")
        prefix = f"{HTTP}/{docker.api_version}" if versioned else HTTP
        url = URL(f"{prefix}/{path}", encoded=True).with_query(params or {})
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with docker.session.request(method, url, data=data, headers=head, timeout=timeout) as reply:
                if reply.status >= 400:
                    raise EngineError(reply.status, _message(await reply.read(), reply.headers))
                yield reply
        except TimeoutError:
            raise EngineGone(
                f"The {self.name} engine did not answer within {seconds or CONNECT_SECONDS:g} s."
            ) from None
        except aiohttp.ClientError as error:
            raise EngineGone(
                f"The {self.name} engine at {self.path} does not answer ({_reason(error)}); see whether it runs."
            ) from None

    async def lines(self, reply: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
        """The JSON objects of a streamed answer, one a line. Raises EngineError for one that is too long."""
        held = b""
        async for chunk in reply.content.iter_any():
            held += chunk
            *whole, held = held.split(b"\n")
            if len(held) > LINE_BYTES:
                raise EngineError(0, "The engine's answer has a line that is too long to be read.")
            for line in whole:
                if line.strip():
                    yield json.loads(line)
        if held.strip():
            yield json.loads(held)

    async def hijack(self, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A POST whose connection becomes the two directions of a command. Raises EngineError, EngineGone."""
        payload = json.dumps(body).encode()
        head = (
            f"POST /{self.docker.api_version}/{path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(self.path), limit=HEAD_BYTES)
                try:
                    writer.write(head.encode() + payload)
                    await self._head(reader)
                except BaseException:
                    writer.close()
                    raise
        except TimeoutError:
            raise EngineGone(f"The {self.name} engine did not answer within {ASK_SECONDS:g} s.") from None
        except (OSError, EOFError) as error:
            raise EngineGone(f"The {self.name} engine at {self.path} does not answer ({_reason(error)}).") from None
        return reader, writer

    async def _head(self, reader: asyncio.StreamReader) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise EngineError(0, "The engine's answer begins with too long a head.") from None
        status = int(head.split(b" ", 2)[1])
        if status in (101, 200):
            return
        fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:] if ": " in line)
        length = int(next((value for name, value in fields.items() if name.lower() == "content-length"), "4096"))
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                content = await reader.readexactly(min(length, HEAD_BYTES))
                raise EngineError(status, _message(content, fields))
        raise EngineError(status, f"The engine answered {status}.")


def find(options: Mapping[str, str], variables: tuple[str, ...], usual: tuple[str, ...]) -> str:
    """The address of an engine: the option `engine`, one of these environment variables, else the first of the usual
    sockets that is there (the first of all when none is).
    """
    if options.get("engine"):
        return options["engine"]
    for name in variables:
        if os.environ.get(name):
            return os.environ[name]
    return UNIX + next((path for path in usual if Path(path).exists()), usual[0])


def _limits_behind(path: Path) -> dict[str, int]:
    """The hard limits of the process that listens on a socket; empty where it is not known."""
    names = {"Max open files": "nofile", "Max processes": "nproc"}
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_SECONDS)
            probe.connect(str(path))
            pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        # A socket of systemd's says nothing about the engine that it starts.
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines() if pid > 1 else []
    except OSError:
        return {}
    found = {name: line.split()[-2] for line in lines for text, name in names.items() if line.startswith(text)}
    return {name: int(value) for name, value in found.items() if value.isdigit()}


def _numbers(version: Any) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in str(version).split(".")[:2])
    except ValueError:
        return (0, 0)


def _message(content: bytes, headers: Mapping[str, str]) -> str:
    text = content.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(text)["message"]).strip()
    return text[:2000] or "the engine gave no reason"


def _reason(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or error
    return getattr(cause, "strerror", None) or str(cause) or type(error).__name__
