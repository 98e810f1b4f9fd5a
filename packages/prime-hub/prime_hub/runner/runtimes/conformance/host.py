"""A runner program under test, and a client of its socket."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60.0
SETTLE_SECONDS = 60.0
SECRET = "A_SECRET_OF_THE_RUNNER"

SERVER = """
import argparse, http.server, json, os, sys, threading, urllib.parse
parser = argparse.ArgumentParser()
parser.add_argument("--host", default="0.0.0.0")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--mark")
given = parser.parse_args()
eaten = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/exit":
            print("leaving", flush=True)
            os._exit(int(asked["code"]))
        if path == "/eat":
            block = bytearray(1 << 20)
            for at in range(0, len(block), 4096):
                block[at] = 1
            for _ in range(int(asked["mib"])):
                eaten.append(bytes(block))
        if path == "/print":
            print(asked["text"] * int(asked.get("times", 1)), flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"cwd": os.getcwd(), "pid": os.getpid(), "env": dict(os.environ)}).encode())
    def log_message(self, *words):
        pass
print("listening", flush=True)
http.server.ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
"""
DOCKERFILE = """FROM python:3.11-slim
WORKDIR /app
ENV OF_THE_IMAGE=yes
COPY server.py .
EXPOSE 8000
CMD ["python", "server.py", "--host", "0.0.0.0", "--port", "8000"]
"""


class Mismatch(AssertionError):
    """The runtime did something else than the contract says."""


def expect(good: object, sentence: str) -> None:
    """Raises Mismatch with the sentence unless `good`."""
    if not good:
        raise Mismatch(sentence)


@dataclass
class Ran:
    """What a command did, as its frames told it."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    error: str | None = None
    started: dict[str, Any] = field(default_factory=dict)


class Host:
    """One runner program with a folder of its own. `options` go to the program as they are."""

    def __init__(self, folder: Path, runtime: str, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.runtime = runtime
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None
        self._digest: str | None = None
        self.info: dict[str, Any] = {}

    @property
    def claims(self) -> set[str]:
        """What the runtime says of itself: `isolating`, and what it enforces."""
        return {*self.info.get("enforces", []), *(["isolating"] if self.info.get("isolating") else [])}

    # The program.

    def start(self) -> None:
        """Start the program and wait until it answers. Raises Mismatch with the end of its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "prime_hub.runner", "--dir", str(self.folder), "--runtime", self.runtime]
        command += ["--idle-exit", "600", *self._options]
        self._process = subprocess.Popen(
            command, env={**os.environ, SECRET: "do-not-tell"}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while self.about().get("pid") != self._process.pid:
            expect(self._process.poll() is None and time.monotonic() < deadline, f"no runner: {self.log()[-1500:]}")
            time.sleep(0.02)
        self._connect()
        self.info = self.call("GET", "/info")

    def about(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "runner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def log(self) -> str:
        """The runner's log."""
        with contextlib.suppress(OSError):
            return (self.folder / "runner.log").read_text(encoding="utf-8", errors="replace")
        return ""

    def _connect(self) -> None:
        if self._http is not None:
            self._http.close()
        transport = httpx.HTTPTransport(uds=self.about()["socket"])
        self._http = httpx.Client(transport=transport, base_url="http://runner", timeout=120)

    def kill(self) -> None:
        """Kill the program as nobody can foresee it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def restart(self) -> None:
        """Kill it, and start another one in its folder."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it in order."""
        if self._http is not None:
            self._http.close()
            self._http = None
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    # Calls.

    def send(self, method: str, path: str, **keywords: Any) -> httpx.Response:
        """One call, whatever it answers."""
        assert self._http is not None
        return self._http.request(method, path, **keywords)

    def call(self, method: str, path: str, body: Any = None, **keywords: Any) -> dict[str, Any]:
        """One call that has to succeed; its JSON."""
        answer = (
            self.send(method, path, json=body, **keywords) if body is not None else self.send(method, path, **keywords)
        )
        expect(answer.status_code < 300, f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def refused(self, status: int, method: str, path: str, body: Any = None, **keywords: Any) -> str:
        """One call that has to be refused with that status; its sentence."""
        keywords |= {"json": body} if body is not None else {}
        answer = self.send(method, path, **keywords)
        expect(
            answer.status_code == status,
            f"{method} {path} answered {answer.status_code}, not {status}: {answer.text[:300]}",
        )
        return str(answer.json()["detail"])

    # Images.

    def build(self, tree: Mapping[str, str], **more: Any) -> dict[str, Any]:
        """Build a context of text files and wait for its end: the build's state, with its `log`."""
        build_id = uuid.uuid4().hex
        context = self.folder / f"{build_id}.tar.gz"
        with tarfile.open(context, "w:gz") as archive:
            for name, text in tree.items():
                data = text.encode()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        self.call("POST", "/builds", {"id": build_id, "context": str(context), **more})
        state = {"status": "running"}
        while state["status"] == "running":
            state = self.call("GET", f"/builds/{build_id}", params={"wait": 50})
        context.unlink(missing_ok=True)
        return {**state, "log": self.call("GET", f"/builds/{build_id}/log")["text"]}

    @property
    def digest(self) -> str:
        """The suite's own image: a small HTTP server, built once."""
        if self._digest is None:
            state = self.build({"Dockerfile": DOCKERFILE, "server.py": SERVER})
            expect(state["status"] == "ready", f"the suite's image was not built: {state['error']}\n{state['log']}")
            self._digest = str(state["digest"])
        return self._digest

    # Sandboxes.

    def create(self, **spec: Any) -> str:
        """Ask for a sandbox of the suite's image; its id."""
        body = {"id": uuid.uuid4().hex, "digest": self.digest, "port": 8000, **spec}
        return str(self.call("POST", "/sandboxes", body)["id"])

    def started(self, **spec: Any) -> str:
        """A sandbox that runs; its id. Raises Mismatch when it does not get there."""
        box = self.create(**spec)
        state = self.state(box)
        expect(state["status"] == "running", f"the sandbox is {state['status']}: {state['error']}\n{self.logs(box)}")
        return box

    @contextlib.contextmanager
    def sandbox(self, **spec: Any) -> Generator[str]:
        """A sandbox that runs, deleted at the end of the block."""
        box = self.started(**spec)
        try:
            yield box
        finally:
            self.send("DELETE", f"/sandboxes/{box}")

    def state(self, box: str) -> dict[str, Any]:
        """Its state, once it is no longer starting."""
        found = self.call("GET", f"/sandboxes/{box}", params={"wait": 30})
        while found["status"] in ("queued", "starting"):
            found = self.call("GET", f"/sandboxes/{box}", params={"wait": 30})
        return found

    def logs(self, box: str, tail: int = 65536) -> str:
        """The end of what its server printed."""
        return str(self.call("GET", f"/sandboxes/{box}/logs", params={"tail": tail})["logs"])

    def part(self, box: str, offset: int, wait: float = 0) -> dict[str, Any]:
        """What its server printed from byte `offset` on: `text`, the `offset` to go on with, `complete`."""
        return self.call("GET", f"/sandboxes/{box}/logs", params={"offset": offset, "wait": wait})

    def follow(self, box: str, offset: int, wanted: str | None = None) -> tuple[str, int, bool]:
        """All that it prints from byte `offset` on until `wanted` is in it, or it has ended, in that form."""
        told, complete = "", False
        deadline = time.monotonic() + SETTLE_SECONDS
        while not complete and (wanted is None or wanted not in told):
            expect(time.monotonic() < deadline, f"the log does not go on after {told[-200:]!r}")
            found = self.part(box, offset, wait=20)
            told, offset, complete = told + found["text"], found["offset"], found["complete"]
        return told, offset, complete

    def until(self, what: str, look: Any, seconds: float = SETTLE_SECONDS) -> Any:
        """What `look()` gives as soon as it is true; Mismatch when it is not in time."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            expect(time.monotonic() < deadline, f"{what}: not within {seconds:g} seconds")
            time.sleep(0.05)
        return found

    def ended(self, box: str) -> dict[str, Any]:
        """Its state, once it has ended."""

        def look() -> dict[str, Any] | None:
            found = self.state(box)
            return None if found["status"] == "running" else found

        return self.until("the sandbox ends", look)

    def address(self, box: str, port: int = 8000) -> str:
        """Where a port of it is reached."""
        found = self.call("POST", f"/sandboxes/{box}/expose", {"port": port})
        return f"http://{found['host']}:{found['port']}"

    def get(self, box: str, path: str = "/", port: int = 8000) -> dict[str, Any]:
        """An answer of its server, waited for until it is up."""
        address = self.address(box, port)
        with httpx.Client(trust_env=False, timeout=30) as http:

            def look() -> httpx.Response | None:
                with contextlib.suppress(httpx.TransportError):
                    answer = http.get(address + path)
                    return answer if answer.status_code == 200 else None
                return None

            return self.until(f"the server answers at {address}{path}", look).json()

    def poke(self, box: str, path: str) -> None:
        """A request whose answer, if one comes, is of no interest."""
        address = self.address(box)
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(address + path, timeout=60, trust_env=False)

    def shell(self, box: str, line: str, **more: Any) -> dict[str, Any]:
        """A shell line to its end: {stdout, stderr, exit_code}."""
        return self.call("POST", f"/sandboxes/{box}/exec", {"command": line, **more})

    def python(self, box: str, code: str, **more: Any) -> dict[str, Any]:
        """Python code in the sandbox."""
        quoted = code.replace("'", "'\"'\"'")
        return self.shell(box, f"python -c '{quoted}'", **more)

    def run(self, box: str, *argv: str, stdin: bytes | None = None, **more: Any) -> Ran:
        """A command through the streaming route, with all of its input at once."""
        assert self._http is not None
        key = uuid.uuid4().hex
        body = {"argv": argv, "key": key, "stdin": stdin is not None, **more}
        ran = Ran()
        with self._http.stream("POST", f"/sandboxes/{box}/commands", json=body) as answer:
            if answer.status_code != 200:
                raise Mismatch(f"commands answered {answer.status_code}: {answer.read().decode()[:300]}")
            for kind, payload in frames(answer.iter_bytes()):
                if kind == "s":
                    ran.started = json.loads(payload)
                    if stdin is not None:
                        self.call("POST", f"/sandboxes/{box}/commands/{key}/stdin", params={"eof": 1}, content=stdin)
                elif kind == "o":
                    ran.stdout += payload
                elif kind == "e":
                    ran.stderr += payload
                elif kind == "x":
                    ended = json.loads(payload)
                    ran.exit_code, ran.error = ended.get("exit_code"), ended.get("error")
        return ran


def frames(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """The frames of a command's stream: a type, a length, a payload."""
    held = b""
    for chunk in chunks:
        held += chunk
        while len(held) >= 5:
            kind, size = struct.unpack(">cI", held[:5])
            if len(held) < 5 + size:
                break
            yield kind.decode(), held[5 : 5 + size]
            held = held[5 + size :]


def processes_with(mark: str) -> list[int]:
    """The processes of this host whose command line holds `mark`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if mark.encode() in (folder / "cmdline").read_bytes() and stat not in ("Z", "X"):
                    found.append(int(folder.name))
    return found
