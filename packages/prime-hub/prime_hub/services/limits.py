"""What one sandbox may be given of its machine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import TypeVar

from prime_hub.db.models import Account
from prime_hub.errors import Forbidden, Invalid
from prime_hub.runner.egress_policy import inward_entries, own_addresses
from prime_hub.runner.runtimes.values import Egress, Limits
from prime_hub.settings import GIB, Settings

HOURS = 3600

# Of `prime sandbox create`, which asks for an amount also where its user names none.
_OPTIONS = {"processors": "--cpus", "memory": "--memory", "disk": "--disk"}

Amount = TypeVar("Amount", int, float)


def bounded(wanted: Limits, settings: Settings) -> Limits:
    """The limits of a sandbox, with this Hub's where none were asked for.

    Raises Invalid for more than it allows one sandbox, or one account: that would wait forever.
    """
    return Limits(
        _bounded(wanted.cpus, _least(settings.max_sandbox_cpus, settings.account_cpus), "processors"),
        _bounded(
            wanted.memory_bytes,
            _least(settings.max_sandbox_memory_bytes, settings.account_memory_bytes),
            "GiB of memory",
            GIB,
        ),
        _bounded(wanted.pids, settings.max_sandbox_pids, "processes"),
        _bounded(wanted.disk_bytes, settings.max_sandbox_disk_bytes, "GiB of disk", GIB),
    )


def lifetime(wanted: float | None, settings: Settings) -> float:
    """For how many seconds it may live: as long as this Hub allows where nothing was asked for. Raises Invalid beyond it."""
    most = settings.max_sandbox_seconds
    if wanted is not None and wanted > most:
        raise Invalid(
            f"A sandbox of this Hub lives for at most {most / HOURS:g} hours, and {wanted / HOURS:g} were asked for; ask "
            f"for less: --timeout {most // 60}m."
        )
    return wanted or most


def require_on_machine(limits: Limits, machine: Mapping[str, float | None]) -> None:
    """Raises Invalid for more than the sandboxes' machine has (`cpus`, `memory_bytes`, `disk_bytes`; None: it does not
    tell), of which no waiting would make it more. What clients ask for by themselves is not refused on a small machine.
    """
    for asked, name, what, unit, usual in (
        (limits.cpus, "cpus", "processors", 1, 2),
        (limits.memory_bytes, "memory_bytes", "GiB of memory", GIB, 4 * GIB),
        (limits.disk_bytes, "disk_bytes", "GiB of disk", GIB, 10 * GIB),
    ):
        has = machine.get(name)
        if asked is None or has is None or asked <= max(has, usual):
            continue
        option = next(option for word, option in _OPTIONS.items() if word in what)
        most = math.floor(max(has, usual) / unit * 10) / 10
        raise Invalid(
            f"This Hub's machine has at most {most:g} {what} for a sandbox, and {asked / unit:.9g} were asked for; ask for "
            f"less: {option} {most:g}."
        )


async def require_outward(account: Account, egress: Egress, team: bool) -> None:
    """Raises Forbidden where somebody from elsewhere, or a team, who may be anywhere, asks for the way into this machine
    or its private networks.
    """
    if (account.local and not team) or not egress.allow:
        return
    # A machine of the internet is reached from within by its public address as well.
    inward = inward_entries(egress, await asyncio.to_thread(own_addresses))
    if inward:
        raise Forbidden(
            f"'{inward[0]}' lies on this Hub's machine or in a private network of it; only accounts made on that machine "
            "may let a sandbox of their own connect there."
        )


def _bounded(asked: Amount | None, most: Amount | None, what: str, unit: int = 1) -> Amount | None:
    if asked is not None and most and asked > most:
        sentence = f"A sandbox of this Hub may have at most {most / unit:g} {what}, and {asked / unit:g} were asked for"
        option = next((option for word, option in _OPTIONS.items() if word in what), None)
        raise Invalid(f"{sentence}; ask for less: {option} {most / unit:g}." if option else f"{sentence}.")
    return asked or most or None


def _least(*limits: Amount | None) -> Amount | None:
    given = [limit for limit in limits if limit]
    return min(given) if given else None
