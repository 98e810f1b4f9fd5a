"""What a check is made of: reports as they are kept, messages and connections of hosted programs, recipes."""

from __future__ import annotations

import asyncio
import base64
import tarfile
from pathlib import Path
from typing import Any

import pytest

from prime_core.checks.registry import CHECKS
from prime_core.checks.report import Report, Result, failed, passed
from prime_hub.errors import BadGateway
from prime_hub.runner.runtimes.values import Limits
from prime_hub.services.check_run import REPORT_BYTES, TEXT, NotChecked, read_report, within
from prime_hub.services.hosted import Recipe
from prime_hub.services.tunnels import MOST_CONNECTIONS, MOST_WAITING, Tunnels


def report(**facts: Any) -> dict[str, Any]:
    made = Report("full", {"name": "x"}, checker="verifiers 1")
    made.add(Result("load-fails", passed(**facts)))
    made.add(Result("seed-ignored", failed("seed-ignored", "s" * (TEXT + 9), "w\0here", "ch\ud800ange")))
    return made.as_dict()


def test_a_report_is_kept_as_databases_take_it() -> None:
    found = read_report({**report(mean=float("nan"), most=float("inf"), rows=3), "more": "x"}).as_dict()
    assert found["facts"] == {"mean": "nan", "most": "inf", "rows": 3}
    finding = found["checks"][1]["findings"][0]
    assert len(finding["sentence"]) == TEXT and finding["where"] == "where" and finding["change"] == "ch?ange"
    assert "more" not in found and found["checker"] == "verifiers 1"
    assert read_report(found).as_dict() == found


def test_checks_that_this_hub_does_not_know_are_left_out() -> None:
    content = report()
    content["checks"].append({**content["checks"][0], "id": "<script>"})
    content["checks"].append({**content["checks"][0], "outcome": "splendid"})
    assert set(read_report(content).results) == {"load-fails", "seed-ignored"} <= set(CHECKS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema_version 2"),
        ({"checks": 7}, "cannot be read"),
        ({"checks": []}, "is not complete"),
        ({"complete": False}, "is not complete"),
        ({"started": "yesterday"}, "cannot be read"),
        (
            {"environment": {str(n): "x" * TEXT for n in range(200)}},
            "larger than",
        ),
    ],
)
def test_what_is_no_report(changes: dict[str, Any], words: str) -> None:
    assert REPORT_BYTES < 200 * TEXT
    with pytest.raises(NotChecked, match=words):
        read_report({**report(), **changes})


@pytest.mark.parametrize("content", [None, [], "x", 7, {}])
def test_what_is_not_even_like_one(content: Any) -> None:
    with pytest.raises(NotChecked, match="cannot be read"):
        read_report(content)


def test_a_report_that_is_nested_for_ever_is_refused() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    with pytest.raises(NotChecked, match="nested too deeply"):
        read_report({**report(), "environment": deep})


def test_a_recipe_is_the_same_bytes_for_the_same_files(tmp_path: Path) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"wheel")
    recipe = Recipe({"b": b"2", "wheels/a.whl": wheel, "Dockerfile": b"FROM x\n"})
    for name in ("one", "two"):
        recipe.pack(tmp_path / name)
    with tarfile.open(tmp_path / "one") as one, tarfile.open(tmp_path / "two") as two:
        assert one.getnames() == two.getnames() == ["Dockerfile", "b", "wheels/a.whl"]
        content = one.extractfile("wheels/a.whl")
        assert content is not None and content.read() == b"wheel"


def test_where_sandboxes_are_small_a_check_makes_do_with_that() -> None:
    asked = Limits(cpus=2.0, memory_bytes=4 << 30, disk_bytes=10 << 30)
    assert within(asked, Limits()) == asked
    assert within(asked, Limits(1.0, 1 << 30, 1024, None)) == Limits(1.0, 1 << 30, 1024, 10 << 30)


class Sent:
    """A program that takes every message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


async def _eventually(there: Any) -> None:
    for _ in range(500):
        if there():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


def test_a_connection_is_carried_both_ways_and_ends_at_either_side() -> None:
    async def carried() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        sent = Sent()

        async def reach(name: str) -> tuple[str, int]:
            assert name == "s"
            return server.sockets[0].getsockname()[:2]

        tunnels = Tunnels(sent, reach)  # ty: ignore[invalid-argument-type] - it only sends
        assert tunnels.take({"open": 1, "server": "s"})
        assert tunnels.take({"data": 1, "bytes": base64.b64encode(b"hello").decode()})
        await _eventually(lambda: sent.messages)
        assert base64.b64decode(sent.messages[0]["bytes"]) == b"HELLO"
        tunnels.take({"eof": 1})
        await _eventually(lambda: sent.messages[-1] == {"close": 1})
        assert not tunnels.take({"report": 1}) and tunnels.take({"data": 99, "bytes": ""})
        for number in (2, 3):
            tunnels.take({"open": number, "server": "s"})
        tunnels.take({"close": 3})  # before it has begun
        tunnels.take({"data": 2, "bytes": base64.b64encode(b"more").decode()})
        await _eventually(lambda: sent.messages[-1].get("data") == 2)
        await tunnels.close()
        assert sent.messages[-1] == {"close": 2}
        tunnels.take({"open": 3, "server": "s"})
        await tunnels.close()
        server.close()
        await server.wait_closed()

    asyncio.run(carried())


def test_a_program_that_opens_and_sends_without_end_is_stopped() -> None:
    async def flooded() -> None:
        waiting = asyncio.Event()

        async def reach(name: str) -> tuple[str, int]:
            await waiting.wait()
            return "127.0.0.1", 1

        sent = Sent()
        tunnels = Tunnels(sent, reach)  # ty: ignore[invalid-argument-type] - it only sends
        for number in range(MOST_CONNECTIONS):
            tunnels.take({"open": number, "server": "s"})
        with pytest.raises(BadGateway, match="too many connections"):
            tunnels.take({"open": MOST_CONNECTIONS, "server": "s"})
        await asyncio.sleep(0)
        for _ in range(MOST_WAITING + 1):
            tunnels.take({"data": 5, "bytes": ""})
        await _eventually(lambda: {"close": 5} in sent.messages)
        for wrong in (
            {"open": "x", "server": "s"},
            {"open": 7000},
            {"data": 1},
            {"data": 1, "bytes": "?"},
            {"eof": []},
        ):
            with pytest.raises(BadGateway, match="no message"):
                tunnels.take(wrong)
        await tunnels.close()

    asyncio.run(flooded())
