"""Secrets of an account and of its teams, and what one environment has: its secrets, links and variables.

A secret's value goes in and is on no page again, also not in the answer to a form that was refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from prime_hub.api.deps import HubDep
from prime_hub.db.models import Environment, Secret, Variable
from prime_hub.errors import HubError, Invalid
from prime_hub.hub import Hub
from prime_hub.services.secrets import Fields
from prime_hub.web.forms import FormDep
from prime_hub.web.render import page
from prime_hub.web.settings import PATH, environment_href
from prime_hub.web.visitors import SignedIn, SignedInDep
from prime_hub.web.whose import whose

router = APIRouter(include_in_schema=False)
SECRETS = "/dashboard/secrets"
OF_ENVIRONMENT = f"{PATH}/secrets"
DONE = {
    "add": "The secret is stored. Its value is not shown again.",
    "replace": "The secret has its new value, which counts from the next sandbox on.",
    "delete": "The secret is deleted.",
    "link": "The environment gets that secret now, too.",
    "unlink": "The environment does not get that secret any more.",
    "set": "The variable is set; it counts from the next sandbox on.",
    "change": "The variable has its new value, which counts from the next sandbox on.",
    "clear": "The variable is deleted.",
}
Done = Annotated[str, Query(max_length=20)]


@dataclass(frozen=True)
class Wish:
    """What a form asks for. Its value may be a secret."""

    change: str
    id: str
    name: str
    value: str = field(repr=False)
    description: str

    def new(self, what: str) -> Fields:
        """A new secret or variable. Raises Invalid for one without a value."""
        return Fields(self.name, self._text(what), self.description)

    def replacing(self, what: str) -> Fields:
        """Another value. Raises Invalid for none."""
        return Fields(value=self._text(what))

    def _text(self, what: str) -> str:
        # Browsers send lines as CRLF, and the end of the last one is no part of what somebody has pasted.
        value = self.value.replace("\r\n", "\n").removesuffix("\n")
        if not value:
            raise Invalid(f"Write the value of the {what}.")
        return value

    def again(self, change: str) -> dict[str, str]:
        """What a refused form of this kind said that is no secret, so that it need not be typed again."""
        mine = self.change == change
        said = {"name": self.name, "description": self.description, "value": self.value if change == "set" else ""}
        return {**(said if mine else dict.fromkeys(said, "")), "refused": "yes" if mine else ""}


NOTHING = Wish("", "", "", "", "")


@router.get(SECRETS)
async def secrets_page(
    request: Request, hub: HubDep, me: SignedInDep, team: Annotated[str, Query(max_length=64)] = "", done: Done = ""
) -> Response:
    """The names of the account's secrets, or of a team's, and a form for another one."""
    return await _secrets(request, hub, me, team, done=DONE.get(done))


async def _secrets(
    request: Request,
    hub: Hub,
    me: SignedIn,
    team: str,
    *,
    done: str | None = None,
    error: HubError | None = None,
    wish: Wish = NOTHING,
) -> Response:
    chosen = await whose(hub, me, team)
    return page(
        request,
        "secrets.html",
        200 if error is None else error.status,
        whose=chosen,
        choices=chosen.choices(SECRETS),
        rows=[_shown(row) for row in await hub.secrets.of_account(me.account, chosen.team)],
        again=wish.again("add"),
        done=done,
        problem=error.detail if error else None,
    )


def _shown(row: Secret | Variable) -> dict[str, Any]:
    about = {"id": row.id, "name": row.name, "about": row.description, "at": row.updated_at}
    return {**about, "value": row.value} if isinstance(row, Variable) else about


@router.post(SECRETS)
async def change_secrets(request: Request, hub: HubDep, me: SignedInDep, form: FormDep) -> Response:
    """A secret more, another value for one, or one less."""
    team, value = form.text("team"), form.get("value", "")
    wish = Wish(form.text("change"), form.text("id"), form.text("name"), value, form.text("description"))
    chosen = await whose(hub, me, team)
    try:
        if wish.change == "add":
            await hub.secrets.create_own(me.account, chosen.team, wish.new("secret"))
        elif wish.change == "replace":
            await hub.secrets.update_own(me.account, wish.id, wish.replacing("secret"))
        elif wish.change == "delete":
            await hub.secrets.delete_own(me.account, wish.id)
        else:
            raise Invalid("That is no change of a secret.")
    except HubError as error:
        return await _secrets(request, hub, me, team, error=error, wish=wish)
    return RedirectResponse(chosen.link(SECRETS, done=wish.change), status_code=303)


@router.get(OF_ENVIRONMENT)
async def environment_secrets_page(
    owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, done: Done = ""
) -> Response:
    """What an environment gives to its sandboxes, for those who manage it."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    return await _of_environment(request, hub, me, environment, done=DONE.get(done))


async def _of_environment(
    request: Request,
    hub: Hub,
    me: SignedIn,
    environment: Environment,
    *,
    done: str | None = None,
    error: HubError | None = None,
    wish: Wish = NOTHING,
) -> Response:
    owner = environment.owner
    rows = await hub.secrets.of_environment(me.account, environment.id)
    account_wide = await hub.secrets.of_account(me.account, owner.team_id)
    linked = {row.id for row in rows if row.environment_id is None}
    variables = await hub.variables.all(me.account, environment.id)
    return page(
        request,
        "environment_secrets.html",
        200 if error is None else error.status,
        full=f"{owner.slug}/{environment.name}",
        owner=owner,
        href=environment_href(owner.slug, environment.normalized_name),
        published=environment.latest_version_id is not None,
        own=[_shown(row) for row in rows if row.environment_id is not None],
        linked=[_shown(row) for row in rows if row.environment_id is None],
        linkable=[_shown(row) for row in account_wide if row.id not in linked],
        account_href=SECRETS + (f"?team={quote(owner.slug)}" if owner.team_id else ""),
        variables=[_shown(row) for row in variables],
        again=wish.again("add"),
        again_variable=wish.again("set"),
        done=done,
        problem=error.detail if error else None,
    )


@router.post(OF_ENVIRONMENT)
async def change_environment_secrets(
    owner: str, name: str, request: Request, hub: HubDep, me: SignedInDep, form: FormDep
) -> Response:
    """Change what an environment gives: a secret, a link to one, a variable."""
    environment = await hub.managing.may_manage(me.account, owner, name)
    value = form.get("value", "")
    wish = Wish(form.text("change"), form.text("id"), form.text("name"), value, form.text("description"))
    try:
        await _change(hub, me, environment.id, wish)
    except HubError as error:
        return await _of_environment(request, hub, me, environment, error=error, wish=wish)
    href = environment_href(environment.owner.slug, environment.normalized_name)
    return RedirectResponse(f"{href}/secrets?done={wish.change}", status_code=303)


async def _change(hub: Hub, me: SignedIn, environment_id: str, wish: Wish) -> None:
    """Raises Invalid for what is no change, and what the services raise."""
    secrets, variables = hub.secrets, hub.variables
    if wish.change == "add":
        await secrets.create(me.account, environment_id, wish.new("secret"))
    elif wish.change == "replace":
        await secrets.update(me.account, environment_id, wish.id, wish.replacing("secret"))
    elif wish.change == "delete":
        await secrets.delete(me.account, environment_id, wish.id)
    elif wish.change == "link":
        await secrets.link(me.account, environment_id, wish.id)
    elif wish.change == "unlink":
        await secrets.unlink(me.account, environment_id, wish.id)
    elif wish.change == "set":
        await variables.create(me.account, environment_id, wish.new("variable"))
    elif wish.change == "change":
        await variables.update(me.account, environment_id, wish.id, wish.replacing("variable"))
    elif wish.change == "clear":
        await variables.delete(me.account, environment_id, wish.id)
    else:
        raise Invalid("That is no change of an environment's secrets and variables.")
