"""The shipped conformance suite, on the runtimes that need no container engine (tests/containers has the others)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import RuntimeUnavailable, Setup
from prime_hub.runner.runtimes.choice import runtime_class
from prime_hub.runner.runtimes.conformance import CHECKS, Check, Host


def _problem(name: str, folder: Path) -> str | None:
    async def look() -> str | None:
        children = Children()
        children.start()
        runtime = runtime_class(name)(Setup(folder, children))
        try:
            await runtime.open()
        except RuntimeUnavailable as error:
            return str(error)
        finally:
            await runtime.close()
            children.stop()
        return None

    return asyncio.run(look())


@pytest.fixture(scope="module", params=["process", "bubblewrap"])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp(request.param)
    if problem := _problem(request.param, folder / "tried"):
        pytest.skip(problem)
    host = Host(folder / "runner", request.param)
    host.start()
    yield host
    host.stop()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_suite(host: Host, check: Check) -> None:
    if not check.missing(host):
        check.run(host)


def test_a_runtime_that_does_not_isolate_claims_nothing(host: Host) -> None:
    assert host.info["isolating"] or not host.claims
    assert bool(host.info["not_enforced"]) or host.info["isolating"]
