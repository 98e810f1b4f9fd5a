"""What the official `prime` 0.18.0 makes of answers that go wrong (hub.md §7, row 21, and §6)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.official.command import Prime
from tests.official.rows import Rows

pytestmark = [pytest.mark.index]


@contextmanager
def answering(status: int, body: bytes, kind: str) -> Iterator[str]:
    """A server that answers everything so; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


INVALID = {"detail": [{"loc": ["query", "limit"], "msg": "Input should be greater than 0", "type": "greater_than"}]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (422, json.dumps(INVALID).encode(), "application/json", "limit: Input should be greater than 0"),
        (500, b'{"detail": "The Hub failed on this request."}', "application/json", "HTTP 500: The Hub failed"),
        (502, b"no gateway", "text/plain", "HTTP 502: no gateway"),
        (200, b"[]", "application/json", "API response was not a dictionary"),
    ],
    ids=["validation", "failure", "plain", "array"],
)
def test_row_21_answers_that_go_wrong(
    module_hub: RunningHub, home: Path, rows: Rows, status: int, body: bytes, kind: str, words: str
) -> None:
    with rows(21), answering(status, body, kind) as url:
        prime = Prime(module_hub, home, variables={"PRIME_API_BASE_URL": url})
        assert words in prime("env", "list", code=1)


def test_row_21_ours_are_of_that_shape(module_hub: RunningHub, home: Path, rows: Rows) -> None:
    prime = Prime(module_hub, home)
    with rows(21):
        assert "limit" in prime("env", "list", "-n", "100000", code=1)
        assert "HTTP 404: There is no environment" in prime("env", "info", "nobody/nothing", code=1)
