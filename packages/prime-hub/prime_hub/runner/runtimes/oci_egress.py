"""The way out of each sandbox: closed, everywhere, or the runner's proxy at this host's side of its bridge."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from prime_hub.runner.egress import EgressProxy
from prime_hub.runner.egress_policy import BadEntry
from prime_hub.runner.runtimes.base import ExecError, StartError
from prime_hub.runner.runtimes.oci_firewall import Firewall
from prime_hub.runner.runtimes.oci_network import Networks, side_of
from prime_hub.runner.runtimes.values import Egress

if TYPE_CHECKING:
    from prime_hub.runner.runtimes.oci_sandbox import ContainerSandbox

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
IP_FREEBIND = 15


class WaysOut:
    """Those of one runner's sandboxes; without a firewall none can be changed."""

    def __init__(self, networks: Networks, firewall: Firewall | None, why_no_firewall: str | None) -> None:
        self._networks = networks
        self._firewall = firewall
        self._why_no_firewall = why_no_firewall
        self._proxy = EgressProxy()

    async def open(self, box: ContainerSandbox, gateway: str, port: int = 0) -> None:
        """Serve the sandbox's proxy at this host's side of its bridge. Raises StartError."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Podman makes the bridge, and with it the address, only for the first container.
            listener.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
            listener.bind((gateway, port))
            listener.listen(128)
            await self._proxy.serve(box.id, box.spec.egress, listener)
        except BadEntry as error:
            listener.close()
            raise StartError(str(error)) from None
        except OSError as error:
            listener.close()
            raise StartError(f"The sandbox's way out could not be opened at {gateway}: {error.strerror}.") from None
        box.gateway, box.proxy_port = gateway, listener.getsockname()[1]

    def variables(self, box: ContainerSandbox) -> dict[str, str]:
        """What tells programs in a sandbox of its way out."""
        if box.proxy_port is None or box.gateway is None:
            return {}
        address = f"http://{box.gateway}:{box.proxy_port}"
        found = {name: address for upper in PROXY_NAMES for name in (upper, upper.lower())}
        return {**found, "NO_PROXY": "localhost,127.0.0.1,::1", "no_proxy": "localhost,127.0.0.1,::1"}

    async def change(self, box: ContainerSandbox, egress: Egress) -> None:
        """Change where a running sandbox may connect to. Raises ExecError."""
        if self._firewall is None:
            raise ExecError(
                f"Where a running sandbox may connect to cannot be changed here: {self._why_no_firewall}; start "
                "another sandbox instead."
            )
        if box.address is None:
            raise ExecError("The sandbox has no network.")
        try:
            if box.proxy_port is not None:
                self._proxy.set(box.id, egress)
            elif not egress.everywhere and not egress.none:
                gateway = await self._networks.gateway(box.born)
                await self.open(replace_spec(box, egress), gateway)
                await self._firewall.let_ask(box.address, gateway, box.proxy_port or 0)
            await self._firewall.let_out(box.address, box.born, side_of(egress))
        except BadEntry as error:
            raise ExecError(str(error)) from None
        except StartError as error:
            raise ExecError(str(error)) from None
        replace_spec(box, egress)

    async def close(self, box: ContainerSandbox) -> None:
        """Before its address can become another sandbox's."""
        if box.proxy_port is not None:
            await self._proxy.end(box.id)
        if self._firewall is not None and box.address is not None and (box.proxy_port is not None or box.changed):
            await self._firewall.forget(box.address)

    async def arrive(self, box: ContainerSandbox) -> None:
        """Let a sandbox that has its address now ask the proxy. Raises RunnerError."""
        if (
            box.address is not None
            and box.gateway is not None
            and box.proxy_port is not None
            and self._firewall is not None
        ):
            await self._firewall.let_ask(box.address, box.gateway, box.proxy_port)

    async def end(self) -> None:
        """Close every proxy."""
        await self._proxy.close()


def replace_spec(box: ContainerSandbox, egress: Egress) -> ContainerSandbox:
    """The sandbox, which knows now where it may connect to."""
    box.spec = replace(box.spec, egress=egress)
    box.changed = True
    return box
