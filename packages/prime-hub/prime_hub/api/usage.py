"""How much an environment is used. A field for each kind of which there is something to tell: pulls, installs, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query

from prime_hub.api.deps import API, CallerDep, HubDep
from prime_hub.services.usage import LONGEST_DAYS, Counts, Kind

router = APIRouter(prefix=f"{API}/environmentshub", tags=["environments"])


@router.get("/{owner}/{name}/usage")
async def usage(
    owner: str,
    name: str,
    hub: HubDep,
    caller: CallerDep,
    days: Annotated[int, Query(ge=1, le=LONGEST_DAYS)] = 30,
    version: Annotated[str | None, Query(max_length=80)] = None,
) -> dict[str, Any]:
    """Totals, each of the last `days` days (UTC, the oldest first), and what each version has of them (the newest first).

    Totals and days are those of `version` where one is asked for.
    """
    environment = await hub.catalogue.environment(caller, owner, name)
    only = await hub.catalogue.version(environment, version) if version else None
    report = await hub.usage.of(environment, days, only)
    spans = {f"last_{span}_days": _fields(counts, report.kinds) for span, counts in report.spans.items()}
    return {
        "data": {
            "totals": {"all_time": _fields(report.total, report.kinds), **spans},
            "days": [{"day": day.isoformat(), **_fields(counts, report.kinds)} for day, counts in report.days.items()],
            "versions": [
                {"version": number, **_fields(within, report.kinds), "all_time": _fields(ever, report.kinds)}
                for number, (within, ever) in report.versions.items()
            ],
        }
    }


def _fields(counts: Counts, kinds: Sequence[Kind]) -> dict[str, int]:
    return {f"{kind.value}s": counts[kind] for kind in kinds}
