"""Rules of this host's firewall for the bridges of one runner's sandboxes.

They stand in the mangle table, which container engines leave alone and which is asked before the tables that they
rewrite at every start. A bridge `open` lets out to public addresses only, a bridge `closed` lets nothing out; neither
lets a sandbox reach this host, a private network or another sandbox, nor anybody but this host reach a sandbox. Single
sandboxes get exceptions by their address, which they can neither choose nor fake (no NET_ADMIN, no NET_RAW).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prime_hub.runner.children import Children
from prime_hub.runner.runtimes.base import RunnerError

Side = Literal["open", "closed"]
PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
"""Addresses that are nobody's in public: this host's networks, and the metadata services of clouds."""
SECONDS = 20.0
_ESTABLISHED = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "RETURN")


@dataclass(frozen=True)
class Bridges:
    """The names of the two bridges."""

    open: str
    closed: str


class Firewall:
    """The rules of one runner; `owner` is in their names. Only one that may change rules should be made."""

    def __init__(self, children: Children, owner: str, bridges: Bridges) -> None:
        self._children = children
        self._bridges = bridges
        self._public, self._open, self._closed, self._host, self._into = (
            f"PRIME-{owner}-{name}" for name in ("PUB", "OPEN", "SHUT", "HOST", "INTO")
        )
        self._lock = asyncio.Lock()

    @staticmethod
    async def works(children: Children) -> str | None:
        """Why this program cannot use the firewall; None when it can."""
        if os.geteuid() != 0:
            return "only root can change the firewall"
        if _program("iptables") is None:
            return "iptables is not installed"
        code, _ = await _iptables(children, "iptables", "-t", "mangle", "-S", "FORWARD")
        return None if code == 0 else "iptables does not work here"

    async def set_up(self) -> None:
        """Have the rules in place; what stands for single sandboxes of an earlier runner stays. Raises RunnerError."""
        names = [f"-d{address}" for address in _resolvers()]
        public: list[tuple[str, ...]] = [
            (*_words(address), "-p", kind, "--dport", "53", "-j", "RETURN")
            for address in names
            for kind in ("udp", "tcp")
        ]
        public += [("-d", network, "-j", "DROP") for network in PRIVATE]
        chains: dict[str, list[tuple[str, ...]]] = {
            self._public: public,
            self._open: [_ESTABLISHED, ("-j", self._public)],
            self._closed: [_ESTABLISHED, ("-j", "DROP")],
            self._host: [_ESTABLISHED, ("-j", "DROP")],
            self._into: [_ESTABLISHED, ("-j", "DROP")],
        }
        async with self._lock:
            for chain, rules in chains.items():
                await self._have_chain("iptables", chain, rules)
            for table_chain, rule in self._hooks():
                await self._have_rule("iptables", table_chain, rule)
            for bridge in (self._bridges.open, self._bridges.closed):
                for table_chain in ("INPUT", "FORWARD"):
                    # Sandboxes have no IPv6; what still speaks it on their bridges is not let through.
                    if _program("ip6tables") is not None:
                        await self._have_rule("ip6tables", table_chain, ("-i", bridge, "-j", "DROP"))

    def _hooks(self) -> list[tuple[str, tuple[str, ...]]]:
        found: list[tuple[str, tuple[str, ...]]] = []
        for bridge, chain in ((self._bridges.open, self._open), (self._bridges.closed, self._closed)):
            found.append(("INPUT", ("-i", bridge, "-j", self._host)))
            found.append(("FORWARD", ("-i", bridge, "-j", chain)))
            found.append(("FORWARD", ("-o", bridge, "-j", self._into)))
        return found

    async def _have_chain(self, program: str, chain: str, rules: list[tuple[str, ...]]) -> None:
        code, shown = await _iptables(self._children, program, "-t", "mangle", "-S", chain)
        if code == 0 and len(shown.splitlines()) > len(rules):
            return
        if code != 0:
            await self._run(program, "-N", chain)
        else:
            await self._run(program, "-F", chain)
        for rule in rules:
            await self._run(program, "-A", chain, *rule)

    async def _have_rule(self, program: str, chain: str, rule: tuple[str, ...]) -> None:
        code, _ = await _iptables(self._children, program, "-t", "mangle", "-C", chain, *rule)
        if code != 0:
            await self._run(program, "-I", chain, "1", *rule)

    async def let_out(self, address: str, born: Side, now: Side) -> None:
        """Make an exception for the sandbox at `address`, or take it back. Raises RunnerError."""
        chain = self._open if born == "open" else self._closed
        rule = ("-s", address, "-j", "DROP") if born == "open" else ("-s", address, "-g", self._public)
        async with self._lock:
            await self._drop_rule(chain, rule)
            if now != born:
                await self._run("iptables", "-I", chain, "2", *rule)

    async def let_ask(self, address: str, gateway: str, port: int) -> None:
        """Let the sandbox at `address` connect to a port of this host's side of its bridge. Raises RunnerError."""
        rule = ("-s", address, "-d", gateway, "-p", "tcp", "-m", "tcp", "--dport", str(port), "-j", "RETURN")
        async with self._lock:
            await self._drop_rule(self._host, rule)
            await self._run("iptables", "-I", self._host, "2", *rule)

    async def forget(self, address: str) -> None:
        """Remove every exception for an address, before it can become another sandbox's."""
        async with self._lock:
            for chain in (self._open, self._closed, self._host):
                code, shown = await _iptables(self._children, "iptables", "-t", "mangle", "-S", chain)
                for line in shown.splitlines() if code == 0 else ():
                    if re.search(rf"(^| )-s {re.escape(address)}(/32)?( |$)", line):
                        await _iptables(self._children, "iptables", "-t", "mangle", "-D", *line.split()[1:])

    async def addresses(self) -> set[str]:
        """For whom exceptions stand."""
        found: set[str] = set()
        for chain in (self._open, self._closed, self._host):
            code, shown = await _iptables(self._children, "iptables", "-t", "mangle", "-S", chain)
            found |= set(re.findall(r" -s ([0-9.]+)", shown)) if code == 0 else set()
        return found

    async def close(self) -> None:
        """Remove all of it."""
        async with self._lock:
            for table_chain, rule in self._hooks():
                await _iptables(self._children, "iptables", "-t", "mangle", "-D", table_chain, *rule)
            for chain in (self._open, self._closed, self._host, self._into, self._public):
                await _iptables(self._children, "iptables", "-t", "mangle", "-F", chain)
            for chain in (self._open, self._closed, self._host, self._into, self._public):
                await _iptables(self._children, "iptables", "-t", "mangle", "-X", chain)
            for bridge in (self._bridges.open, self._bridges.closed):
                for table_chain in ("INPUT", "FORWARD") if _program("ip6tables") else ():
                    rule = ("-i", bridge, "-j", "DROP")
                    await _iptables(self._children, "ip6tables", "-t", "mangle", "-D", table_chain, *rule)

    async def _drop_rule(self, chain: str, rule: tuple[str, ...]) -> None:
        for _ in range(8):
            code, _shown = await _iptables(self._children, "iptables", "-t", "mangle", "-D", chain, *rule)
            if code != 0:
                return

    async def _run(self, program: str, *words: str) -> None:
        code, shown = await _iptables(self._children, program, "-t", "mangle", *words)
        if code != 0:
            raise RunnerError(
                f"The firewall did not take a rule for sandboxes ('{program} -t mangle {' '.join(words)}' ended with "
                f"{code}{': ' + shown.strip() if shown.strip() else ''}); see 'prime hub doctor'."
            )


def _words(option: str) -> tuple[str, str]:
    return option[:2], option[2:]


def _program(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")


async def _iptables(children: Children, program: str, *words: str) -> tuple[int, str]:
    path = _program(program)
    if path is None:
        return 127, ""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}
    return await children.capture([path, "-w", "10", *words], cwd=Path("/"), env=env, limit=SECONDS)


def _resolvers() -> list[str]:
    """The name servers of this host that lie in networks which are closed otherwise."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return []
    found = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    return [address for address in found if re.fullmatch(r"\d+(\.\d+){3}", address) and not address.startswith("127.")]


def bridge_filter() -> bool:
    """Whether the firewall sees what passes between two ports of one bridge."""
    try:
        return Path("/proc/sys/net/bridge/bridge-nf-call-iptables").read_text().strip() == "1"
    except OSError:
        return False
