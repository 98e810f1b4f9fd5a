"""What is downloaded counts once, by version and day, and whoever sees an environment sees how much it is used."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from prime_hub.app import create_app
from prime_hub.db.models import Account, Environment, UsageDay, Version
from prime_hub.db.types import now
from prime_hub.hub import Hub
from prime_hub.services.usage import Counts, Kind
from prime_hub.settings import Settings
from prime_hub.web.chart import bar_chart
from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.hub.pushing import Push, make_wheel, push
from tests.hub.test_migrations import to_revision
from tests.support import databases


def usage(hub: RunningHub, name: str, **query: Any) -> dict[str, Any]:
    answer = hub.client().get(f"/environmentshub/{hub.owner}/{name}/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def counted(hub: RunningHub, name: str, **query: Any) -> tuple[int, int]:
    """How many installs and pulls there were."""
    total = usage(hub, name, **query)["totals"]["all_time"]
    return total["installs"], total["pulls"]


def addresses(hub: RunningHub, one: Push) -> tuple[str, str]:
    """Of the wheel, and of the source archive."""
    base = f"{hub.url}/api/v1"
    version = f"{base}/environmentshub/{hub.owner}/{one.name}/@{one.version}"
    return f"{base}/files/{hub.owner}/{one.wheel_filename}", f"{version}/package"


def test_whole_downloads_count_and_nothing_else(module_hub: RunningHub) -> None:
    wheel, source = addresses(module_hub, push(module_hub.api, "whole-env"))
    client = module_hub.client()
    etag = client.head(wheel).headers["etag"]
    page = f"{module_hub.url}/{module_hub.owner}/simple/whole-env/"
    version = source.removesuffix("/package")
    for address in (f"{wheel}.metadata", page, version, f"{version}/inspect", version.rpartition("/")[0] + "/versions"):
        assert client.get(address).status_code == 200, address
    assert client.get(wheel, headers={"If-None-Match": etag}).status_code == 304
    for address in (wheel, source):
        assert client.head(address).status_code == 200
        for part in ("bytes=0-9", "bytes=10-", "bytes=-5", "bytes=0-1,5-6"):
            assert client.get(address, headers={"Range": part}).status_code == 206
        assert client.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    assert client.get(f"{wheel}x").status_code == 404
    assert counted(module_hub, "whole-env") == (0, 0)
    assert client.get(source).status_code == 200
    assert counted(module_hub, "whole-env") == (0, 1)
    assert client.get(wheel).status_code == 200
    # Of a part of something else, all is sent.
    assert client.get(wheel, headers={"Range": "bytes=10-", "If-Range": '"other"'}).status_code == 200
    told = usage(module_hub, "whole-env", days=2)
    both = {"installs": 2, "pulls": 1}
    assert told["totals"] == {"all_time": both, "last_30_days": both, "last_7_days": both}
    assert [day["installs"] for day in told["days"]] == [0, 2]
    assert told["versions"] == [{"version": "0.1.0", **both, "all_time": both}]


@pytest.mark.parametrize("installer", ["uv", "pip", "prime", "pull"])
def test_every_installer_counts_once(module_hub: RunningHub, tmp_path: Path, installer: str) -> None:
    name = f"{installer}-env"
    push(module_hub.api, name)
    python, venv = [sys.executable, "-m"], str(tmp_path / "venv")
    from_index = ["--target", "in", "--index-url", f"{module_hub.url}/{module_hub.owner}/simple/", name]
    commands = {
        "uv": ["uv", "pip", "install", *from_index],
        "pip": ["pip", "install", *from_index],
        "prime": ["prime_cli", "env", "install", f"{module_hub.owner}/{name}", "--python", venv],
        "pull": ["prime_cli", "env", "pull", f"{module_hub.owner}/{name}", "-t", "copy"],
    }
    given = module_hub.environment()
    environment = {key: value for key, value in given.items() if not key.startswith(("UV_", "PIP_"))}
    environment |= dict.fromkeys(("UV_CACHE_DIR", "PIP_CACHE_DIR", "PRIME_CACHE_DIR"), str(tmp_path / "cache"))
    environment |= {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    for command in (["venv", "--without-pip", venv], commands[installer]):
        done = subprocess.run(
            [*python, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert counted(module_hub, name) == ((0, 1) if installer == "pull" else (1, 0))


def test_a_download_that_breaks_off_does_not_count(module_hub: RunningHub) -> None:
    large = make_wheel("large-env", "0.1.0", f"NOISE = '{secrets.token_hex(12_000_000)}'\n")
    wheel, _ = addresses(module_hub, push(module_hub.api, "large-env", wheel=large))
    place = httpx.URL(wheel)
    assert place.port is not None
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((place.host, place.port))
        connection.sendall(f"GET {place.path} HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert module_hub.client().get(wheel).content == large
    assert counted(module_hub, "large-env") == (1, 0)


async def test_many_at_once_are_as_many(module_hub: RunningHub) -> None:
    wheel, source = addresses(module_hub, push(module_hub.api, "busy-env"))
    place = httpx.URL(wheel)

    async def fetch(target: str, times: int) -> None:
        reader, writer = await asyncio.open_connection(place.host, place.port)
        for _ in range(times):
            writer.write(f"GET {httpx.URL(target).path} HTTP/1.1\r\nHost: {place.host}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200"), head
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
        writer.close()

    # Somebody reads, and so has written, all the while.
    reading = asyncio.to_thread(lambda: [counted(module_hub, "busy-env") for _ in range(10)])
    seen, *_ = await asyncio.gather(
        reading, *(fetch(wheel, 8) for _ in range(20)), *(fetch(source, 10) for _ in range(8))
    )
    assert counted(module_hub, "busy-env") == (160, 80) and seen == sorted(seen)


def test_each_version_for_itself(module_hub: RunningHub) -> None:
    hub, client = module_hub, module_hub.client()
    for version, times in (("0.1.0", 3), ("0.2.0", 2)):
        wheel, source = addresses(hub, push(hub.api, "many-env", version))
        assert client.get(source).status_code == 200
        for _ in range(times):
            assert client.get(wheel).status_code == 200
    assert counted(hub, "many-env") == (5, 2)
    assert counted(hub, "many-env", version="0.1") == (3, 1)
    assert counted(hub, "many-env", version="latest") == (2, 1)
    rows = usage(hub, "many-env", version="0.1.0")["versions"]
    assert [(row["version"], row["installs"], row["pulls"]) for row in rows] == [("0.2.0", 2, 1), ("0.1.0", 3, 1)]
    unknown = client.get(f"/environmentshub/{hub.owner}/many-env/usage", params={"version": "9.9.9"})
    assert unknown.status_code == 404 and "There is no version '9.9.9'" in unknown.text
    assert "5 installs" in Browser(hub).get(f"/dashboard/environments/{hub.owner}/many-env").text
    # What is counted and not written yet goes with its version, too.
    assert client.get(addresses(hub, Push(client, "many-env", "0.1.0"))[0]).status_code == 200
    assert hub.api.delete(f"/environmentshub/{hub.owner}/many-env/@0.1.0").is_success
    assert counted(hub, "many-env") == (2, 1)
    fork = hub.client(hub.add_user("forker"))
    assert fork.post(f"/environmentshub/{hub.owner}/many-env/fork", json={}).is_success
    forked = fork.get("/environmentshub/forker/many-env/usage").json()["data"]
    assert forked["totals"]["all_time"] == {"installs": 0, "pulls": 0}, "a fork begins with nothing"
    assert hub.api.delete(f"/environmentshub/{hub.owner}/many-env").is_success
    assert hub.sql("SELECT count(*) FROM usage_days WHERE environment_id NOT IN (SELECT id FROM environments)") == [
        (0,)
    ]
    push(hub.api, "many-env", "0.3.0")
    assert counted(hub, "many-env") == (0, 0)


def test_the_page(module_hub: RunningHub) -> None:
    hub, browser = module_hub, Browser(module_hub)
    one = push(hub.api, "paged-env")
    push(hub.api, "paged-env", "0.2.0")
    path = f"/dashboard/environments/{hub.owner}/paged-env"
    empty = browser.get(f"{path}/usage")
    assert "Nobody has installed it yet" in empty.text and f"prime env install {hub.owner}/paged-env" in empty.text
    assert hub.client().get(addresses(hub, one)[0]).status_code == 200
    usage(hub, "paged-env")  # which writes it
    today = datetime.now(UTC).date()
    for days, count in ((20, 1234), (50, 30), (200, 7)):
        hub.sql(
            f"INSERT INTO usage_days (environment_id, day, version_id, kind, count) SELECT environment_id, "
            f"'{today - timedelta(days=days)}', version_id, 'pull', {count} FROM usage_days "
            "WHERE environment_id = :id AND kind = 'install'",
            id=one.environment_id,
        )
    page = browser.get(f"{path}/usage")
    assert "Installs1 1 1 " in page.text and "Pulls1,271 1,234 0 " in page.text and "Day by day" in page.text
    assert page.answer.text.count('class="day"') == 90 and page.answer.text.count('rect class="pull" x') == 2
    assert path in page.links and f"{path}/usage?days=365" in page.links
    assert "1,234 pulls" in page.text and "30 pulls" in page.text and "7 pulls" not in page.text
    assert browser.get(f"{path}/usage?days=30").answer.text.count('class="day"') == 30
    year = browser.get(f"{path}/usage?days=365")
    assert "Week by week" in year.text and "7 pulls" in year.text and year.answer.text.count('class="day"') == 53
    other = browser.get(f"{path}/usage?days=30&version=0.2.0")
    assert "Nobody has installed this version yet" in other.text and "paged-env@0.2.0" in other.text
    assert "Only version 0.2.0" in other.text and f"{path}/usage?days=30" in other.links
    week = browser.get(f"{path}/usage?days=7&version=0.1")
    assert "Only version 0.1.0" in week.text and f"{path}/usage?days=90&version=0.1.0" in week.links
    for query in ("days=0", "days=366", "days=x", f"version={'1' * 81}"):
        assert browser.get(f"{path}/usage?{query}").status == 422, query


def test_an_end_and_a_kill(hub: RunningHub) -> None:
    """An orderly end writes; a kill takes nothing that was written."""
    wheel, _ = addresses(hub, push(hub.api, "lasting-env"))
    for _ in range(3):
        assert hub.client().get(wheel).status_code == 200
    hub.stop()
    assert hub.sql("SELECT sum(count) FROM usage_days") == [(3,)]
    hub.start()
    assert hub.client().get(wheel).status_code == 200
    assert counted(hub, "lasting-env") == (4, 0)
    hub.kill()
    hub.start()
    assert counted(hub, "lasting-env") == (4, 0)


@pytest.mark.sqlite
def test_an_earlier_schema_is_taken_over(hub: RunningHub) -> None:
    wheel, _ = addresses(hub, push(hub.api, "kept-env"))
    hub.stop()
    to_revision(hub.data_dir / "hub.sqlite3", "0003")
    with closing(sqlite3.connect(hub.data_dir / "hub.sqlite3")) as connection:
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'usage_days'").fetchall()
    hub.start()
    assert counted(hub, "kept-env") == (0, 0)
    assert hub.client().get(wheel).status_code == 200
    assert counted(hub, "kept-env") == (1, 0)


# --- one Hub in this process ---------------------------------------------------------------------------------------


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    """An app whose Hub is not open yet, so its database has no tables."""
    if databases.on_postgres():
        databases.make(tmp_path)
    made = create_app(Settings(tmp_path, database_url=databases.url(tmp_path) if databases.on_postgres() else None))
    yield made
    await made.state.hub.close()
    databases.drop(tmp_path)


async def published(hub: Hub) -> tuple[Environment, Version]:
    """Rows of a version."""
    async with hub.database.write() as session:
        owner = (await session.scalars(select(Account))).one()
        one = Environment(id="e" * 24, owner_id=owner.id, owner=owner, name="own-env", normalized_name="own-env")
        files = {"content_hash": "a" * 64, "filename": "x", "sha256": "b" * 64}
        version = Version(id="v" * 24, environment_id=one.id, version="1.0", canonical="1", finalized_at=now(), **files)
        one.latest_version_id = version.id
        session.add(one)
        await session.flush()
        session.add(version)
    return one, version


async def test_what_cannot_be_written_is_kept(app: FastAPI) -> None:
    hub: Hub = app.state.hub
    hub.usage.count("v" * 24, Kind.INSTALL)
    await hub.usage.flush()  # there is no table yet
    await hub.open()
    environment, version = await published(hub)
    hub.usage.count(version.id, Kind.INSTALL)
    hub.usage.count("gone" * 6, Kind.INSTALL)
    await hub.usage.stop()
    assert await hub.usage.installs(environment) == 2
    async with hub.database.read() as session:
        rows = (await session.scalars(select(UsageDay))).all()
    assert [(row.version_id, row.kind, row.count) for row in rows] == [(version.id, "install", 2)]


async def test_whoever_waits_for_it_to_be_written_may_go_away(app: FastAPI) -> None:
    hub: Hub = app.state.hub
    await hub.open()
    environment, version = await published(hub)
    for number in range(40):
        hub.usage.count(version.id, Kind.INSTALL)
        waiting = asyncio.create_task(hub.usage.flush())
        for _ in range(number):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await hub.usage.stop()
    assert await hub.usage.installs(environment) == 40


async def test_evaluations_are_shown_where_there_are_any(app: FastAPI) -> None:
    hub: Hub = app.state.hub
    await hub.open()
    environment, version = await published(hub)
    owner, name = environment.owner.slug, environment.name
    hub.usage.count(version.id, Kind.PULL)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as client:
        page, api = f"/dashboard/environments/{owner}/{name}/usage", f"/api/v1/environmentshub/{owner}/{name}/usage"
        without = (await client.get(page)).text.count("Evaluations")  # the tab has the word, too
        assert (await client.get(api)).json()["data"]["totals"]["all_time"] == {"installs": 0, "pulls": 1}
        hub.usage.count(version.id, Kind.EVALUATION)
        told = (await client.get(api)).json()["data"]
        assert told["totals"]["last_7_days"] == {"installs": 0, "pulls": 1, "evaluations": 1}
        shown = (await client.get(page)).text
    assert shown.count("Evaluations") > without and "1 pull, 1 evaluation" in shown


def test_bars() -> None:
    first = date(2026, 1, 1)
    kinds = [Kind.INSTALL, Kind.PULL]
    days = {first + timedelta(days=n): Counts({Kind.INSTALL: n, Kind.PULL: 1 if n == 3 else 0}) for n in range(4)}
    chart = bar_chart(days, kinds)
    assert (chart.top, chart.width, chart.by_week, chart.highest.name) == (4, 40, False, "4 Jan 2026")
    assert [[(part.kind, part.y, part.height) for part in bar.parts] for bar in chart.bars] == [
        [],
        [("install", 75.0, 25.0)],
        [("install", 50.0, 50.0)],
        [("install", 25.0, 75.0), ("pull", 0.0, 25.0)],
    ]
    year = {first + timedelta(days=n): Counts({Kind.PULL: 3 if n == 364 else 1}) for n in range(365)}
    weeks = bar_chart(year, kinds)
    assert len(weeks.bars) == 53 and weeks.by_week and weeks.bars[0].name == "1 Jan 2026"
    assert [bar.counts[Kind.PULL] for bar in weeks.bars] == [1, *[7] * 51, 9]
    assert weeks.bars[-1].name == "25 Dec 2026 to 31 Dec 2026"
    for most, top in ((0, 2), (1, 2), (3, 4), (7, 8), (11, 20), (99, 100), (101, 200), (123_456, 200_000)):
        small = bar_chart({first: Counts({Kind.PULL: most}), date(2026, 1, 2): Counts({Kind.PULL: 1})}, kinds)
        assert small.top == top and all(part.height >= 1 for bar in small.bars for part in bar.parts)
