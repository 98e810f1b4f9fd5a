"""A built image, started once: does its server become healthy, where others reach it, and say what it should?

What P13 of the seeds' promises asks for; each failure is a sentence of its own with what to change.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from prime_core.errors import PrimeError
from verifiers.errors import SandboxError
from verifiers.openenv import probe
from verifiers.openenv.errors import ServerStartError, SessionLost
from verifiers.openenv.schema import contract_of, schema_problem
from verifiers.openenv.source import Address, RunningServer, ServerSource

EVERYWHERE = frozenset({"0.0.0.0", "::", "*", "[::]"})


class CheckFailed(PrimeError):
    """The server of an image is not as an OpenEnv server must be. `log` is what it printed, `kind` what is wrong: "start",
    "port", "interface" or "schema".
    """

    def __init__(self, message: str, hint: str | None = None, log: str = "", kind: str = "start") -> None:
        super().__init__(message, hint)
        self.log = log
        self.kind = kind


@dataclass(frozen=True)
class Checked:
    """A server that passed: seconds from the start of its process to healthy, its /schema and the contract that this
    is, what it printed. `mismatch` is a sentence when the project says another contract than the server."""

    seconds: float
    contract: str
    schema: dict[str, Any]
    log: str
    mismatch: str | None = None


async def check_server(
    source: ServerSource,
    *,
    contract: str | None,
    port: int,
    start_command: str = "",
    startup_timeout: float = 60.0,
    place: str = "the project",
) -> Checked:
    """Start a server of `source`, look at it and stop it again.

    `contract` is the one that the project shows and `place` where it was read, "server.py" or "openenv.yaml, line 7";
    None when it shows none. The running server has the last word.

    Raises: CheckFailed.
    """
    try:
        server = await source.start()
    except SandboxError as error:
        raise CheckFailed(f"The built image could not be started. {error}") from error
    try:
        async with probe.new_client(server.url) as client:
            seconds = await wait_healthy(server, client, port, start_command, startup_timeout)
            await check_reachable(server, port, start_command)
            schema = await read_schema(client, server)
        found = contract_of(schema["action"])
        mismatch = None if contract in (None, found) else _mismatch(found, contract, place)
        return Checked(seconds, found, schema, await _log(server), mismatch)
    except CheckFailed as failed:
        failed.log = failed.log or await _log(server)
        raise
    finally:
        await server.stop()
        await source.aclose()


async def wait_healthy(server: RunningServer, client: Any, port: int, command: str, timeout: float) -> float:
    """Wait until a started server is healthy; seconds from the start of its process. Raises: CheckFailed."""
    try:
        await probe.wait_until_healthy(server, client, timeout=timeout, poll_interval=0.25)
    except ServerStartError as error:
        sentence = str(error).partition(" Logs (tail):")[0].removesuffix(" The server printed nothing.")
        if await server.ended() is not None:
            raise CheckFailed(sentence, "Its log says why; correct the project and run vf-build again.") from error
        await check_reachable(server, port, command)
        problem = await probe.health_problem(client, server.url)
        if problem is not None and problem.startswith("HTTP "):
            raise CheckFailed(
                f"The server answers, but with {problem}: it never became healthy within {timeout:g} s.",
                'Give it a GET /health that answers 200 when it is ready, as in @app.get("/health").',
            ) from error
        raise CheckFailed(sentence, "A server that needs longer: vf-build --startup-timeout SECONDS.") from error
    return time.monotonic() - server.started


async def check_reachable(server: RunningServer, port: int, command: str) -> None:
    """Right port, every interface. Where the addresses cannot be told, the start command is read for them."""
    addresses = await server.listening()
    if not addresses:
        host = loopback_host(command)
        addresses = [] if host is None else [Address(host, port)]
    here = [address for address in addresses if address.port == port]
    if addresses and not here:
        others = ", ".join(sorted({str(address.port) for address in addresses}))
        raise CheckFailed(
            f"The server listens on port {others}, not on port {port}, where it is looked for.",
            "Make them the same: --port in the start command (CMD), EXPOSE in the Dockerfile, port in openenv.yaml.",
            kind="port",
        )
    if here and not any(_everywhere(address) for address in here):
        raise CheckFailed(
            f"The server binds to {here[0].host} only, so nothing outside its container can reach it.",
            "Bind it to every interface: --host 0.0.0.0 in the start command (CMD).",
            kind="interface",
        )


def loopback_host(command: str) -> str | None:
    """The loopback address that a start command binds a server to; None when it does not or cannot be told.

    uvicorn without --host binds to 127.0.0.1.
    """
    named = re.search(r"--host[= ]+(\S+)", command)
    if named is None:
        return "127.0.0.1" if re.search(r"\buvicorn\s", command) else None
    host = named[1].strip("'\"")
    return host if host == "localhost" or host.startswith("127.") or host == "::1" else None


def _everywhere(address: Address) -> bool:
    return address.host in EVERYWHERE or address.meant_everywhere


async def read_schema(client: Any, server: RunningServer) -> dict[str, Any]:
    """What GET /schema says, each part looked through. Raises: CheckFailed."""
    try:
        schema = await probe.fetch_schema(client, server.url)
    except SessionLost as error:
        raise CheckFailed(
            str(error),
            'GET /schema must answer {"action": {...}, "observation": {...}}, two JSON Schemas.',
            kind="schema",
        ) from error
    for name in ("action", "observation", "state"):
        problem = schema_problem(schema[name], name) if name in schema else None
        if problem is not None:
            raise CheckFailed(
                f"GET /schema holds no valid JSON Schema: {problem}", "Correct it in the server.", kind="schema"
            )
    return schema


def _mismatch(found: str, contract: str | None, place: str) -> str:
    looks = "has tool_name and arguments" if found == "mcp" else "has no tool_name and arguments"
    line = "that line" if ", line " in place else f"it, or write 'contract: {found}' into proj/openenv.yaml"
    return (
        f"OpenEnv contract mismatch: {place} reads as '{contract}', but the running server's action schema {looks}, which "
        f"is '{found}'. The running server counts: .build.json says '{found}'. Correct {line}."
    )


async def _log(server: RunningServer) -> str:
    try:
        return await server.logs() or ""
    except Exception:
        return ""
