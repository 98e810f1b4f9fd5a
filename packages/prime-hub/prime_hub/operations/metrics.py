"""Prometheus metrics, on an address of their own so that who reads them needs no account and nobody else sees them.

prime_hub_request_seconds    histogram by method, route (the template, never a name) and status
prime_hub_sandboxes          sandboxes by status; those that have ended are counted while their records are kept
prime_hub_builds             builds by status
prime_hub_jobs               durable jobs by kind and state
prime_hub_environments, prime_hub_versions, prime_hub_accounts
prime_hub_runner_up          1 while the runner answers
prime_hub_info               1, with the Hub's version and id
and the usual ones of the process and of Python.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as TooLate
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import Scope

from prime_hub import __version__
from prime_hub.db.models import Account, Build, Environment, Job, Sandbox, Version

if TYPE_CHECKING:
    from prime_hub.hub import Hub

log = logging.getLogger("prime_hub.metrics")
SECONDS = 10.0
"""How long a scrape waits for the database."""
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metrics of one Hub. `serve` listens; nothing is counted before it does."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "prime_hub_request_seconds",
            "How long requests took, to the end of the answer.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None

    @property
    def is_served(self) -> bool:
        """Whether anybody can read them."""
        return self._server is not None

    def serve(self, hub: Hub, host: str, port: int) -> int:
        """Listen on host and port (0: any free one), which it gives. Raises OSError."""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(_OfHub(hub, asyncio.get_running_loop()))
        self._server, self._thread = start_http_server(port, host, self.registry)
        return self._server.server_port

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One request that was served; nothing where nobody can read of it."""
        if self.is_served:
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in METHODS else OTHER
            self.requests.labels(method, route, str(status)).observe(seconds)

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            self._thread.join()
            self._server = None


class _OfHub(Collector):
    """What the database and the runner tell, asked when somebody scrapes, from that listener's thread."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hub, self._loop = hub, loop

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        asked = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        try:
            counts = asked.result(SECONDS)
        except TooLate:
            asked.cancel()
            log.warning("The database did not answer a scrape of the metrics within %g seconds.", SECONDS)
            counts = {}
        except Exception as error:
            log.warning("A scrape of the metrics could not ask the database: %s", type(error).__name__)
            counts = {}
        info = GaugeMetricFamily("prime_hub_info", "Which Hub this is.", labels=("version", "hub_id"))
        info.add_metric((__version__, self._hub.id), 1)
        yield info
        is_up = self._hub.runner.health().get("state") == "ready"
        yield GaugeMetricFamily("prime_hub_runner_up", "Whether the runner answers.", value=float(is_up))
        for name, (what, labels, rows) in counts.items():
            family = GaugeMetricFamily(f"prime_hub_{name}", what, labels=labels)
            for values, count in rows:
                family.add_metric(values, count)
            yield family

    async def _ask(self) -> Mapping[str, tuple[str, tuple[str, ...], list[tuple[tuple[str, ...], int]]]]:
        grouped: dict[str, tuple[str, tuple[str, ...], tuple[Any, ...]]] = {
            "sandboxes": ("Sandboxes by status.", ("status",), (Sandbox.status,)),
            "builds": ("Builds by status.", ("status",), (Build.status,)),
            "jobs": ("Durable jobs by kind and state.", ("kind", "state"), (Job.kind, Job.state)),
            "environments": ("Environments.", (), ()),
            "versions": ("Published versions.", (), ()),
            "accounts": ("Accounts.", (), ()),
        }
        tables: dict[str, Any] = {"environments": Environment, "versions": Version, "accounts": Account}
        found = {}
        async with self._hub.database.read() as session:
            for name, (what, labels, columns) in grouped.items():
                counted = select(*columns, func.count()).group_by(*columns)
                if not columns:
                    counted = select(func.count()).select_from(tables[name])
                rows = [(tuple(map(str, row[:-1])), int(row[-1])) for row in await session.execute(counted)]
                found[name] = (what, labels, rows)
        return found
