"""Secrets and variables of environments, and account-wide secrets, over the Hub's API (protocols/hub.md §3.9)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from prime_cli.environments.hub import data_of, hub
from prime_cli.environments.naming import named
from prime_core.errors import NotFound, PrimeError
from prime_core.references import parse_reference

if TYPE_CHECKING:
    from prime_core.api import APIClient


@dataclass(frozen=True)
class Place:
    """Where values lie: `kind` secret or variable; of an environment (`OWNER/NAME`), else of an account or a team."""

    kind: str
    env: str | None = None
    team: str | None = None

    def path(self, client: APIClient) -> str:
        """Its address. Raises NotFound for an environment that is not there."""
        if self.env is None:
            return "/secrets/"
        found = data_of(client.get(parse_reference(self.env).path))
        return f"/environmentshub/{found['id']}/{self.kind}s"

    def __str__(self) -> str:
        return self.env or self.team or "your account"


def of(kind: str, env: str) -> Place:
    """The place of an environment that is named on the command line. Raises InstallError, APIError."""
    return Place(kind, str(named(env)))


def all_of(place: Place) -> list[dict[str, Any]]:
    """Every row."""
    with hub() as client:
        return _rows(client, place, place.path(client))


def create(place: Place, name: str, value: str, description: str | None) -> dict[str, Any]:
    """A new one."""
    body: dict[str, Any] = {"name": name, "value": value}
    if description is not None:
        body["description"] = description
    if place.env is None and place.team:
        body["teamId"] = place.team
    with hub() as client:
        return data_of(client.post(place.path(client), body))


def update(place: Place, name: str | None, given_id: str | None, fields: dict[str, str]) -> dict[str, Any]:
    """Change one, found by its name or its id."""
    if not fields:
        raise PrimeError("Nothing is to be changed.", "Give --value, --value-stdin or --description.")
    with hub() as client:
        path = place.path(client)
        row_id = given_id or _found(client, place, path, name)["id"]
        return data_of(client.patch(f"{path.rstrip('/')}/{row_id}", fields))


def delete(place: Place, name: str | None, given_id: str | None) -> str:
    """Delete one, found by its name or its id; what it was called, as far as that is known."""
    with hub() as client:
        path = place.path(client)
        row_id = given_id or _found(client, place, path, name)["id"]
        client.delete(f"{path.rstrip('/')}/{row_id}")
    return name or row_id


def link(place: Place, secret: str, *, linked: bool) -> dict[str, Any]:
    """Link an environment to an account-wide secret of its owner (name or id), or cut that link."""
    assert place.env is not None
    reference = parse_reference(place.env)
    with hub() as client:
        path = place.path(client)
        if linked:
            me = data_of(client.get("/user/whoami")).get("slug")
            team = None if reference.owner.lower() == me else reference.owner
            source = Place("secret", team=team)
            row = _found(client, source, "/secrets/", secret)
            return data_of(client.post(f"{path}/link/{row['id']}"))
        row = _found(client, place, path, secret, source="global")
        client.delete(f"{path}/link/{row['id']}")
        return row


def _rows(client: APIClient, place: Place, path: str) -> list[dict[str, Any]]:
    params = {"teamId": place.team} if place.env is None and place.team else None
    found = data_of(client.get(path, params))
    return found if isinstance(found, list) else found.get(f"{place.kind}s") or []


def _found(client: APIClient, place: Place, path: str, word: str | None, source: str | None = None) -> dict[str, Any]:
    """The row of that name, or id; among several of one name the place's own."""
    rows = _rows(client, place, path)
    fitting = [row for row in rows if word in (row["name"], row["id"]) and source in (None, row.get("source"))]
    if not fitting:
        command = f"prime env {'secret' if place.kind == 'secret' else 'var'} list {place.env}"
        if place.env is None:
            command = "prime secret list" + (f" --team {place.team}" if place.team else "")
        raise NotFound(f"There is no {place.kind} {word} in {place}.", 404, hint=f"'{command}' shows those there are.")
    return next((row for row in fitting if row.get("source") != "global"), fitting[0])


def given_value(value: str | None, from_stdin: bool, *, secret: bool, ask: bool, name: str | None = None) -> str | None:
    """A value from the option, from standard input, or (where one is needed) from a prompt. Raises PrimeError."""
    if value is not None and from_stdin:
        raise typer.BadParameter("give either --value or --value-stdin, not both")
    if value is not None:
        return value
    if from_stdin:
        return sys.stdin.read().removesuffix("\n")
    if not ask:
        return None
    if not sys.stdin.isatty():
        raise PrimeError("A value is needed, and there is no terminal to ask for it.", "Pipe it in with --value-stdin.")
    return typer.prompt(f"Value of {name}", hide_input=secret, err=True)
