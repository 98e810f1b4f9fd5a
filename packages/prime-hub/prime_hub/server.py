"""Serving a Hub in the foreground: the port, the address file, signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import sys
from collections.abc import Generator
from urllib.parse import urlsplit

import uvicorn

from prime_hub import address, reach
from prime_hub.api.port_sockets import MAX_MESSAGE_BYTES
from prime_hub.app import create_app
from prime_hub.asked_to_end import EndingServer
from prime_hub.db.migrate import SchemaTooNew, migrate
from prime_hub.db.session import Database, answering
from prime_hub.hub import Hub, open_blobs
from prime_hub.operations.logs import configure
from prime_hub.services.keys import same_key, the_key
from prime_hub.settings import DEFAULT_PORT, Settings

GRACE_SECONDS = 5
PORTS_TO_TRY = 200


class ServeError(Exception):
    """The Hub cannot be served; the message is one sentence."""


class _PortTaken(ServeError):
    """This port cannot be had; another may."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then return. Raises ServeError when it cannot start."""
    configure(logging.StreamHandler(sys.stderr), settings.log_format)
    with exclusive(settings):
        asyncio.run(_prepare(settings))
        listener = _listen(settings)
        host, port = listener.getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = _Server(config, app.state.hub, url, reach.words(host, port, settings))
        try:
            server.run(sockets=[listener])
        except SystemExit as ended:
            if ended.code:
                raise ServeError("The Hub could not start; the lines above say why.") from None
        finally:
            listener.close()


async def _prepare(settings: Settings) -> None:
    """Database, storage and key before anything listens: what is wrong with them is said here, in one sentence."""
    database = Database(settings.database)
    try:
        with answering(database):
            await migrate(database.engine, settings.data_dir)
        await open_blobs(settings).check()
        if settings.database_url is not None:
            await same_key(database, the_key(settings))
    except SchemaTooNew as error:
        raise ServeError(str(error)) from error
    finally:
        await database.close()


class _Server(EndingServer):
    """uvicorn, and what has to happen when it is up and when it ends."""

    def __init__(self, config: uvicorn.Config, hub: Hub, url: str, reached: str) -> None:
        super().__init__(config)
        self._hub = hub
        self._url = url
        self._reached = reached

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        self._serve_metrics()
        self._hub.runner.on_change = self._write_address
        self._write_address()
        print(f"Hub {self._url} (data in {self._hub.settings.data_dir}); Ctrl-C stops it.", file=sys.stderr, flush=True)
        if self._reached:
            print(self._reached, file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._hub.closing.set()  # requests that are being held answer now
        await super().shutdown(sockets)
        await self._hub.metrics.close()
        address.clear(self._hub.settings.address_file, self._hub.runner.pid)

    def _serve_metrics(self) -> None:
        if self._hub.settings.metrics is None:
            return
        host, port = self._hub.settings.metrics
        try:
            port = self._hub.metrics.serve(self._hub, host, port)
        except OSError as error:
            # The Hub itself is of more use without them than not at all.
            logging.getLogger("prime_hub").error(
                "The metrics cannot listen on %s port %d: %s.", host, port, error.strerror
            )
            return
        print(f"Metrics http://{host}:{port}/metrics", file=sys.stderr, flush=True)

    def _write_address(self) -> None:
        address.write(self._hub.settings.address_file, self._url, self._hub.id, self._hub.runner.pid)


@contextlib.contextmanager
def exclusive(settings: Settings) -> Generator[None]:
    """Hold the data folder: two Hubs on one would start two runners and answer at one address."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(settings.data_dir / "hub.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ServeError(f"The data folder {settings.data_dir} cannot be used: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = address.read(settings.address_file)
            where = f" at {found['url']}" if found.get("url") else ""
            raise ServeError(
                f"A Hub is already running with the data folder {settings.data_dir}{where}; stop it with "
                "'prime hub stop', or name another --data-dir."
            ) from None
        yield
    finally:
        os.close(file)


def _listen(settings: Settings) -> socket.socket:
    if settings.port is not None:
        return _bind(settings.host, settings.port)
    remembered = urlsplit(str(address.read(settings.address_file).get("url") or "")).port
    for port in [*([remembered] if remembered else []), *range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TO_TRY)]:
        with contextlib.suppress(_PortTaken):
            return _bind(settings.host, port)
    raise ServeError(f"No free port for the Hub from {DEFAULT_PORT} on; name one with --port.")


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ServeError(
            f"'{host}' is not an address this machine can listen on: {error.strerror or error}."
        ) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise _PortTaken(
                f"Port {port} of {host} is in use; name another with --port, or --port 0 for any free one."
            ) from error
        kind = _PortTaken if error.errno == errno.EACCES else ServeError
        raise kind(f"The Hub cannot listen on {host} port {port}: {error.strerror}.") from error
    listener.set_inheritable(False)
    return listener
