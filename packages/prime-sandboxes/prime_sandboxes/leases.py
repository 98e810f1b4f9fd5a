"""Renewing leases in the background, from a thread of its own: an event loop or a main thread that is busy for a
minute must not lose its sandboxes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prime_core.errors import APIError, Forbidden, NotFound, PrimeError, Unauthorized

if TYPE_CHECKING:
    from prime_core.api import APIClient as HubAPI
    from prime_core.connection import Connection

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 1.0


class LeaseKeeper:
    """The renewal of one sandbox's lease. `cancel()` ends it, from any thread, more than once; the lease runs out.

    `error` is why the last renewal failed, None when it went well; `cancelled` is also set when no other will be tried.
    """

    def __init__(self, sandbox_id: str, lease_seconds: float) -> None:
        self.sandbox_id = sandbox_id
        self.lease_seconds = lease_seconds
        self.cancelled = False
        self.error: str | None = None
        self._due = time.monotonic() + lease_seconds / 3
        self._wake: Callable[[], None] = lambda: None

    def cancel(self) -> None:
        """Renew no more."""
        self.cancelled = True
        self._wake()


class Leases:
    """All leases of one client: one thread while there are any, none otherwise."""

    def __init__(self, connect: Callable[[], Connection], agent: str) -> None:
        self._connect = connect
        self._agent = agent
        self._keepers: list[LeaseKeeper] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def keep(self, sandbox_id: str, lease_seconds: float) -> LeaseKeeper:
        """Renew a lease every third of its length until it is cancelled or the sandbox has ended."""
        keeper = LeaseKeeper(sandbox_id, lease_seconds)
        keeper._wake = self._notify
        with self._changed:
            self._keepers.append(keeper)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="prime-leases", daemon=True)
                self._thread.start()
            self._changed.notify()
        return keeper

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        from prime_core.api import APIClient as HubAPI

        try:
            found = self._connect()
        except PrimeError as error:
            with self._changed:
                for keeper in self._keepers:
                    keeper.error, keeper.cancelled = str(error), True
                self._keepers, self._thread = [], None
            return
        with HubAPI(found.base_url, found.api_key, self._agent, ANSWER_SECONDS) as api:
            while (keeper := self._next()) is not None:
                self._renew(api, keeper)

    def _next(self) -> LeaseKeeper | None:
        """The lease that is due, once it is; None (and no thread any more) when there is none left."""
        with self._changed:
            while True:
                self._keepers = [keeper for keeper in self._keepers if not keeper.cancelled]
                if not self._keepers:
                    self._thread = None
                    return None
                keeper = min(self._keepers, key=lambda item: item._due)
                wait = keeper._due - time.monotonic()
                if wait <= 0:
                    return keeper
                self._changed.wait(wait)

    def _renew(self, api: HubAPI, keeper: LeaseKeeper) -> None:
        limit = max(1.0, min(ANSWER_SECONDS, keeper.lease_seconds / 3))
        body = {"lease_seconds": keeper.lease_seconds}
        try:
            api.post(f"/sandbox/{keeper.sandbox_id}/lease", body, timeout=limit)
        except (NotFound, Unauthorized, Forbidden) as error:
            keeper.error, keeper.cancelled = str(error), True
        except APIError as error:
            keeper.error = str(error)
            keeper.cancelled = error.status == 410
            keeper._due = time.monotonic() + min(RETRY_SECONDS, keeper.lease_seconds / 6)
        except PrimeError as error:
            keeper.error, keeper.cancelled = str(error), True
        else:
            keeper.error = None
            keeper._due = time.monotonic() + keeper.lease_seconds / 3

    def close(self) -> None:
        """Cancel all and wait for the thread."""
        with self._changed:
            for keeper in self._keepers:
                keeper.cancelled = True
            thread = self._thread
            self._changed.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(ANSWER_SECONDS + 5)
