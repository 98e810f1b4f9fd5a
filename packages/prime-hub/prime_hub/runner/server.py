"""The runner as a program: one a folder, a private unix socket, a file that says where it is, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

import uvicorn
from starlette.types import ASGIApp

from prime_hub.operations.logs import configure
from prime_hub.runner.app import create_app
from prime_hub.runner.builds import Builds
from prime_hub.runner.children import Children
from prime_hub.runner.presence import Presence
from prime_hub.runner.records import write_private
from prime_hub.runner.runtimes.base import RunnerError, Setup
from prime_hub.runner.runtimes.choice import open_runtime
from prime_hub.runner.supervisor import Sandboxes

log = logging.getLogger("prime_hub.runner")

# A unix socket's path is limited to 108 bytes on Linux and 104 on macOS.
SOCKET_PATH_BYTES = 100
SOCKET_NAME = "runner.sock"
SOCKET_DIR_PREFIX = "prime-runner-"
LOG_BYTES = 2 << 20
ALREADY_RUNNING = 3


@dataclass(frozen=True)
class Options:
    """What the runner is told; times in seconds. `runtime` None takes the best that this host can run."""

    folder: Path
    runtime: str | None = None
    idle_exit: float = 15.0
    build_seconds: float = 20 * 60.0
    runtime_options: Mapping[str, str] = field(default_factory=dict)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: this program ends in its own order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def lock(folder: Path) -> IO[str] | None:
    """Hold the folder until this process ends; None when another runner holds it."""
    file = (folder / "runner.lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def bind(folder: Path) -> tuple[socket.socket, Path]:
    """A listening socket that only this user can reach, in `folder` when its path is short enough."""
    path = folder / SOCKET_NAME
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        # The temporary folder may be deep too; the system's own never is.
        short = len(os.fsencode(tempfile.gettempdir())) + 40 <= SOCKET_PATH_BYTES
        path = Path(tempfile.mkdtemp(prefix=SOCKET_DIR_PREFIX, dir=None if short else "/tmp")) / SOCKET_NAME
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(512)
    return listener, path


def remove_socket(path: Path) -> None:
    """Remove a socket, and the temporary folder that was made for it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    if path.parent.name.startswith(SOCKET_DIR_PREFIX):
        shutil.rmtree(path.parent, ignore_errors=True)


def remove_old_socket(folder: Path) -> None:
    """Remove what a killed runner left; only a socket of this user in a folder that a runner made."""
    try:
        path = Path(json.loads((folder / "runner.json").read_text(encoding="utf-8"))["socket"])
        found = path.lstat()
    except (OSError, ValueError, KeyError, TypeError):
        return
    if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.getuid() and path.name == SOCKET_NAME:
        remove_socket(path)


async def serve(options: Options) -> None:
    """Run until the runner is told to stop or is no longer wanted. Raises RunnerError."""
    started = time.time()
    children = Children()
    children.start()
    runtime = await open_runtime(options.runtime, Setup(options.folder, children, options.runtime_options))

    presence = Presence(options.idle_exit, lambda: sandboxes.live_count() + builds.running_count())
    sandboxes = Sandboxes(options.folder / "sandboxes", runtime, presence.look_again)
    builds = Builds(options.folder / "builds", runtime, options.build_seconds, presence.look_again)
    await builds.open()
    await sandboxes.open()

    remove_old_socket(options.folder)
    listener, path = bind(options.folder)
    server = _Server(_config(create_app(runtime, sandboxes, builds, presence)))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, presence.stop)
    about = {"pid": os.getpid(), "started": started, "socket": str(path), "runner_id": presence.runner_id}
    try:
        write_private(options.folder / "runner.json", json.dumps({**about, "runtime": runtime.name}))
        log.info("runner %s listens at %s", os.getpid(), path)
        await presence.until_unwanted()
    finally:
        log.info("runner %s ends", os.getpid())
        # First out of sight, so that nobody asks a runner that is about to go.
        remove_socket(path)
        await builds.close()
        await sandboxes.close()
        await runtime.close()
        server.should_exit = True
        await serving
        (options.folder / "runner.json").unlink(missing_ok=True)
        children.stop()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        loop="asyncio",
        ws="none",
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=3,
    )


def run(options: Options) -> int:
    """Run the program; its exit code."""
    options.folder.mkdir(parents=True, exist_ok=True)
    options.folder.chmod(0o700)
    handler = RotatingFileHandler(options.folder / "runner.log", maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8")
    configure(handler, os.environ.get("PRIME_HUB_LOG_FORMAT") or "text", ("uvicorn",))
    held = lock(options.folder)
    if held is None:
        log.warning("another runner serves %s; this one ends", options.folder)
        return ALREADY_RUNNING
    try:
        asyncio.run(serve(options))
    except RunnerError as error:
        log.error("%s", error)
        return 1
    except Exception:
        log.exception("the runner failed")
        raise
    finally:
        held.close()
    return 0
