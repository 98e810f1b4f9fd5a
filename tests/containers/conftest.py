"""Real container engines: `script/engines start DIR`, then `env $(script/engines env DIR) script/test tests/containers`.

A lane of its own: these tests run only where this folder, or a file of it, is named. One without its engine is skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from prime_hub.runner.runtimes.conformance import Host
from tests.support.lanes import ignored_unless_named

HERE = Path(__file__).resolve().parent
ENGINES = ("docker", "podman")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return ignored_unless_named(HERE, config)


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(HERE) and item.get_closest_marker("xdist_group") is None:
            callspec = getattr(item, "callspec", None)
            named = callspec.params.get("engine") if callspec is not None else None
            # One worker for an engine and a file, so that its runner and images are made once.
            item.add_marker(pytest.mark.xdist_group(f"{named}-{item.path.stem}"))


class Engine:
    """A container engine, asked directly: what is really there."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        transport = httpx.HTTPTransport(uds=address.removeprefix("unix://"))
        self.http = httpx.Client(transport=transport, base_url="http://engine/v1.41", timeout=120)

    def get(self, path: str, **filters: list[str]) -> Any:
        """What it answers, which has to be JSON."""
        answer = self.http.get(path, params={"filters": json.dumps(filters), "all": "true"} if filters else None)
        answer.raise_for_status()
        return answer.json()

    def containers(self, **labels: str) -> list[dict[str, Any]]:
        """Containers, ended ones too, with these labels."""
        return self.get("/containers/json", label=[f"{name}={value}" for name, value in labels.items()])

    def inspect(self, sandbox_id: str) -> dict[str, Any]:
        """The container of a sandbox."""
        (found,) = self.containers(**{"prime.sandbox": sandbox_id})
        return self.get(f"/containers/{found['Id']}/json")


def owner(engine: Engine, host: Host) -> str:
    """A runner's id, which is in the names of all that it has in an engine."""
    return hashlib.sha256(f"{engine.name}:{host.folder.resolve()}".encode()).hexdigest()[:8]


def address_of(name: str) -> str:
    """Where an engine listens; skips the test when none was named."""
    address = os.environ.get(f"PRIME_TEST_{name.upper()}")
    if not address:
        pytest.skip(f"PRIME_TEST_{name.upper()} names no engine; 'script/engines' starts one")
    return address


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn."""
    found = Engine(request.param, address_of(request.param))
    yield found
    found.http.close()


Hosts = Callable[..., Host]


@pytest.fixture(scope="module")
def hosts(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """`hosts(oci_runtime="runsc")`: a runner on that engine with these options; all are ended afterwards."""
    made: list[Host] = []

    def start(**options: str) -> Host:
        words = [f"{name}={value}" for name, value in {"engine": engine.address, **options}.items()]
        program = tuple(word for option in words for word in ("--option", option))
        host = Host(tmp_path_factory.mktemp(engine.name) / "runner", engine.name, program)
        host.start()
        made.append(host)
        return host

    yield start
    for host in made:
        for image in host.call("GET", "/images")["images"]:
            host.send("DELETE", f"/images/{image['digest']}")
        host.stop()


@pytest.fixture(scope="module")
def host(hosts: Hosts) -> Host:
    """A runner for the tests of one file that leave it as it was."""
    return hosts()
