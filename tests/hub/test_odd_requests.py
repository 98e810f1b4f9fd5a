"""Requests that made the Hub fail once, or that failed on one of its databases: each has a sentence for an answer."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from prime_hub.api.asked import Asked
from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.images import Gateway, build, create
from tests.hub.pushing import push

HUB = "/api/v1/environmentshub"
HALF = b'{"name": "\\ud800"}'
NUL = "A NUL character cannot be in"
DEEP = json.loads("[" * 300 + "]" * 300)


@pytest.fixture(scope="module")
def ready(module_hub: RunningHub) -> RunningHub:
    """A Hub with the image `tiny:latest` and an environment."""
    assert build(module_hub.api)["status"] == "COMPLETED"
    push(module_hub.api, "odd-env")
    return module_hub


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", f"{HUB}/resolve", HALF, 422, "The field 'name' of the request holds half a character"),
        ("POST", "/api/v1/teams", HALF, 422, "holds half a character"),
        ("POST", f"{HUB}/resolve", b'{"\\ud800": 1}', 422, "holds half a character"),
        ("POST", "/api/v1/sandbox/status:batchGet", b'{"sandbox_ids": ["\\ud800"]}', 422, "holds half a character"),
        ("POST", "/api/v1/sandbox", b'{"environment_vars": {"\\ud800": 1}}', 422, "holds half a character"),
        ("POST", "/api/v1/tokens", b'{"name": "a\\u0000b"}', 422, NUL),
        ("PUT", f"{HUB}/OWNER/odd-env/@0.1.0/yank", b'{"reason": "\\u0000"}', 422, NUL),
        ("POST", f"{HUB}/ID/versions", {"metadata": {"x": DEEP}}, 422, "nested more than 100 levels deep"),
        ("POST", "/api/v1/sandbox", {"volumes": DEEP}, 422, "nested more than 100 levels deep"),
        ("POST", "/api/v1/teams", b"[" * 100_000, 400, "is not JSON that this Hub can read"),
        ("POST", "/api/v1/teams", b'{"slug": ' + b"9" * 5000 + b"}", 400, "is not JSON that this Hub can read"),
        ("POST", "/api/v1/teams", b"{", 422, "JSON decode error"),
        ("GET", f"{HUB}/OWNER/odd-env/@{'9' * 5000}", None, 404, "There is no version"),
        ("PUT", f"{HUB}/OWNER/odd-env/@{'9' * 5000}/yank", None, 404, "There is no version"),
        ("POST", f"{HUB}/check", {"name": "x", "semantic_version": "1" * 62 + "-1"}, 422, "is not a version"),
        ("POST", "/api/v1/images/build", {"image_name": "x", "dockerfile_path": "d" * 2000}, 422, "dockerfile_path"),
        ("GET", "/api/v1/teams/a%00b", None, 422, NUL),
        ("GET", f"{HUB}/?owner=%00", None, 422, NUL),
        ("DELETE", f"{HUB}/OWNER/odd%00env", None, 422, NUL),
        ("GET", "/api/v1/sandbox/a%00b", None, 422, NUL),
        ("GET", "/dashboard/sign-in?next=//[", None, 200, "Sign in"),
        ("DELETE", "/api/v1/images/a%0Ab/v1", None, 422, "'a b' cannot be an image name"),
        ("GET", "/api/v1/no%01such", None, 404, r"There is nothing at /api/v1/no\\x01such on this Hub."),
    ],
)
def test_what_is_odd_has_an_answer(
    ready: RunningHub, method: str, path: str, body: Any, status: int, words: str
) -> None:
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    url = f"{ready.url}{path.replace('OWNER', ready.owner).replace('ID', '0' * 24)}"
    answer = ready.api.request(method, url, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status and words in answer.text, answer.text[:500]


def test_every_body_is_looked_through(tmp_path: Path) -> None:
    """A new operation whose body is not `Asked` would fail on half a character again."""
    routers = [one.original_router for one in create_app(Settings(tmp_path)).routes if hasattr(one, "original_router")]
    bodies = 0
    for route in (route for router in routers for route in router.routes):
        field = getattr(route, "body_field", None)
        if field is not None:
            models = get_args(field.field_info.annotation) or (field.field_info.annotation,)
            bodies += 1
            assert any(isinstance(kind, type) and issubclass(kind, Asked) for kind in models), (route.path, models)
    assert bodies > 30


def test_inside_a_sandbox(ready: RunningHub) -> None:
    box = create(ready.api)
    inside = Gateway(ready, box["gatewayAuth"])
    for content, words in {
        b"[" * 100_000: "The body is not JSON.",
        json.dumps({"argv": ["true"], "env": DEEP}).encode(): "nested more than 100 levels deep",
        b'{"argv": ["\\ud800"]}': "holds half a character",
    }.items():
        answer = inside.post("commands", content=content)
        assert answer.status_code in (400, 422) and words in answer.json()["detail"], answer.text
    answer = inside.post("exec", content=b'{"command": "\\ud800"}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and "holds half a character" in answer.json()["detail"]
    ready.api.delete(f"/sandbox/{box['id']}")


def test_a_password_that_is_no_base64(ready: RunningHub) -> None:
    answer = ready.client().get(f"{ready.url}/{ready.owner}/simple/", headers={b"Authorization": b"Basic \xc3\xa9"})
    assert answer.status_code == 200 and "odd-env" in answer.text, "as nobody in particular"


def test_an_address_with_raw_bytes(ready: RunningHub) -> None:
    """As no client that we know sends it."""
    place = urlsplit(ready.url)
    for target in (b"/api/v1/tokens?x=\xff", b"/?q=\xe9", b"/dashboard/tokens?done=\xff", b"/api/v1/\xff"):
        with socket.create_connection((str(place.hostname), place.port or 80), timeout=60) as connection:
            # In one piece: a Hub that refuses the first line hangs up, whatever is still on its way.
            head = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            connection.sendall(head + f"Authorization: Bearer {ready.token}\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 4"), answer[:500]


def test_a_build_whose_failure_cannot_be_written_down(ready: RunningHub) -> None:
    dockerfile = "FROM python:3.11-slim\nCOPY a\0b /app/\nCMD true\n"
    built = build(ready.api, "odd-image", files={"Dockerfile": dockerfile})
    assert built["status"] == "FAILED" and built["errorMessage"] and "\0" not in built["errorMessage"], built
