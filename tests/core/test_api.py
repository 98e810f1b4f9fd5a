"""The API clients against a real server: what they send, what they make of answers, and when they try again."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prime_core import wire
from prime_core.api import APIClient, AsyncAPIClient
from prime_core.errors import (
    APIError,
    APITimeout,
    Conflict,
    Forbidden,
    NotFound,
    PayloadTooLarge,
    StorageFull,
    Unauthorized,
    Unreachable,
)
from tests.core.support import Answer, Seen, serve

CLIENTS = [APIClient, AsyncAPIClient]


class Both:
    """The same calls on either client."""

    def __init__(self, kind: type, *arguments: Any, **options: Any) -> None:
        self._make: Callable[[], Any] = lambda: kind(*arguments, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            client = self._make()
            if isinstance(client, APIClient):
                with client:
                    return getattr(client, name)(*arguments, **options)

            async def run() -> Any:
                async with client:
                    return await getattr(client, name)(*arguments, **options)

            return asyncio.run(run())

        return call


@pytest.fixture(params=CLIENTS, ids=["sync", "async"])
def client(request: pytest.FixtureRequest) -> Callable[..., Both]:
    return lambda *arguments, **options: Both(request.param, *arguments, **options)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_WAIT_SECONDS", 0.01)


def test_both_clients_have_the_same_calls():
    def calls(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(call).parameters) for name, call in found if not name.startswith("_")}

    assert calls(APIClient) == {name: value for name, value in calls(AsyncAPIClient).items() if name != "aclose"}


def test_a_request_carries_key_agent_and_json(client: Callable[..., Both]):
    with serve(lambda _: Answer(body='{"a": 1}')) as site:
        got = client(site.url + "/api/v1/", "key").post(
            "/things", {"b": [1]}, params={"tags": ["x", "y"], "n": None, "f": True}
        )
        assert got == {"a": 1}
    sent = site.seen[0]
    assert (sent.method, sent.path) == ("POST", "/api/v1/things?tags=x&tags=y&f=true")
    assert json.loads(sent.body) == {"b": [1]}
    assert sent.headers["authorization"] == "Bearer key"
    assert sent.headers["user-agent"].startswith("prime/")
    assert sent.headers["content-type"] == "application/json"


def test_an_at_sign_and_a_trailing_slash_arrive_as_written(client: Callable[..., Both]):
    with serve(lambda _: Answer()) as site:
        client(site.url).get("/environmentshub/alice/my-env/@latest")
        client(site.url).get("/environmentshub/")
    assert [sent.path for sent in site.seen] == [
        "/api/v1/environmentshub/alice/my-env/@latest",
        "/api/v1/environmentshub/",
    ]
    assert "authorization" not in site.seen[0].headers


def test_an_empty_answer_is_an_empty_object(client: Callable[..., Both]):
    with serve(lambda _: Answer(204, b"")) as site:
        assert client(site.url).delete("/things/1") == {}


@pytest.mark.parametrize("body", ["[1]", "<html>", '"text"'])
def test_an_answer_that_is_no_object(client: Callable[..., Both], body: str):
    with serve(lambda _: Answer(body=body)) as site, pytest.raises(APIError, match="did not answer with a JSON object"):
        client(site.url).get("/things")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (413, PayloadTooLarge),
        (507, StorageFull),
    ],
)
def test_a_status_is_an_error_with_the_hubs_sentence(client: Callable[..., Both], status: int, kind: type[APIError]):
    answer = Answer(status, '{"detail": "Version 0.1.0 already exists"}')
    with serve(lambda _: answer) as site, pytest.raises(kind) as caught:
        client(site.url).post("/things")
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.status) == ("Version 0.1.0 already exists", status)
    assert len(site.seen) == 1


def test_a_list_of_details_names_the_fields(client: Callable[..., Both]):
    detail = [{"loc": ["body", "image", "tag"], "msg": "Field required"}, {"msg": "wrong"}]
    with serve(lambda _: Answer(422, json.dumps({"detail": detail}))) as site, pytest.raises(APIError) as caught:
        client(site.url).post("/things")
    assert str(caught.value) == "HTTP 422: image.tag: Field required; wrong"
    assert caught.value.sentence == "image.tag: Field required; wrong"


@pytest.mark.parametrize(
    ("body", "sentence", "code"),
    [
        ('{"error": "not_supported", "detail": "No GPU here."}', "No GPU here.", "not_supported"),
        ("Bad gateway", "SITE/api/v1/things answered 502: Bad gateway", None),
        ('["odd"]', "SITE/api/v1/things answered 502 without saying why", None),
    ],
)
def test_a_person_reads_a_sentence_and_a_program_a_status(
    client: Callable[..., Both], body: str, sentence: str, code: str | None
):
    with serve(lambda _: Answer(502, body)) as site, pytest.raises(APIError) as caught:
        client(site.url).post("/things")
    said = sentence.replace("SITE", site.url)
    error = caught.value
    assert (error.sentence, str(error), error.status, error.code) == (said, f"HTTP 502: {said}", 502, code)


def test_an_error_page_is_not_shown(client: Callable[..., Both]):
    with serve(lambda _: Answer(500, "<html><h1>Oops</h1>")) as site, pytest.raises(APIError) as caught:
        client(site.url).post("/things?secret=1")
    assert str(caught.value) == f"HTTP 500: {site.url}/api/v1/things answered 500 without saying why"


@pytest.mark.parametrize(("method", "requests"), [("get", 3), ("post", 1), ("delete", 1)])
def test_only_get_is_sent_again_after_503(client: Callable[..., Both], method: str, requests: int):
    answer = Answer(503, '{"detail": "starting"}', {"Retry-After": "7"})
    with serve(lambda _: answer) as site, pytest.raises(APIError, match="HTTP 503: starting"):
        getattr(client(site.url), method)("/things")
    assert len(site.seen) == requests


def test_get_survives_a_hub_that_is_just_starting(client: Callable[..., Both]):
    answers = iter([Answer(503), Answer(502), Answer(body='{"ok": true}')])
    with serve(lambda _: next(answers)) as site:
        assert client(site.url).get("/things") == {"ok": True}


def test_a_hub_that_is_not_there(client: Callable[..., Both]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match=rf"Cannot reach {url}/api/v1/things") as caught:
            client(url).post("/things")
    assert "prime config view" in (caught.value.hint or "")


def test_an_address_that_is_not_http(client: Callable[..., Both]):
    with pytest.raises(Unreachable, match="not an http"):
        client("ftp://127.0.0.1").get("/things")


def test_an_answer_that_does_not_come(client: Callable[..., Both]):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(APITimeout, match=r"did not answer within 0\.2 seconds"):
            client(url).get("/things", timeout=0.2)


def test_no_proxy_is_asked_for_this_machine(client: Callable[..., Both], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serve(lambda _: Answer(body='{"ok": 1}')) as site:
        assert client(site.url).get("/things") == {"ok": 1}


@pytest.mark.parametrize("as_file", [True, False])
def test_an_upload_carries_no_key(client: Callable[..., Both], tmp_path: Path, as_file: bool):
    content = b"x" * 3_000_000
    (tmp_path / "blob").write_bytes(content)
    with serve(lambda _: Answer(200, b"")) as site:
        client(site.url, "key").upload(f"{site.url}/blob?signature=s", tmp_path / "blob" if as_file else content)
    sent = site.seen[0]
    assert (sent.method, sent.path, sent.body == content) == ("PUT", "/blob?signature=s", True)
    assert "authorization" not in sent.headers
    assert (sent.headers["content-type"], sent.headers["content-length"]) == ("application/octet-stream", "3000000")
    assert "transfer-encoding" not in sent.headers


def test_an_upload_follows_no_redirect_and_hides_the_signature(client: Callable[..., Both]):
    with serve(lambda _: Answer(307, b"", {"Location": "/other"})) as site, pytest.raises(APIError) as caught:
        client(site.url).upload(f"{site.url}/blob?signature=secret", b"x")
    assert len(site.seen) == 1
    assert "redirect (307)" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_full_store_is_said(client: Callable[..., Both]):
    answer = Answer(507, '{"detail": "The blob store is full."}')
    with serve(lambda _: answer) as site, pytest.raises(StorageFull, match=r"The blob store is full\."):
        client(site.url).upload(f"{site.url}/blob", b"x")


def test_a_download_is_checked_and_whole(client: Callable[..., Both], tmp_path: Path):
    content = b"wheel" * 500_000
    target = tmp_path / "deep" / "a.whl"
    with serve(lambda _: Answer(body=content)) as site:
        got = client(site.url, "key").download("/files/a.whl", target, sha256=hashlib.sha256(content).hexdigest())
    assert got == target
    assert target.read_bytes() == content
    assert site.seen[0].headers["authorization"] == "Bearer key"


def test_a_download_with_another_hash_is_thrown_away(client: Callable[..., Both], tmp_path: Path):
    target = tmp_path / "a.whl"
    target.write_bytes(b"before")
    with serve(lambda _: Answer(body=b"evil")) as site, pytest.raises(APIError, match="announced") as caught:
        client(site.url).download("/files/a.whl", target, sha256="0" * 64)
    assert "a.whl" in str(caught.value)
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.whl"]


def test_a_download_that_is_refused_leaves_nothing(client: Callable[..., Both], tmp_path: Path):
    with serve(lambda _: Answer(404, '{"detail": "gone"}')) as site, pytest.raises(NotFound, match="gone"):
        client(site.url).download("/files/a.whl", tmp_path / "a.whl")
    assert list(tmp_path.iterdir()) == []


def test_a_key_goes_to_its_own_hub_only(client: Callable[..., Both], tmp_path: Path):
    with serve(lambda _: Answer(body=b"x")) as other:

        def redirect(_: Seen) -> Answer:
            return Answer(302, b"", {"Location": f"{other.url}/elsewhere"})

        with serve(redirect) as site:
            client(site.url, "key").download("/files/a.whl", tmp_path / "a")
            client(site.url, "key").download(f"{other.url}/direct", tmp_path / "b")
    assert [sent.path for sent in other.seen] == ["/elsewhere", "/direct"]
    assert all("authorization" not in sent.headers for sent in other.seen)


def test_a_target_that_cannot_be_written(client: Callable[..., Both], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with serve(lambda _: Answer(body=b"x")) as site, pytest.raises(APIError, match="cannot be written"):
        client(site.url).download("/files/a.whl", tmp_path / "file" / "a.whl")
