"""Small image contexts that need no package index, and building them as a client does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import RunningHub
from tests.hub.pushing import make_archive, put

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"status": "ok", "greeting": os.environ.get("GREETING"), "pid": os.getpid()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print("server is starting", flush=True)
print("a warning", file=sys.stderr, flush=True)
ThreadingHTTPServer(("0.0.0.0", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
ENV GREETING=hello
COPY server.py .
EXPOSE 8000
CMD ["python", "server.py", "--port", "8000"]
"""

# A server that tells the address of its client; the image's own uvicorn runs it.
UVICORN_APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["client"][0].encode()})
"""
UVICORN_DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
RUN pip install uvicorn
COPY server.py .
EXPOSE 8000
CMD ["uvicorn", "server:app", "--host", "0.0.0.0", "--port", "8000"]
"""


BACKEND = """
import os, pathlib, time, zipfile
def build_wheel(folder, settings=None, metadata=None):
    while os.path.exists({gate!r}):
        time.sleep(0.02)
    info = "held-1.0.dist-info"
    with zipfile.ZipFile(pathlib.Path(folder, "held-1.0-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: held\\nVersion: 1.0\\n")
        wheel.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{{info}}/RECORD", "".join(f"{{info}}/{{name}},,\\n" for name in ("METADATA", "WHEEL", "RECORD")))
    return "held-1.0-py3-none-any.whl"
"""
PYPROJECT = """[project]
name = "held"
version = "1.0"

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def held_context(gate: Path) -> bytes:
    """A build context whose build lasts as long as the file `gate` is there, which is made here."""
    gate.touch()
    dockerfile = DOCKERFILE.replace("COPY server.py .", "COPY . .\nRUN pip install .")
    files = {"Dockerfile": dockerfile, "pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(gate=str(gate))}
    return context(**files)


def context(**files: str) -> bytes:
    """A build context: the server, its Dockerfile, and what is given in their place or beside them."""
    shown = {"Dockerfile": DOCKERFILE, "server.py": SERVER, **files}
    return make_archive({name: text.encode() for name, text in shown.items()})


def begin(client: httpx.Client, name: str = "tiny", tag: str = "latest", **more: Any) -> dict[str, Any]:
    """Ask for a build."""
    answer = client.post("/images/build", json={"image_name": name, "image_tag": tag, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait(client: httpx.Client, build_id: str, seconds: float = 90) -> dict[str, Any]:
    """The build once it is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = client.get(f"/images/build/{build_id}", params={"wait": 20}).json()
        if state["status"] in ("COMPLETED", "FAILED", "CANCELLED"):
            return state
    raise AssertionError(f"the build is not over: {state}")


def build(
    client: httpx.Client, name: str = "tiny", tag: str = "latest", files: dict[str, str] | None = None, **more: Any
):
    """A whole build; what it came to."""
    begun = begin(client, name, tag, **more)
    assert put(begun["upload_url"], context(**(files or {}))).status_code == 200
    started = client.post(f"/images/build/{begun['build_id']}/start", json={"context_uploaded": True})
    assert started.status_code == 200, started.text
    return wait(client, begun["build_id"])


def create(client: httpx.Client, image: str = "tiny:latest", **more: Any) -> dict[str, Any]:
    """A sandbox that has started."""
    answer = client.post("/sandbox", json={"name": "test", "docker_image": image, "timeout_minutes": 5, **more})
    assert answer.status_code == 200, answer.text
    return client.get(f"/sandbox/{answer.json()['id']}", params={"wait": 20}).json() | {
        "gatewayAuth": answer.json()["gatewayAuth"]
    }


def until(client: httpx.Client, sandbox_id: str, *statuses: str, seconds: float = 30) -> dict[str, Any]:
    """The sandbox once it has one of these statuses."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        row = client.get(f"/sandbox/{sandbox_id}").json()
        if row["status"] in statuses:
            return row
        time.sleep(0.05)
    raise AssertionError(f"still {row}")


def fetch(url: str, seconds: float = 20) -> dict[str, Any]:
    """GET as JSON, tried until the server inside has come up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return httpx.get(url, timeout=5, trust_env=False).json()
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Gateway:
    """The inside of one sandbox, by its own token."""

    def __init__(self, hub: RunningHub, auth: dict[str, Any], token: str | None = None) -> None:
        self._base = f"{auth['gateway_url']}/{auth['user_ns']}/{auth['job_id']}"
        self._client = hub.client(token or auth["token"])

    def post(self, operation: str, **options: Any) -> httpx.Response:
        return self._client.post(f"{self._base}/{operation}", **options)

    def get(self, operation: str, **params: Any) -> httpx.Response:
        return self._client.get(f"{self._base}/{operation}", params=params)

    def execute(self, command: str, **more: Any) -> httpx.Response:
        return self.post("exec", json={"command": command, "working_dir": None, "env": {}, "timeout": 20, **more})

    def upload(self, path: str, data: bytes) -> httpx.Response:
        return self.post("upload", params={"path": path, "sandbox_id": "x"}, files={"file": ("name", data)})
