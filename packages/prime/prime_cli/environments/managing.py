"""Changing what is on the Hub: yank, visibility, delete, fork, star, transfer."""

from __future__ import annotations

from typing import Any

from prime_cli.environments.hub import data_of, hub
from prime_cli.environments.naming import named
from prime_core.errors import PrimeError
from prime_core.references import Reference


def one_version(env: str, version: str | None) -> Reference:
    """`OWNER/NAME@VERSION`, or `OWNER/NAME` with the version beside it. Raises PrimeError without a version."""
    reference = named(env)
    if version is not None and reference.version == "latest":
        reference = Reference(reference.owner, reference.name, version)
    elif version is not None:
        raise PrimeError(f"'{env}' names a version already, and '{version}' is another word.", "Give one of them.")
    if reference.version == "latest":
        raise PrimeError(
            "Which version is meant?",
            f"Name it, as in '{reference}@0.1.0'; 'prime env versions {reference}' shows those there are.",
        )
    return reference


def yank(reference: Reference, reason: str) -> dict[str, Any]:
    """Take a version out of what installers choose by themselves."""
    with hub() as client:
        return data_of(client.put(f"{reference.path}/yank", {"reason": reason}))


def unyank(reference: Reference) -> dict[str, Any]:
    """Take that back."""
    with hub() as client:
        return data_of(client.delete(f"{reference.path}/yank"))


def set_visibility(reference: Reference, visibility: str) -> dict[str, Any]:
    """Open or close an environment."""
    with hub() as client:
        return data_of(client.patch(reference.address, {"visibility": visibility}))


def delete_version(reference: Reference) -> dict[str, Any]:
    """Delete one version."""
    with hub() as client:
        return data_of(client.delete(reference.path))


def delete(reference: Reference) -> None:
    """Delete an environment with all that belongs to it."""
    with hub() as client:
        client.delete(reference.address)


def fork(reference: Reference, team: str | None) -> dict[str, Any]:
    """A copy of one's own, or of a team's: of the configured one where none is named."""
    from prime_core.config import load_config

    configured = load_config().team_id
    body: dict[str, Any] = {"version": reference.version}
    if team:
        body["team_slug"] = team
    elif configured:
        body["team_id"] = configured
    with hub() as client:
        return data_of(client.post(f"{reference.address}/fork", body))


def star(reference: Reference, starred: bool) -> dict[str, Any]:
    """Give a star, or take it back."""
    with hub() as client:
        call = client.put if starred else client.delete
        return data_of(call(f"{reference.address}/star"))


def transfer(reference: Reference, to: str) -> dict[str, Any]:
    """Make another account the owner."""
    with hub() as client:
        return data_of(client.post(f"{reference.address}/transfer", {"to": to}))


def owner_name(found: dict[str, Any], reference: Reference) -> str:
    """`owner/name` as the Hub writes it."""
    return f"{(found.get('owner') or {}).get('name') or reference.owner}/{found.get('name') or reference.name}"
