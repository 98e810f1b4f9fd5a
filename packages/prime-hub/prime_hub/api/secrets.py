"""Secrets and variables of environments, and secrets of accounts (hub.md §3.9). A value goes in and never comes out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from prime_hub.api.asked import Asked
from prime_hub.api.deps import API, AccountDep, HubDep
from prime_hub.db.models import Secret, Variable
from prime_hub.errors import Invalid
from prime_hub.services.secrets import Fields

of_environments = APIRouter(prefix=f"{API}/environmentshub", tags=["secrets"])
of_accounts = APIRouter(prefix=f"{API}/secrets", tags=["secrets"])

TeamId = Annotated[str | None, Query(alias="teamId", max_length=64)]


class CreateBody(Asked):
    """A new secret or variable."""

    name: str
    value: str = Field(repr=False)
    description: str | None = None

    def fields(self) -> Fields:
        """The service's form of it."""
        return Fields(self.name, self.value, self.description)


class CreateOwnBody(CreateBody):
    """A new secret of the caller's account, or of a team's (id or name)."""

    isFile: bool = False
    teamId: str | None = None


class UpdateBody(Asked):
    """What is to be changed; what is left out stays."""

    name: str | None = None
    value: str | None = Field(default=None, repr=False)
    description: str | None = None

    def fields(self) -> Fields:
        """The service's form of it."""
        return Fields(self.name, self.value, self.description)


class UpdateOwnBody(UpdateBody):
    """The same of a secret of an account."""

    isFile: bool = False


def _no_file(is_file: bool) -> None:
    if is_file:
        raise Invalid("This Hub gives secrets as environment variables, not as files; leave isFile out.")


def _secret(row: Secret) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "source": "environment" if row.environment_id else "global",
        "description": row.description,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    }


def _variable(row: Variable) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "value": row.value,
        "description": row.description,
        "createdAt": row.created_at,
        "updatedAt": row.updated_at,
    }


@of_environments.get("/{environment_id}/secrets")
async def secrets(environment_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Names of the environment's own secrets and of those it is linked to."""
    return {"data": [_secret(row) for row in await hub.secrets.of_environment(account, environment_id)]}


@of_environments.post("/{environment_id}/secrets")
async def create_secret(environment_id: str, body: CreateBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Store a secret of the environment."""
    return {"data": _secret(await hub.secrets.create(account, environment_id, body.fields()))}


@of_environments.post("/{environment_id}/secrets/link/{secret_id}")
async def link(environment_id: str, secret_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Let it have a secret of its owner's account."""
    return {"data": _secret(await hub.secrets.link(account, environment_id, secret_id))}


@of_environments.delete("/{environment_id}/secrets/link/{secret_id}", status_code=204)
async def unlink(environment_id: str, secret_id: str, account: AccountDep, hub: HubDep) -> Response:
    """Cut that link."""
    await hub.secrets.unlink(account, environment_id, secret_id)
    return Response(status_code=204)


@of_environments.patch("/{environment_id}/secrets/{secret_id}")
async def update_secret(
    environment_id: str, secret_id: str, body: UpdateBody, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Change one of its own."""
    return {"data": _secret(await hub.secrets.update(account, environment_id, secret_id, body.fields()))}


@of_environments.delete("/{environment_id}/secrets/{secret_id}", status_code=204)
async def delete_secret(environment_id: str, secret_id: str, account: AccountDep, hub: HubDep) -> Response:
    """Delete one of its own."""
    await hub.secrets.delete(account, environment_id, secret_id)
    return Response(status_code=204)


@of_environments.get("/{environment_id}/variables")
async def variables(environment_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """The environment's variables, with their values."""
    return {"data": [_variable(row) for row in await hub.variables.all(account, environment_id)]}


@of_environments.post("/{environment_id}/variables")
async def create_variable(environment_id: str, body: CreateBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Set a variable."""
    return {"data": _variable(await hub.variables.create(account, environment_id, body.fields()))}


@of_environments.patch("/{environment_id}/variables/{variable_id}")
async def update_variable(
    environment_id: str, variable_id: str, body: UpdateBody, account: AccountDep, hub: HubDep
) -> dict[str, Any]:
    """Change one."""
    return {"data": _variable(await hub.variables.update(account, environment_id, variable_id, body.fields()))}


@of_environments.delete("/{environment_id}/variables/{variable_id}", status_code=204)
async def delete_variable(environment_id: str, variable_id: str, account: AccountDep, hub: HubDep) -> Response:
    """Delete one."""
    await hub.variables.delete(account, environment_id, variable_id)
    return Response(status_code=204)


@of_accounts.get("/")
async def own_secrets(account: AccountDep, hub: HubDep, team: TeamId = None) -> dict[str, Any]:
    """Names of the caller's own secrets, or of a team's."""
    return {"data": [_secret(row) for row in await hub.secrets.of_account(account, team)]}


@of_accounts.post("/")
async def create_own(body: CreateOwnBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Store a secret of the account's, or a team's."""
    _no_file(body.isFile)
    return {"data": _secret(await hub.secrets.create_own(account, body.teamId, body.fields()))}


@of_accounts.get("/{secret_id}")
async def own_secret(secret_id: str, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """One of them, without its value."""
    return {"data": _secret(await hub.secrets.own(account, secret_id))}


@of_accounts.patch("/{secret_id}")
async def update_own(secret_id: str, body: UpdateOwnBody, account: AccountDep, hub: HubDep) -> dict[str, Any]:
    """Change one of them."""
    _no_file(body.isFile)
    return {"data": _secret(await hub.secrets.update_own(account, secret_id, body.fields()))}


@of_accounts.delete("/{secret_id}", status_code=204)
async def delete_own(secret_id: str, account: AccountDep, hub: HubDep) -> Response:
    """Delete one of them."""
    await hub.secrets.delete_own(account, secret_id)
    return Response(status_code=204)
