"""Requests one after the other, or many at once, on connections that stay open; and what was waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from urllib.parse import urlsplit

from official.scratch import Failed


class Client:
    """One open connection."""

    def __init__(self, url: str, key: str | None = None) -> None:
        where = urlsplit(url)
        self._connection = HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, **headers: str) -> bytes:
        """The body of a 200. Raises Failed for anything else."""
        self._connection.request("GET", path, headers={**self._headers, **headers})
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"GET {path} was answered with {answer.status}: {body[:300]!r}")
        return body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def waits(client: Client, paths: Sequence[str]) -> list[float]:
    """Milliseconds of each request, one after the other."""
    found = []
    for path in paths:
        began = time.perf_counter()
        client.get(path)
        found.append((time.perf_counter() - began) * 1000)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def rate(url: str, paths: Sequence[str], at_once: int) -> float:
    """Requests a second with so many connections, each of which asks for its share of the paths."""
    failures: list[BaseException] = []

    def ask(mine: Sequence[str]) -> None:
        client = Client(url)
        try:
            for path in mine:
                client.get(path, Accept="text/html")
        except BaseException as error:
            failures.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=ask, args=(paths[number::at_once],)) for number in range(at_once)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return len(paths) / (time.perf_counter() - began)
