"""Who can reach a Hub, said when it starts."""

from __future__ import annotations

import ipaddress

from prime_hub.runner.egress_policy import Address, own_addresses
from prime_hub.settings import Settings


def words(host: str, port: int, settings: Settings) -> str:
    """What to tell the operator of a Hub that listens on `host`; empty where it listens to this machine alone."""
    listening = ipaddress.ip_address(host.split("%")[0])
    if listening.is_loopback:
        return ""
    others = _others(listening)
    lines = [f"  {_url(address, port)}" for address in others]
    if settings.frontend_url:
        lines.append(f"  {settings.frontend_url}  (--frontend-url)")
    where = "Others reach it at:" if lines else "This machine has no address in a network now."
    whoever = "anybody can make an account" if settings.sign_up else "the rest needs an account (prime hub user add)"
    warning = (
        "Warning: it is open to the network. Everybody there sees its public environments; "
        f"{whoever}. What is sent is not encrypted: where that matters, put a proxy with https before it."
    )
    return "\n".join([where, *lines, warning])


def _others(listening: Address) -> list[Address]:
    """The addresses of this machine at which something that listens there is reached from elsewhere."""
    if not listening.is_unspecified:
        return [listening]
    found = (
        address
        for address in own_addresses()
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified)
        and (listening.version == 6 or address.version == 4)
    )
    return sorted(found, key=lambda address: (address.version, int(address)))


def _url(address: Address, port: int) -> str:
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
