"""What the `prime sandbox` commands share: finding a sandbox, reading sizes, times and variables, showing what there is."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prime_cli.output import out
from prime_core.errors import NotFound, PrimeError

if TYPE_CHECKING:
    from prime_core.connection import Connection
    from prime_sandboxes import Sandbox, SandboxClient

LIVING = frozenset({"PENDING", "PROVISIONING", "RUNNING", "PAUSED"})
SHORTEST_PREFIX = 4
PAGE = 100
# The words for a status.
LABELS = {
    "PENDING": "Waiting",
    "PROVISIONING": "Starting",
    "RUNNING": "Running",
    "PAUSED": "Paused",
    "ERROR": "Failed",
    "TERMINATED": "Ended",
    "TIMEOUT": "Timed out",
}


TeamOption = Annotated[
    str | None,
    typer.Option(
        "--team", "--team-id", metavar="NAME", help="Of this team, by name or id; '' for yourself. [the one in force]"
    ),
]


def connected(team: str | None = None) -> Connection:
    """The Hub in force, its key, and the team that is acted for: `team` where one is named, "" being none. The machine's own
    Hub is started when nothing else is configured.
    """
    from prime_core.connection import connect

    found = connect(announce=out.note)
    return found if team is None else replace(found, team_id=team.strip() or None)


def own_id(hub: Connection) -> str:
    """The id of the account."""
    from prime_core.api import APIClient

    with APIClient(hub.base_url, hub.api_key) as client:
        return str(client.get("/user/whoami")["data"]["id"])


@contextmanager
def hinting(hint: str) -> Generator[None]:
    """What to run next when something is not found here."""
    try:
        yield
    except NotFound as error:
        error.hint = error.hint or hint
        raise


def every(
    client: SandboxClient,
    alive: bool,
    status: str | None = None,
    labels: list[str] | None = None,
    user: str | None = None,
) -> list[Sandbox]:
    """All sandboxes of the account, or of the team that is acted for, newest first."""
    found: list[Sandbox] = []
    page = 1
    while True:
        answer = client.list(
            status=status,
            labels=labels,
            page=page,
            per_page=PAGE,
            exclude_terminated=True if alive else None,
            user_id=user,
        )
        found += answer.sandboxes
        if not answer.has_next:
            return found
        page += 1


def find(client: SandboxClient, word: str) -> Sandbox:
    """The sandbox of this id, else the living one of this name, or whose id begins so, else the last of this name that has
    ended. Raises NotFound, PrimeError.
    """
    with hinting("Run 'prime sandbox list' to see those that run, and 'prime sandbox list --all' for all."):
        try:
            return client.get(word)
        except NotFound:
            living = every(client, alive=True)
            named = [item for item in living if item.name == word]
            if not named and len(word) >= SHORTEST_PREFIX:
                named = [item for item in living if item.id.startswith(word)]
            if not named:
                # Why one has ended is asked for by its name, too.
                newest = client.list(per_page=PAGE).sandboxes
                named = [item for item in newest if item.name == word][:1]
            if not named:
                raise NotFound(f"There is no sandbox '{word}'.", 404) from None
    if len(named) > 1:
        ids = ", ".join(item.id for item in named)
        raise PrimeError(f"{len(named)} sandboxes are meant by '{word}': {ids}.", "Name one by its id.")
    return named[0]


def variables(given: Iterable[str], option: str, from_here: bool) -> dict[str, str]:
    """`KEY=VALUE`s as a dict; with `from_here`, a bare KEY takes its value from this shell's environment."""
    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise typer.BadParameter(f"'{item}' is not KEY=VALUE", param_hint=option)
        if not equals:
            if not from_here:
                raise typer.BadParameter(f"'{item}' has no value; write {item}=VALUE", param_hint=option)
            if name not in os.environ:
                raise typer.BadParameter(f"{name} is not set in this shell's environment", param_hint=option)
            value = os.environ[name]
        found[name] = value
    return found


def minutes(text: str, option: str) -> int:
    """`90`, `90m`, `2h` or `1d` as minutes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(m|min|h|d)?", text.strip().lower())
    factor = {"m": 1, "min": 1, "h": 60, "d": 1440}.get((match.group(2) or "m") if match else "", 0)
    found = round(float(match.group(1)) * factor) if match else 0
    if found < 1:
        raise typer.BadParameter(
            f"'{text}' is no time; write minutes (90), or 90m, 2h, 1d; one minute at least", param_hint=option
        )
    return found


def gigabytes(text: str, option: str) -> float:
    """`2`, `2G`, `2GB` or `512M` as gigabytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(g|gb|gib|m|mb|mib)?", text.strip().lower())
    found = 0.0
    if match:
        found = float(match.group(1)) / (1024 if (match.group(2) or "g").startswith("m") else 1)
    if found <= 0:
        raise typer.BadParameter(f"'{text}' is no size; write gigabytes (2 or 0.5), or 512M", param_hint=option)
    return found


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def span(seconds: float) -> str:
    """Seconds for a person: `45s`, `12m`, `3h`, `2d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size or (size != 86400 and seconds >= size and unit != "m"):
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


def age(text: str | None) -> str | None:
    """How long ago a moment is."""
    moment = _moment(text)
    return None if moment is None else span((datetime.now(UTC) - moment).total_seconds())


def left(text: str | None) -> str | None:
    """How far off a moment is."""
    moment = _moment(text)
    return None if moment is None else span((moment - datetime.now(UTC)).total_seconds())


def row(sandbox: Sandbox) -> dict[str, Any]:
    """A sandbox as JSON, under the names of the wire."""
    return {
        "id": sandbox.id,
        "name": sandbox.name,
        "dockerImage": sandbox.docker_image,
        "imageDigest": sandbox.image_digest,
        "status": sandbox.status,
        "pendingReason": sandbox.pending_reason,
        "cpuCores": sandbox.cpu_cores,
        "memoryGB": sandbox.memory_gb,
        "diskSizeGB": sandbox.disk_size_gb,
        "timeoutMinutes": sandbox.timeout_minutes,
        "idleTimeoutMinutes": sandbox.idle_timeout_minutes,
        "labels": sandbox.labels,
        "userId": sandbox.user_id,
        "teamId": sandbox.team_id,
        "createdAt": sandbox.created_at,
        "startedAt": sandbox.started_at,
        "terminatedAt": sandbox.terminated_at,
        "expiresAt": sandbox.expires_at,
        "exitCode": sandbox.exit_code,
        "errorType": sandbox.error_type,
        "errorMessage": sandbox.error_message,
    }


def size(count: float | None) -> str | None:
    """Bytes for a person to read, in powers of 1000."""
    if count is None:
        return None
    amount, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
