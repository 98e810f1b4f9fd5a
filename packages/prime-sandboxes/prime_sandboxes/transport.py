"""The connection of a client: which Hub, which key, found out at the first call."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from prime_core.wire import is_loopback, user_agent

if TYPE_CHECKING:
    import httpx

    from prime_core.api import AsyncAPIClient as HubAPI
    from prime_core.connection import Connection

CONTROL_SECONDS = 60.0
# Below a server's own patience, so that no request is written to a connection that is just being closed.
KEEPALIVE_SECONDS = 30.0


class APIClient:
    """Credentials for SandboxClient and ImageClient: `api_key`, else the key of the configuration in force.

    Nothing is read or connected before the first call.
    """

    def __init__(self, api_key: str | None = None, require_auth: bool = True, user_agent: str | None = None) -> None:
        self.api_key = api_key
        self.require_auth = require_auth
        self.user_agent = user_agent

    def connect(self) -> Connection:
        """The Hub and the key. May start the machine's own Hub. Raises NotAuthenticated, ConfigError, LocalHubError."""
        from prime_core.connection import connect

        found = connect(require_auth=self.require_auth and self.api_key is None)
        return replace(found, api_key=self.api_key) if self.api_key else found


AsyncAPIClient = APIClient


class Transport:
    """One Hub, for one event loop: the JSON API, and the plain HTTP client for sandboxes' insides."""

    def __init__(
        self, connection: Connection | APIClient | str | None, api_key: str | None = None, max_connections: int = 1000
    ) -> None:
        if isinstance(connection, str):
            connection = APIClient(connection)
        self._given = APIClient(api_key) if connection is None else connection
        self._max_connections = max_connections
        self._connection: Connection | None = None
        self._api: HubAPI | None = None
        self._http: httpx.AsyncClient | None = None
        self._lock = threading.Lock()
        self.closings = 0
        """How often it was closed: what was begun before is not taken up again after."""

    @property
    def agent(self) -> str:
        """The User-Agent header."""
        own = self._given.user_agent if isinstance(self._given, APIClient) else None
        return own or user_agent("prime-sandboxes")

    async def connection(self) -> Connection:
        """The Hub's address and the key. Raises NotAuthenticated, ConfigError, LocalHubError."""
        if self._connection is None:
            import asyncio

            # It may have to start a Hub, which takes seconds.
            return await asyncio.to_thread(self.connect_now)
        return self._connection

    def connect_now(self) -> Connection:
        """The same for a thread."""
        with self._lock:
            if self._connection is None:
                given = self._given
                self._connection = given.connect() if isinstance(given, APIClient) else given
            return self._connection

    async def team(self, given: str | None) -> str | None:
        """The team that a call acts for: the given one, else that of the configuration in force; `""` is none."""
        return (given if given is not None else (await self.connection()).team_id) or None

    async def api(self) -> HubAPI:
        """The Hub's JSON API."""
        if self._api is None:
            from prime_core.api import AsyncAPIClient as HubAPI

            found = await self.connection()
            if self._api is None:
                self._api = HubAPI(found.base_url, found.api_key, self.agent, CONTROL_SECONDS)
        return self._api

    async def http(self) -> httpx.AsyncClient:
        """A client for absolute addresses on the Hub, without its key."""
        if self._http is None:
            import httpx

            found = await self.connection()
            if self._http is None:
                self._http = httpx.AsyncClient(
                    trust_env=not is_loopback(found.base_url),
                    headers={"User-Agent": self.agent},
                    limits=httpx.Limits(
                        max_connections=self._max_connections,
                        max_keepalive_connections=50,
                        keepalive_expiry=KEEPALIVE_SECONDS,
                    ),
                )
        return self._http

    async def aclose(self) -> None:
        """End all connections; the transport can be used again."""
        self.closings += 1
        api, self._api = self._api, None
        http, self._http = self._http, None
        if api is not None:
            await api.aclose()
        if http is not None:
            await http.aclose()
