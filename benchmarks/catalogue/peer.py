"""pypiserver in a virtual environment of its own, with a folder of small wheels."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Generator, Sequence
from pathlib import Path
from urllib.request import urlopen

from official.scratch import ROOT, Failed

from prime_core.uv import uv_command, uv_environment

REQUIREMENTS = ["pypiserver[passlib,cache]==2.4.1", "setuptools<81", "gevent>=25,<27"]
SECONDS = 300
START_SECONDS = 60.0


def _python() -> Path:
    folder = ROOT / ".cache" / "bench" / "pypiserver"
    python, stamp = folder / "bin" / "python", folder / ".made"
    if stamp.is_file() and stamp.read_text() == str(REQUIREMENTS) and python.exists():
        return python
    environment = uv_environment()
    environment.pop("VIRTUAL_ENV", None)
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    for command in (
        [*uv_command(), "venv", "--quiet", "--clear", "--python", base, str(folder)],
        [*uv_command(), "pip", "install", "--quiet", "--python", str(python), *REQUIREMENTS],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode != 0:
            raise Failed(f"pypiserver could not be installed: {done.stderr[-2000:]}")
    stamp.write_text(str(REQUIREMENTS))
    return python


@contextlib.contextmanager
def pypiserver(folder: Path, projects: Sequence[str]) -> Generator[str]:
    """Start it with one wheel of each project; its address. Raises Failed."""
    python = _python()
    wheels = folder / "wheels"
    wheels.mkdir()
    for name in projects:
        module = name.replace("-", "_")
        with zipfile.ZipFile(wheels / f"{module}-0.1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(
                f"{module}-0.1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n"
            )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "pypiserver.log"
    command = [str(python), "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "--server", "gevent"]
    with log.open("wb") as output:
        server = subprocess.Popen([*command, "--disable-fallback", str(wheels)], stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), urlopen(f"{url}/simple/{projects[0]}/", timeout=10):
                break
            if server.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"pypiserver did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(60)
