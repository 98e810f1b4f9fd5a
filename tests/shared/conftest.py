"""Two Hubs of one team: one Postgres database, one bucket, one runner of the host; each with a data folder of its own.

A lane of its own, `.ci/run shared`, since it needs the servers of script/postgres and script/s3.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import RunningHub, end_runner
from tests.support import databases, stores
from tests.support.lanes import ignored_unless_named

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return ignored_unless_named(HERE, config)


@dataclass
class Pair:
    """Two Hubs, and what they share."""

    first: RunningHub
    second: RunningHub
    place: Path
    """By which the shared database and bucket are named in `tests.support`."""

    @property
    def on_runner(self) -> set[str]:
        """The ids of the sandboxes that the runner has."""
        return {path.name for path in (self.place / "runner" / "sandboxes").iterdir()}

    @property
    def both(self) -> tuple[RunningHub, RunningHub]:
        return self.first, self.second


@pytest.fixture
def servers() -> None:
    """The servers that all of this needs."""
    if not (databases.on_postgres() and stores.on_s3()):
        pytest.skip("needs the servers of script/postgres and script/s3; .ci/run shared starts both")


@pytest.fixture
def pair(servers: None, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Both with the options of an indirect parameter, where there is one."""
    shared = {
        **databases.make(tmp_path),
        **stores.make(tmp_path),
        "PRIME_HUB_SECRET_KEY": secrets.token_hex(32),
        "PRIME_HUB_RUNNER_DIR": str(tmp_path / "runner"),
    }
    started: list[RunningHub] = []
    try:
        for name in ("first", "second"):
            started.append(RunningHub(tmp_path / name, getattr(request, "param", ()), variables=shared))
        yield Pair(*started, tmp_path)
    finally:
        for hub in started:
            if hub.process is not None and hub.process.poll() is None:
                hub.stop()
            hub.close_clients()
        _end_runner(tmp_path / "runner")
        databases.drop(tmp_path)
        stores.drop(tmp_path)


def _end_runner(folder: Path) -> None:
    try:
        end_runner(json.loads((folder / "runner.json").read_text()).get("pid"))
    except (OSError, ValueError):
        return
