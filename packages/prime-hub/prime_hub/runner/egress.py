"""The way out of sandboxes: one HTTP proxy in the runner, which asks each sandbox's policy for every connection.

It takes requests in absolute form (`GET http://host/path`) and `CONNECT host:port`. Who asks is told by the listener it
came in on, never by what it says. The proxy looks names up itself and connects to the very address that was checked.
What a sandbox sends and how slowly is its own affair: heads, connections, look-ups and quiet time are bounded, and
nothing is read that cannot be passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prime_hub.runner import egress_http as http
from prime_hub.runner.egress_policy import Address, Policy, own_addresses, plain_name
from prime_hub.runner.runtimes.values import Egress

CONNECTIONS = 128
REFUSED_AT_ONCE = 32
LOOK_UPS = 4
CONNECT_SECONDS = 20.0
HEAD_SECONDS = 60.0
IDLE_SECONDS = 900.0
PAUSE_SECONDS = 0.5
CHUNK_BYTES = 65536
# The accept of these failed for what this machine lacks, not for the listener.
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class EgressProxy:
    """The proxy of one runner. Call everything from the event loop's own thread."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}
        # A thread each: look-ups cannot be given up, and must not fill the pool that the runner itself works with.
        self._names = ThreadPoolExecutor(16, thread_name_prefix="egress-names")

    async def serve(self, sandbox_id: str, egress: Egress, listener: socket.socket) -> None:
        """Serve a sandbox on a listening socket (unix or TCP), which is the proxy's from now on; it may have several.
        Raises BadEntry.
        """
        own = await asyncio.to_thread(own_addresses)
        policy = Policy(egress, own)
        gate = self._gates.get(sandbox_id)
        if gate is None:
            gate = self._gates[sandbox_id] = _Gate(policy, self._names)
        gate.policy = policy
        gate.listen(listener)

    async def serve_unix(self, sandbox_id: str, egress: Egress, path: Path, *, mode: int = 0o600) -> None:
        """Serve a sandbox at a unix socket, made anew. Raises BadEntry, OSError."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(path))
            path.chmod(mode)
            listener.listen(128)
            await self.serve(sandbox_id, egress, listener)
        except BaseException:
            listener.close()
            raise

    async def serve_tcp(self, sandbox_id: str, egress: Egress, host: str, port: int = 0) -> int:
        """Serve a sandbox at an address of this host, which only it can reach; the port. Raises BadEntry, OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
            await self.serve(sandbox_id, egress, listener)
            return listener.getsockname()[1]
        except BaseException:
            listener.close()
            raise

    def set(self, sandbox_id: str, egress: Egress) -> None:
        """Change a sandbox's policy, for connections from now on. Raises BadEntry, KeyError for one not served."""
        gate = self._gates[sandbox_id]
        gate.policy = gate.policy.with_egress(egress)

    async def end(self, sandbox_id: str) -> None:
        """Close what a sandbox has: listeners and connections. Idempotent."""
        gate = self._gates.pop(sandbox_id, None)
        if gate is not None:
            await gate.close()

    async def close(self) -> None:
        """Close everything."""
        for sandbox_id in list(self._gates):
            await self.end(sandbox_id)
        self._names.shutdown(wait=False, cancel_futures=True)


class _Gate:
    """One sandbox's listeners and connections."""

    def __init__(self, policy: Policy, names: ThreadPoolExecutor) -> None:
        self.policy = policy
        self._names = names
        self._looking_up = asyncio.Semaphore(LOOK_UPS)
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._loop.remove_reader(listener)
            if error.errno in _SHORTAGE:
                self._loop.call_later(PAUSE_SECONDS, self._resume, listener)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._serve(connection, crowded=len(self._tasks) >= CONNECTIONS))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) >= CONNECTIONS + REFUSED_AT_ONCE:
            # Even those that are only told so have become too many.
            self._loop.remove_reader(listener)
            self._loop.call_later(PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    async def close(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, connection: socket.socket, *, crowded: bool) -> None:
        """One connection, one request: the reply says that the connection ends with it."""
        client = http.Stream(connection, IDLE_SECONDS)
        upstream: http.Stream | None = None
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                head = await client.read_head()
            if crowded:
                raise http.Refused(503, f"This sandbox has {CONNECTIONS} connections open already; close some of them.")
            request = http.Request.read(head)
            upstream = http.Stream(await self._connect(request.host, request.port), IDLE_SECONDS)
            if request.tunnel:
                await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await http.pump_both(client, upstream)
            else:
                await http.exchange(request, client, upstream)
        except http.Refused as refusal:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS * 4):
                    await client.send(refusal.reply())
                    await client.finish()
        except (OSError, TimeoutError, http.Broken):
            pass
        finally:
            client.close()
            if upstream is not None:
                upstream.close()

    async def _connect(self, host: str, port: int) -> socket.socket:
        """A connection to the first address that may and can be connected to. Raises Refused."""
        host = plain_name(host)
        addresses = await self._addresses(host, port)
        refusals = [self.policy.refuses(host, port, address) for address in addresses]
        allowed = [address for address, why in zip(addresses, refusals, strict=True) if why is None]
        if not allowed:
            raise http.Refused(403, next(why for why in refusals if why is not None))
        reason = "no answer"
        for address in allowed[:4]:
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            try:
                made = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                reason = error.strerror or str(error)
                continue
            made.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._loop.sock_connect(made, (str(address), port))
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return made
            except TimeoutError:
                made.close()
                reason = f"no answer within {CONNECT_SECONDS:g} seconds"
            except OSError as error:
                made.close()
                reason = error.strerror or str(error)
            except BaseException:
                made.close()
                raise
        raise http.Refused(502, f"{host}:{port} could not be connected to: {reason}.")

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Where a host lies. Raises Refused, also for names that this sandbox may not even ask for."""
        with contextlib.suppress(ValueError):
            return [ipaddress.ip_address(host)]
        if (why := self.policy.refuses_name(host, port)) is not None:
            raise http.Refused(403, why)

        def look_up() -> list[Address]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(ipaddress.ip_address(str(item[4][0]).split("%")[0]) for item in found))

        try:
            async with self._looking_up, asyncio.timeout(CONNECT_SECONDS):
                addresses = await self._loop.run_in_executor(self._names, look_up)
        except TimeoutError:
            raise http.Refused(504, f"The name {host} could not be looked up in time.") from None
        except (OSError, UnicodeError, ValueError):
            raise http.Refused(502, f"The name {host} is not known.") from None
        if not addresses:
            raise http.Refused(502, f"The name {host} has no address.")
        return addresses
