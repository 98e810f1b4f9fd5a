"""`prime env check OWNER/NAME --on-hub`: the Hub makes the check; here it is asked for, waited for and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prime_cli.environments.check import show
from prime_cli.environments.hub import data_of, hub
from prime_cli.interrupts import saying
from prime_cli.output import Output
from prime_core.errors import Forbidden, PackagingError, PrimeError

if TYPE_CHECKING:
    from prime_core.api import APIClient
    from prime_core.references import Reference

HOLD_SECONDS = 20
GOING = ("queued", "running")


class NotMade(PrimeError):
    """The Hub could not make the check."""


def check_on_hub(env: str | None, out: Output, *, as_json: bool) -> int:
    """Have the Hub check a version, wait for it and show what it found; the exit code. Raises PrimeError."""
    from prime_core.checks.report import Report
    from prime_core.references import parse_reference

    if env is None or "/" not in env:
        raise PackagingError(
            "The Hub checks what is published on it.",
            "Name it: prime env check OWNER/NAME --on-hub; a folder is checked without --on-hub.",
        )
    reference = parse_reference(env)
    with hub() as client:
        try:
            begun = data_of(client.post(f"{reference.path}/check"))
        except Forbidden as error:
            found = _earlier(client, reference, error)
            out.note(
                f"Only who may publish {reference.owner}/{reference.name} has it checked; this is what the Hub found before."
            )
        else:
            with saying(f"the check goes on on the Hub: {begun['page_url']}"):
                found = _waited(client, f"{reference.address}/@{begun['version']}/check", begun, out)
    if found["state"] == "failed":
        if found.get("log"):
            out.log(f"{found['log'].rstrip()}\n")
        raise NotMade(f"The Hub could not make the check: {found['reason']}", f"Its page: {found['page_url']}")
    if found.get("report") is None:
        raise NotMade("The version was deleted while it was checked.")
    report = Report.from_dict(found["report"])
    if as_json:
        about = {name: found.get(name) for name in ("checked_at", "runtime", "badge", "page_url")}
        out.json({**report.as_dict(), "hub": about})
    else:
        show(report, out)
        out.note(f"Checked by the Hub, on the runtime {found['runtime']}: {found['page_url']}")
    return report.exit_code


def _earlier(client: APIClient, reference: Reference, error: Forbidden) -> dict[str, Any]:
    """What was found before, for who may read it and not begin it. Raises the refusal where there is nothing."""
    found = data_of(client.get(f"{reference.path}/check"))
    if found.get("report") is None:
        raise error
    return {**found, "state": "done"}


def _waited(client: APIClient, path: str, found: dict[str, Any], out: Output) -> dict[str, Any]:
    told = None
    while True:
        now = _going_on(found)
        if now != told:
            out.note(now)
            told = now
        found = data_of(client.get(path, {"wait": HOLD_SECONDS}, timeout=HOLD_SECONDS + 15))
        if found["state"] not in GOING:
            return found


def _going_on(found: dict[str, Any]) -> str:
    shown = f"{found['owner']}/{found['name']} {found['version']}"
    if found["state"] == "queued":
        return f"The Hub checks {shown} when its turn comes"
    progress = found.get("progress")
    if progress in (None, "installing"):
        return f"The Hub is installing {shown}"
    return "Starting the checker" if progress == "starting" else f"Checking {progress}"
