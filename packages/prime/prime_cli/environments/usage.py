"""`prime env usage`: how often an environment was installed and pulled."""

from __future__ import annotations

from prime_cli.environments.hub import data_of, hub
from prime_cli.output import Output
from prime_core.references import Reference

KINDS = ("installs", "pulls", "evaluations")
"""In this order, those that the Hub tells of."""
BAR = 30


def show_usage(out: Output, reference: Reference, *, days: int, as_json: bool) -> None:
    """Print totals, and day by day what the Hub counted in the last `days` days (UTC), the newest first."""
    query = {"days": days, "version": None if reference.version == "latest" else reference.version}
    with hub(require_auth=False) as client:
        found = data_of(client.get(f"{reference.address}/usage", query))
    if as_json:
        out.json(found)
        return
    totals = found.get("totals") or {}
    ever = totals.get("all_time") or {}
    kinds = [kind for kind in KINDS if kind in ever]
    if not any(ever.values()):
        out.note("Nobody has installed it yet.")
        out.note(f"Install it with: prime env install {reference}")
        return
    names = {"all_time": "ALL TIME", "last_30_days": "30 DAYS", "last_7_days": "7 DAYS"}
    shown = [name for name in names if name in totals]
    out.table(
        ["", *(names[name] for name in shown)],
        [[kind.capitalize(), *(f"{totals[name].get(kind, 0):,}" for name in shown)] for kind in kinds],
    )
    rows = [(row, sum(row.get(kind) or 0 for kind in kinds)) for row in reversed(found.get("days") or [])]
    most = max((count for _, count in rows), default=0)
    if not most:
        out.note(f"Nothing in the last {days} days.")
        return
    out.data()
    out.table(
        ["DAY", *(kind.upper() for kind in kinds), ""],
        [[row.get("day"), *(row.get(kind) for kind in kinds), _bar(count, most)] for row, count in rows if count],
    )
    out.note(f"Of the last {days} days, in UTC; days without anything are left out.")


def _bar(count: int, most: int) -> str:
    return "█" * max(1, round(BAR * count / most))
