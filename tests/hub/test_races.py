"""Two hundred pushes of one version at once: one is published, whole; the others are told so, and leave nothing."""

from __future__ import annotations

import asyncio
import hashlib
import time

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import Push, make_wheel
from tests.support import stores

PUSHES = 200
AT_ONCE = 48
SENTENCE = "Version 0.1.0 already exists"


class Racer(Push):
    """One of many pushes of a version: its own bytes in both files."""

    def __init__(self, client: httpx.Client, name: str, number: int) -> None:
        text = f"NUMBER = {number}\n"
        super().__init__(client, name, wheel=make_wheel(name, "0.1.0", text), files={"number.py": text.encode()})

    async def send(self, http: httpx.AsyncClient, before_last: asyncio.Barrier | None) -> httpx.Response:
        """All steps, until one is refused; the last answer. At `before_last` it waits for all others."""
        answer = await http.post("/environmentshub/resolve", json={"name": self.name})
        base = f"/environmentshub/{answer.json()['data']['id']}"
        for kind, data, filename in (
            ("wheels", self.wheel, self.wheel_filename),
            ("versions", self.archive, f"{self.name}-0.1.0-{self.content_hash[:8]}.tar.gz"),
        ):
            answer = await http.post(f"{base}/{kind}", json=self._said(data, filename))
            if not answer.is_success:
                return answer
            slot = answer.json()["data"]
            upload = http.build_request("PUT", slot["upload_url"], content=data)
            del upload.headers["Authorization"]  # the address is the permission
            sent = await http.send(upload)
            assert sent.is_success, sent.text
            if kind == "versions" and before_last is not None:
                await before_last.wait()
            answer = await http.post(f"{base}/{kind}/{slot.get('wheel_id') or slot['version_id']}/finalize")
            if not answer.is_success:
                return answer
        return answer

    def _said(self, data: bytes, filename: str) -> dict[str, object]:
        return {
            "content_hash": self.content_hash,
            "filename": filename,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "semantic_version": self.version,
            "metadata": self.metadata,
        }


async def _race(hub: RunningHub, racers: list[Racer], barrier: bool) -> tuple[list[httpx.Response], int]:
    """Their last answers, and how often the Hub has answered a health check meanwhile. `AT_ONCE` requests are on their way."""
    before_last = asyncio.Barrier(len(racers)) if barrier else None
    turns = asyncio.Semaphore(AT_ONCE)

    class Transport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            async with turns:
                return await super().handle_async_request(request)

    # A connection that has waited for the others may be one that the Hub is about to close.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=1)
    headers = {"Authorization": f"Bearer {hub.token}"}
    options = {"base_url": f"{hub.url}/api/v1", "trust_env": False}
    async with (
        httpx.AsyncClient(headers=headers, transport=Transport(limits=limits), timeout=300, **options) as http,
        httpx.AsyncClient(timeout=300, **options) as other,
    ):
        everybody = asyncio.gather(*(racer.send(http, before_last) for racer in racers))
        healthy = 0
        while not everybody.done():
            healthy += (await other.get("/health")).status_code == 200
            await asyncio.sleep(0.1)
        return list(await everybody), healthy


def blobs(hub: RunningHub) -> set[str]:
    """The names of all stored files; some may go while this looks."""
    return stores.names(hub.data_dir)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("together", [True, False], ids=["at the last step", "all along"])
def test_of_two_hundred_pushes_one_is_published(hub: RunningHub, together: bool) -> None:
    racers = [Racer(hub.api, "raced", number) for number in range(PUSHES)]
    answers, healthy = asyncio.run(_race(hub, racers, together))
    won = [racer for racer, answer in zip(racers, answers, strict=True) if answer.status_code == 200]
    lost = [answer for answer in answers if answer.status_code != 200]
    assert len(won) == 1 and healthy > 0
    assert {answer.status_code for answer in lost} == {409}
    hashed = f"{SENTENCE} (content hash {won[0].content_hash[:12]}…)"
    assert {answer.json()["detail"] for answer in lost} == {hashed}
    if together:
        assert len(blobs(hub)) == 2 * PUSHES, "all had sent everything before one was published"
    _is_published(hub, won[0])
    _is_cleaned(hub, won[0])


def _is_published(hub: RunningHub, won: Racer) -> None:
    """What is pulled and installed is the winner's, in every place that says so."""
    wheel = hashlib.sha256(won.wheel).hexdigest()
    detail = hub.api.get(f"/environmentshub/{hub.owner}/raced/@latest").json()["data"]
    assert (detail["content_hash"], detail["wheel_sha256"]) == (won.content_hash, wheel)
    assert hub.api.get(detail["package_url"], follow_redirects=True).content == won.archive
    assert hub.api.get(detail["wheel_url"], follow_redirects=True).content == won.wheel
    rows = hub.api.get(f"/environmentshub/{hub.owner}/raced/versions").json()["data"]["versions"]
    assert [(row["version"], row["sha256"]) for row in rows] == [("0.1.0", won.content_hash)]
    page = hub.api.get(
        f"{hub.url}/{hub.owner}/simple/raced/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    assert [file["hashes"]["sha256"] for file in page.json()["files"]] == [wheel]
    assert hub.sql("SELECT count(*) FROM versions WHERE finalized_at IS NOT NULL") == [(1,)]


def _is_cleaned(hub: RunningHub, won: Racer) -> None:
    """A day later the Hub's cleaning leaves nothing of the others."""
    expected = {hashlib.sha256(data).hexdigest() for data in (won.wheel, won.archive)}
    hub.stop()
    for table in ("wheels", "versions"):
        hub.sql(f"UPDATE {table} SET created_at = '2020-01-01 00:00:00.000000'")
    if not stores.age(hub.data_dir, 3):
        return  # a bucket's clock cannot be turned back
    hub.start()
    deadline = time.monotonic() + 60
    while blobs(hub) != expected:
        assert time.monotonic() < deadline, blobs(hub) - expected
        time.sleep(0.05)
    for table in ("wheels", "versions", "core_metadata"):
        assert hub.sql(f"SELECT count(*) FROM {table}") == [(1,)], table
    _is_published(hub, won)
