"""The bare things: a child process in the image's own environment, and the engine's own command."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time

from official.scratch import Failed

from boxes.hub import Place
from prime_core.uv import uv_command

HEALTHY_SECONDS = 60.0
POLL_SECONDS = 0.002


def until_healthy(host: str, port: int) -> None:
    """Ask for /health until it is 200. Raises Failed."""
    deadline = time.monotonic() + HEALTHY_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(POLL_SECONDS)
    raise Failed(f"No server was healthy at {host}:{port} within {HEALTHY_SECONDS:g} seconds.")


class Child:
    """The server as a child process, in the virtual environment of the built image."""

    name = "plain child process"

    def __init__(self, where: Place) -> None:
        images = where.folder / "hub" / "runner" / "images"
        image = images / where.digest.removeprefix("sha256:")
        self._python = image / "venv" / "bin" / "python"
        self._cwd = image / "root" / "app"
        self._context = where.context

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it is healthy."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [str(self._python), "-m", "uvicorn", "server:app", "--host", "127.0.0.1", "--port", str(port)]
        quiet = subprocess.DEVNULL
        server = subprocess.Popen(command, cwd=self._cwd, stdin=quiet, stdout=quiet, stderr=quiet)
        until_healthy("127.0.0.1", port)
        return server

    def end(self, server: subprocess.Popen[bytes]) -> None:
        """End it, as one would: asked, and waited for."""
        server.send_signal(signal.SIGTERM)
        server.wait()

    def execute(self, server: subprocess.Popen[bytes]) -> None:
        """A shell command beside it."""
        subprocess.run(["/bin/sh", "-c", "true"], check=True)

    def build(self, number: int) -> None:
        """The same packages into a new virtual environment, by uv, with bytecode, as an image has it."""
        target = self._context.parent / f"bare-{number}"
        uv = uv_command()
        _quiet([*uv, "venv", "--quiet", "--python", str(self._python.resolve()), str(target)])
        install = [*uv, "pip", "install", "--quiet", "--no-cache", "--compile-bytecode", "--python", str(target)]
        _quiet([*install, "-r", str(self._context / "requirements.txt")])
        shutil.rmtree(target)


class Engine:
    """The engine's own command: `docker run`, `docker exec`, `docker build`. Podman answers the same one."""

    def __init__(self, where: Place) -> None:
        self.name = f"bare docker run ({where.runtime})"
        self._image = where.digest
        self._context = where.context
        self._docker = ["docker", "--host", str(where.engine)]

    def start(self) -> str:
        """Run a container and wait until it is healthy; its id."""
        made = self._tell("run", "-d", "-p", "127.0.0.1::8000", self._image)
        about = json.loads(self._tell("inspect", made))[0]
        port = about["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"]
        until_healthy("127.0.0.1", int(port))
        return made

    def end(self, made: str) -> None:
        """Remove the container."""
        self._tell("rm", "-f", made)

    def execute(self, made: str) -> None:
        """`docker exec`."""
        self._tell("exec", made, "/bin/sh", "-c", "true")

    def build(self, number: int) -> None:
        """`docker build --no-cache`."""
        self._tell("build", "--no-cache", "--quiet", "-t", f"prime-bench-bare:{number}", str(self._context))
        self._tell("rmi", f"prime-bench-bare:{number}")

    def _tell(self, *words: str) -> str:
        return _quiet([*self._docker, *words])


def _quiet(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"'{' '.join(command[:6])} …' failed: {done.stderr[-1500:]}")
    return done.stdout.strip()
