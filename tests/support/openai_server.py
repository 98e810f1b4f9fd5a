"""An OpenAI-compatible chat completions server of the tests' own, on the real wire.

`server.reply(text("hi"), error(429, "slow down"), text("there"))` answers one after another, the last one for all that
follow; `server.reply(lambda request: text("…"))` answers with a function of the request. `server.requests` holds every
request's body, with "path" and "headers".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What goes back: a status, headers and a body; `cut` closes the connection instead; `wait` holds it back first."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    wait: threading.Event | None = None


def completion(message: Mapping[str, Any], finish_reason: str = "stop", **fields: Any) -> Reply:
    """A chat completion with this message."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test-model",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
        **fields,
    }
    return Reply(body=json.dumps(answer).encode())


def text(content: str | None, finish_reason: str = "stop", **message: Any) -> Reply:
    """The model says something."""
    return completion({"content": content, **message}, finish_reason)


def tool_call(name: str, arguments: Any, id: str = "call_1") -> Reply:
    """The model calls a tool."""
    function = {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)}
    calls = [{"id": id, "type": "function", "function": function}]
    return completion({"content": None, "tool_calls": calls}, "tool_calls")


def error(status: int, message: str, headers: Mapping[str, str] | None = None, **fields: Any) -> Reply:
    """An error in the API's shape."""
    body = {"error": {"message": message, "type": "invalid_request_error", "code": None, **fields}}
    return Reply(status, json.dumps(body).encode(), headers or {})


def cut() -> Reply:
    """The connection is closed without an answer."""
    return Reply(cut=True)


Answer = Reply | Callable[[dict[str, Any]], Reply]


class OpenAIServer:
    """Serves on a free port of 127.0.0.1 from construction to `close`."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._replies: list[Answer] = [text("ok")]
        self._lock = threading.Lock()
        self.running = 0
        self.most_at_once = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.title(): value for name, value in self.headers.items()}
                outer.answer(self, {**body, "path": self.path, "headers": headers})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket.listen(256)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def quiet(self) -> None:
        """Say nothing of clients that are gone before they have their answer."""
        self._server.handle_error = lambda request, client_address: None

    @property
    def url(self) -> str:
        """The base URL, as `-b` takes it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reply(self, *replies: Answer) -> None:
        """Answer the coming requests with these, in order; the last one for all that follow."""
        with self._lock:
            self._replies = list(replies)

    def answer(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        with self._lock:
            self.requests.append(request)
            chosen = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
        try:
            reply = chosen(request) if callable(chosen) else chosen
            if reply.wait is not None:
                reply.wait.wait(30)
        finally:
            with self._lock:
                self.running -= 1
        if reply.cut:
            handler.close_connection = True
            return
        try:
            handler.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(reply.body)))
            handler.end_headers()
            handler.wfile.write(reply.body)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
