"""Where a sandbox may connect to: the entries of a `values.Egress`, read once and asked for every connection.

An entry is a host, `*.host`, an IP address or a CIDR block, each with `:port` or `:low-high` where it is not for every
port. What is decided about is the very address that will be connected to, so a name that resolves to this host's own
network (now, or at its second look-up) opens nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from prime_hub.runner.runtimes.values import Egress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ENTRY = re.compile(r"(?P<host>\[[^\]]+\](?:/\d{1,3})?|[^:\[\]]+)(?::(?P<low>\d{1,5})(?:-(?P<high>\d{1,5}))?)?")
_NAME = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Addresses of these hold an IPv4 address that a translator on the way would connect to in their place.
_TRANSLATED = tuple(
    ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


class BadEntry(ValueError):
    """An entry that says nothing; the sentence names it."""


@dataclass(frozen=True)
class Entry:
    """One entry: `name` (without its `*.`, which `below` stands for) or `network`, and the ports it is for."""

    text: str
    name: str | None
    below: bool
    network: Network | None
    low: int
    high: int

    @classmethod
    def read(cls, text: str) -> Entry:
        """Read one as it was written. Raises BadEntry."""
        wrong = BadEntry(
            f"'{text[:100]}' is no entry for where a sandbox may connect to; write a host, *.host, an IPv4 address or a "
            "CIDR block, with ':port' or ':low-high' behind it where it is not for every port."
        )
        match = _ENTRY.fullmatch(text.strip())
        if match is None:
            # An IPv6 address or block without brackets has no port.
            try:
                return cls(text, None, False, ipaddress.ip_network(text.strip(), strict=False), 1, 65535)
            except ValueError:
                raise wrong from None
        low = int(match["low"] or 1)
        high = int(match["high"] or match["low"] or 65535)
        if not 0 < low <= high < 65536:
            raise wrong
        host = match["host"].replace("[", "").replace("]", "")
        try:
            return cls(text, None, False, ipaddress.ip_network(host, strict=False), low, high)
        except ValueError:
            pass
        name = plain_name(host)
        if not _NAME.fullmatch(name) or re.fullmatch(r"[\d./]+", name):
            raise wrong
        return cls(text, name.removeprefix("*."), name.startswith("*."), None, low, high)

    def names(self, host: str, port: int) -> bool:
        """Whether this entry is for that host by its name."""
        if self.name is None or not self.low <= port <= self.high:
            return False
        return host.endswith("." + self.name) if self.below else host == self.name

    def covers(self, address: Address, port: int) -> bool:
        """Whether this entry is for that address."""
        return self.network is not None and self.low <= port <= self.high and address in self.network

    @property
    def inward(self) -> bool:
        """Whether it names addresses that are not of the public internet: all of it lies in a private network, or it
        is a single address. `0.0.0.0/0` is the internet and not this host.
        """
        network = self.network
        if network is None:
            return False
        if network.num_addresses == 1:
            return True
        return is_inward(network.network_address) and is_inward(network.broadcast_address) and network.prefixlen >= 7


class Policy:
    """A `values.Egress`, ready to be asked. `own` are this host's addresses, private whatever they look like."""

    def __init__(self, egress: Egress, own: Iterable[Address] = ()) -> None:
        self.egress = egress
        self._own = frozenset(own)
        self._allow = None if egress.allow is None else [Entry.read(text) for text in egress.allow]
        self._deny = [Entry.read(text) for text in egress.deny]

    def with_egress(self, egress: Egress) -> Policy:
        """Another policy on the same host. Raises BadEntry."""
        return Policy(egress, self._own)

    def refuses_name(self, host: str, port: int) -> str | None:
        """Why the name `host` is not even looked up; None when its addresses decide.

        Under a list of what is allowed only names of the list are looked up: a look-up tells the world something, too.
        """
        if any(entry.names(host, port) for entry in self._deny):
            return f"{host}:{port} is denied by this sandbox's egress policy."
        if self._allow is not None and not self._allow:
            return f"{host}:{port} cannot be reached: this sandbox's egress policy allows no connection."
        if self._allow and not any(entry.names(host, port) for entry in self._allow):
            return self._not_allowed(host, port)
        return None

    def refuses(self, host: str, port: int, address: Address) -> str | None:
        """Why there may be no connection to `address`, which `host` resolved to; None when there may."""
        address = plain_address(address)
        if any(entry.names(host, port) or entry.covers(address, port) for entry in self._deny):
            return f"{host}:{port} is denied by this sandbox's egress policy."
        covering = [entry for entry in self._allow or () if entry.covers(address, port)]
        if is_inward(address) or address in self._own:
            if any(entry.inward for entry in covering):
                return None
            return (
                f"{host}:{port} lies on this host or in a private network, which this sandbox's egress policy does not "
                "allow by its address."
            )
        if self._allow is None or covering or any(entry.names(host, port) for entry in self._allow):
            return None
        return self._not_allowed(host, port)

    @staticmethod
    def _not_allowed(host: str, port: int) -> str:
        return f"{host}:{port} is not among the hosts that this sandbox's egress policy allows."


def inward_entries(egress: Egress, own: Iterable[Address] = ()) -> list[str]:
    """The entries of `allow` that open private networks or this host itself, whose addresses are `own`: for whoever
    decides who may ask for them. Raises BadEntry.
    """
    here = frozenset(own)
    found = [(entry, entry.network[0]) for entry in map(Entry.read, egress.allow or ()) if entry.network is not None]
    return [entry.text for entry, first in found if entry.inward and (is_inward(first) or plain_address(first) in here)]


def plain_name(host: str) -> str:
    """A host's name as names are compared: lower case, without the last dot, in its ASCII form."""
    host = host.strip().lower().rstrip(".")
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def plain_address(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one, as what it is."""
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def is_inward(address: Address) -> bool:
    """Whether an address is not one of the public internet: loopback, private, link-local, multicast, reserved."""
    address = plain_address(address)
    if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _TRANSLATED):
        return True
    return not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified


def own_addresses() -> frozenset[Address]:
    """The addresses that this host itself has, as far as they can be told: from the kernel's tables, by its name, and
    from the addresses that its connections would have.
    """
    found: set[Address] = set()
    try:
        with open("/proc/net/fib_trie", encoding="ascii") as file:  # noqa: PTH123
            before = ""
            for line in file:
                if "host LOCAL" in line and "|--" in before:
                    found.add(ipaddress.ip_address(before.split("|--")[1].strip()))
                before = line
        with open("/proc/net/if_inet6", encoding="ascii") as file:  # noqa: PTH123
            found.update(ipaddress.IPv6Address(bytes.fromhex(line.split()[0])) for line in file)
    except (OSError, ValueError):
        pass
    try:
        named = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found.update(ipaddress.ip_address(item[4][0]) for item in named)
    except (OSError, ValueError):
        pass
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                # Of a datagram socket nothing is sent by this.
                probe.connect((target, 9))
                found.add(ipaddress.ip_address(probe.getsockname()[0].split("%")[0]))
        except (OSError, ValueError):
            continue
    return frozenset(found)
