"""A Hub whose blobs are in a bucket: what clients may do there, for how long, and what is kept of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit

import httpx
import pytest

from prime_hub.hub import Hub
from prime_hub.services import cleaning
from prime_hub.settings import Settings
from tests.conftest import HubFactory, RunningHub
from tests.hub.images import begin, context
from tests.hub.pushing import Push, make_wheel, push, put
from tests.hub.test_backups import program
from tests.support import databases, stores

pytestmark = pytest.mark.usefixtures("servers")


class BrokenWay:
    """A way to the bucket's service that can be closed and opened."""

    def __init__(self, to: SplitResult) -> None:
        self._to = (to.hostname or "", to.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._works = True
        self._pairs: list[socket.socket] = []

    @property
    def works(self) -> bool:
        return self._works

    @works.setter
    def works(self, value: bool) -> None:
        self._works = value
        while not value and self._pairs:
            with contextlib.suppress(OSError):
                self._pairs.pop().shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.works = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._works:
                    client.close()
                    continue
                server = socket.create_connection(self._to)
                self._pairs += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError), one, other:
            while data := one.recv(65536):
                other.sendall(data)


def test_bytes_go_straight_to_the_bucket(hub: RunningHub) -> None:
    one = push(hub.api, "direct")
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    assert str(one.wheel_url).startswith(endpoint) and one.version_url.startswith(endpoint)
    assert "PUT /api/v1/uploads" not in hub.log, "nothing went through the Hub"
    assert stores.names(hub.data_dir) == {hashlib.sha256(data).hexdigest() for data in (one.wheel, one.archive)}
    assert begin(hub.api)["upload_url"].startswith(endpoint)


def test_what_is_too_large_or_another_is_refused_and_removed(start_hub: HubFactory) -> None:
    hub = start_hub()
    one = Push(hub.api, "wrong")
    one.run(until=2)
    assert one.wheel_url is not None
    for data, status, words in (
        (one.wheel + b"more", 413, "The wheel is larger than"),
        (bytes(len(one.wheel)), 422, "The wheel that arrived is not the one announced"),
        (one.wheel[:-1], 422, "The wheel that arrived is not the one announced"),
    ):
        assert put(one.wheel_url, data).status_code == 200
        refused = one.finalize_wheel()
        assert refused is not None and refused.status_code == status and words in refused.json()["detail"]
        assert stores.keys(hub.data_dir) == set(), "nothing that is refused is kept"
    missing = one.finalize_wheel()
    assert missing is not None and missing.status_code == 400 and "has not been uploaded" in missing.json()["detail"]
    unfit = Push(hub.api, "unfit", wheel=make_wheel("other", "9.9.9"))
    unfit.run(until=3)
    told = unfit.finalize_wheel()
    assert told is not None and told.status_code == 422 and stores.keys(hub.data_dir) == set()
    assert one.run().status_code == 200, "and the push can be repeated"


def test_a_push_that_was_cut_off_can_be_repeated(hub: RunningHub) -> None:
    one = Push(hub.api, "cut")
    one.run(until=2)
    where = urlsplit(str(one.wheel_url))
    with httpx.Client(trust_env=False) as client:

        def broken() -> object:
            yield one.wheel[:100]
            raise httpx.WriteError("the client is killed here")

        with pytest.raises(httpx.TransportError):
            client.put(
                str(one.wheel_url),
                content=broken(),
                headers={"Content-Length": str(len(one.wheel)), "Host": where.netloc},
            )
    assert stores.keys(hub.data_dir) == set(), "half an object is none"
    assert hub.client().get(f"/environmentshub/{hub.owner}/cut/@latest").status_code == 404
    again = Push(hub.api, "cut")
    assert again.run().status_code == 200


def test_a_download_is_an_address_for_a_short_while(hub: RunningHub) -> None:
    one = push(hub.api, "secretive", visibility="PRIVATE")
    detail = hub.api.get(f"/environmentshub/{hub.owner}/secretive/@latest").json()["data"]
    assert hub.client().get(detail["package_url"]).status_code == 404, "an address is signed for who may see it"
    answer = hub.api.get(detail["package_url"])
    assert answer.status_code == 307 and answer.headers["cache-control"] == "no-store"
    signed = answer.headers["location"]
    assert parse_qs(urlsplit(signed).query)["X-Amz-Expires"] == ["60"]
    assert httpx.get(signed, trust_env=False).content == one.archive
    assert httpx.get(signed.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), trust_env=False).status_code == 403
    assert httpx.put(signed, content=b"mine", trust_env=False).status_code == 403
    head = hub.api.head(detail["package_url"])
    assert head.status_code == 200 and int(head.headers["content-length"]) == len(one.archive)
    assert (
        "Signature" not in hub.log and hub.token not in hub.log and os.environ["AWS_SECRET_ACCESS_KEY"] not in hub.log
    )
    used = hub.api.get(f"/environmentshub/{hub.owner}/secretive/usage")
    assert used.is_success


def test_without_presigned_urls_all_goes_through_the_hub(start_hub: HubFactory) -> None:
    hub = start_hub("--presigned-urls", "off")
    one = push(hub.api, "through", files={"noise.bin": os.urandom(300_000)})
    assert str(one.wheel_url).startswith(hub.url)
    detail = hub.api.get(f"/environmentshub/{hub.owner}/through/@latest").json()["data"]
    url, whole = detail["package_url"], one.archive
    assert hub.api.get(url).content == whole
    for asked, status, part in (
        ("bytes=10-19", 206, whole[10:20]),
        ("bytes=-7", 206, whole[-7:]),
        (f"bytes={len(whole) - 3}-", 206, whole[-3:]),
        (f"bytes=5-{len(whole) * 2}", 206, whole[5:]),
        (f"bytes={len(whole)}-", 416, b""),
        ("bytes=9-3", 200, whole),
        ("lines=1-2", 200, whole),
    ):
        got = hub.api.get(url, headers={"Range": asked})
        assert (got.status_code, got.content) == (status, part), asked
        if status == 206:
            assert got.headers["content-range"].endswith(f"/{len(whole)}")
    stale = hub.api.get(url, headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert (stale.status_code, stale.content) == (200, whole)
    large = Push(hub.api, "large", wheel=make_wheel("large", "0.1.0"))
    large.run(until=2)
    assert put(str(large.wheel_url), large.wheel + b"more").status_code == 413
    begun = begin(hub.api)
    assert begun["upload_url"].startswith(hub.url) and put(begun["upload_url"], context()).status_code == 200


async def test_what_nobody_finished_is_cleared(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = push(hub.api, "kept")
    left = Push(hub.api, "left", files={"more.py": b"x = 2\n"})
    left.wheel = make_wheel("left", "0.1.0", "x = 2\n")
    left.run(until=3)  # sent, and never finished
    assert len(stores.keys(hub.data_dir)) == 3
    monkeypatch.setattr(cleaning, "GIVEN_UP_AFTER", timedelta(seconds=-60))  # its clock cannot be turned back
    other = Hub(
        Settings(
            tmp_path / "cleaner",
            database_url=databases.url(hub.data_dir),
            blobs_url=stores.address(hub.data_dir),
            secret_key=(hub.data_dir / "secret.key").read_text(),
        )
    )
    try:
        await other.open()
        await other.cleaning.once()
    finally:
        await other.close()
    found = await asyncio.to_thread(stores.names, hub.data_dir)
    assert found == {hashlib.sha256(data).hexdigest() for data in (kept.wheel, kept.archive)}


def test_a_bucket_that_cannot_be_used_is_told_at_the_start(hub: RunningHub, tmp_path: Path) -> None:
    base = {**hub.variables, "PRIME_HUB_SECRET_KEY": (hub.data_dir / "secret.key").read_text()}
    for variables, words in (
        ({"PRIME_HUB_BLOBS": "s3://no-such-bucket"}, "there is no such bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-one"}, "does not accept the credentials"),
        ({"PRIME_HUB_BLOBS": "ftp://somewhere"}, "'ftp' is no object storage"),
        ({"PRIME_HUB_BLOBS": "s3://key:secret@bucket"}, "holds no credentials"),
        ({"PRIME_HUB_SECRET_KEY": "ab" * 32}, "another secret key"),
        ({"PRIME_HUB_SECRET_KEY": "short"}, "must be 64 hex digits"),
    ):
        words_of = program("serve", "--port", "0", "--data-dir", str(tmp_path / "x"), variables={**base, **variables})
        assert words_of.returncode == 1 and words in words_of.stderr, words_of.stderr
        assert "Traceback" not in words_of.stderr and "wrong-one" not in words_of.stderr


def test_credentials_come_from_the_usual_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prime_hub.services.blobs import BlobStore

    (tmp_path / "credentials").write_text(
        f"[team]\naws_access_key_id = {os.environ['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {os.environ['AWS_SECRET_ACCESS_KEY']}\n"
    )
    (tmp_path / "config").write_text(
        f"[profile team]\nregion = us-east-1\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "team")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    async def go() -> bytes:
        blobs = BlobStore(tmp_path / "copies", stores.address(tmp_path))
        await blobs.put_bytes("here", b"found", "test")
        url = await blobs.download_url("here")
        assert url is not None
        got = await asyncio.to_thread(httpx.get, url, trust_env=False)
        await blobs.delete("here")
        return got.content

    assert databases.run(go()) == b"found"


def test_a_large_blob_takes_little_memory(tmp_path: Path) -> None:
    """Sent in parts, measured, read in part and copied to a file, each a few megabytes at a time."""
    import resource

    from prime_hub.services.blobs import BlobStore

    size, chunk = 160 << 20, os.urandom(1 << 20)

    async def go() -> None:
        blobs = BlobStore(tmp_path, stores.address(tmp_path))

        async def chunks():
            for _ in range(size // len(chunk)):
                yield chunk

        try:
            stored = await blobs.put("large", chunks(), size, "blob")
            assert stored.size == size and await blobs.measured("large") == stored
            async with blobs.local("large") as path:
                assert path.stat().st_size == size
            assert not list(tmp_path.glob("copy-*"))
        finally:
            await blobs.delete("large")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    databases.run(go())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < size // 2, f"{grown >> 20} MiB"


def test_an_outage_of_the_bucket_is_a_sentence(start_hub: HubFactory, tmp_path: Path) -> None:
    """The Hub goes on; what needs the bucket says so, and works again when the bucket is there."""
    with BrokenWay(urlsplit(os.environ["AWS_ENDPOINT_URL"])) as way:
        hub = start_hub(variables={**databases.make(tmp_path), **stores.make(tmp_path), "AWS_ENDPOINT_URL": way.url})
        try:
            one = push(hub.api, "there")
            detail = hub.api.get(f"/environmentshub/{hub.owner}/there/@latest").json()["data"]
            way.works = False
            answer = hub.api.get(detail["package_url"])
            assert answer.status_code == 503 and "object storage does not answer" in answer.json()["detail"]
            assert hub.api.get("/health").status_code == 200
            way.works = True
            assert hub.api.get(detail["package_url"], follow_redirects=True).content == one.archive
            hub.stop()
            words = ("serve", "--port", "0", "--data-dir", str(hub.data_dir))
            refused = program(*words, variables={**hub.variables, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
            assert refused.returncode == 1 and "cannot be used" in refused.stderr
            gone = program(
                *words, variables={**hub.variables, "PRIME_HUB_DATABASE_URL": databases.url(tmp_path / "no")}
            )
            assert gone.returncode == 1 and "cannot be used" in gone.stderr and "Traceback" not in gone.stderr, (
                gone.stderr
            )
        finally:
            databases.drop(tmp_path)
            stores.drop(tmp_path)
