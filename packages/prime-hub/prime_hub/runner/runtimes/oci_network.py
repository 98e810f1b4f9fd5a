"""The networks of one runner's sandboxes: one whose sandboxes may connect to the public, one whose may not.

Two for all sandboxes, not one for each: an engine has addresses for thirty networks or so, and a network costs a tenth
of a second. What keeps neighbours apart are the bridge's own setting and the firewall.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from prime_hub.runner.runtimes.base import RunnerError
from prime_hub.runner.runtimes.oci_engine import Engine, EngineError
from prime_hub.runner.runtimes.oci_firewall import Bridges, Firewall, Side
from prime_hub.runner.runtimes.values import Egress


def side_of(egress: Egress) -> Side:
    """Where a sandbox stands: only one that may connect everywhere is let out by itself."""
    return "open" if egress.everywhere else "closed"


class Networks:
    """Made when they are first needed. `label` (NAME, VALUE) marks them as this runner's."""

    def __init__(self, engine: Engine, owner: str, label: tuple[str, str], firewall: Firewall | None) -> None:
        self._engine = engine
        self._owner = owner
        self._label = label
        self._firewall = firewall
        self._known: dict[Side, dict[str, Any]] = {}
        self._lock = asyncio.Lock()
        self._guarded = False

    @staticmethod
    def bridges(owner: str) -> Bridges:
        """The names of the bridges; an interface's name has at most 15 characters."""
        return Bridges(f"pr{owner[:8]}o", f"pr{owner[:8]}c")

    def name(self, side: Side) -> str:
        """The network's name in the engine."""
        return f"prime-{self._owner}-{side}"

    async def ensure(self, side: Side) -> str:
        """The name of a network that is there, guarded. Raises EngineError, RunnerError."""
        async with self._lock:
            if self._firewall is not None and not self._guarded:
                await self._firewall.set_up()
                self._guarded = True
            if side not in self._known:
                self._known[side] = await self._get(side) or await self._make(side)
            return self.name(side)

    def forget(self) -> None:
        """Look again next time: the engine or the firewall may have been restarted."""
        self._known.clear()
        self._guarded = False

    async def gateway(self, side: Side) -> str:
        """This host's address in a network."""
        await self.ensure(side)
        for config in self._known[side].get("IPAM", {}).get("Config") or []:
            if gateway := config.get("Gateway"):
                return str(gateway).partition("/")[0]
        raise RunnerError(f"The network {self.name(side)} has no address for this host.")

    async def _get(self, side: Side) -> dict[str, Any] | None:
        try:
            found = await self._engine.json("GET", f"networks/{self.name(side)}")
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        name, value = self._label
        if (found.get("Labels") or {}).get(name) != value:
            raise RunnerError(f"The network {self.name(side)} of the engine is not this runner's; remove it.")
        if bool(found.get("Internal")) != self._internal(side):
            await self._engine.json("DELETE", f"networks/{self.name(side)}")
            return None
        return found

    def _internal(self, side: Side) -> bool:
        # With a firewall of our own a sandbox can be let out later; without one the engine has to keep it in.
        return side == "closed" and self._firewall is None

    async def _make(self, side: Side) -> dict[str, Any]:
        bridges = self.bridges(self._owner)
        body = {
            "Name": self.name(side),
            "CheckDuplicate": True,
            "Driver": "bridge",
            "Internal": self._internal(side),
            "EnableIPv6": False,
            "Labels": dict([self._label]),
            "Options": {
                "com.docker.network.bridge.name": bridges.open if side == "open" else bridges.closed,
                "com.docker.network.bridge.enable_icc": "false",
            },
        }
        try:
            await self._engine.json("POST", "networks/create", body=body)
        except EngineError as error:
            raise RunnerError(
                f"The {self._engine.name} engine made no network for sandboxes: {error}. Remove networks that nobody "
                "uses ('docker network prune'), or give the engine more addresses."
            ) from None
        return await self._engine.json("GET", f"networks/{self.name(side)}")

    async def close(self) -> None:
        """Remove what nobody uses any more; the rules only when both networks are gone."""
        gone = True
        sides: tuple[Side, ...] = ("open", "closed")
        for side in sides:
            try:
                await self._engine.json("DELETE", f"networks/{self.name(side)}")
            except EngineError as error:
                gone = gone and error.status == 404
        if gone and self._firewall is not None:
            await self._firewall.close()
        self.forget()

    async def containers(self) -> set[str]:
        """The addresses in use in both networks, of whatever container."""
        found = await self._engine.json(
            "GET",
            "containers/json",
            params={"all": "true", "filters": json.dumps({"label": ["=".join(self._label)]})},
        )
        return {address for item in found for address in addresses(item.get("NetworkSettings") or {})}


def addresses(settings: dict[str, Any]) -> list[str]:
    """The addresses in an inspected container's network settings."""
    networks = (settings.get("Networks") or {}).values()
    return [str(network["IPAddress"]) for network in networks if network and network.get("IPAddress")]
