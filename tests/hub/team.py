"""A team on a Hub: its people by their role, somebody who left it, and somebody from outside."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from tests.conftest import RunningHub

ROLES = {"olga": "owner", "ada": "admin", "mel": "member", "max": "member"}
NO_TEAM = "c" + "0" * 24


@dataclass
class Team:
    """`people` are clients by name; `ids` those of their accounts."""

    hub: RunningHub
    id: str
    slug: str
    people: dict[str, httpx.Client]
    ids: dict[str, str]

    def __getitem__(self, name: str) -> httpx.Client:
        return self.people[name]

    def add(self, name: str, role: str = "member") -> httpx.Client:
        """Another member."""
        client = self.people[name] = self.hub.client(self.hub.add_user(name))
        self.ids[name] = client.get("/user/whoami").json()["data"]["id"]
        added = self["olga"].post(f"/teams/{self.id}/members", json={"user": name, "role": role})
        assert added.is_success, added.text
        return client

    def remove(self, name: str) -> None:
        """One member less."""
        assert self["olga"].delete(f"/teams/{self.id}/members/{name}").status_code == 204


def make_team(hub: RunningHub, slug: str = "makers") -> Team:
    """Olga's team, with an admin, two members, and `stan`, who is not in it."""
    olga, stan = hub.client(hub.add_user("olga")), hub.client(hub.add_user("stan"))
    made = olga.post("/teams", json={"slug": slug, "name": slug.title()})
    assert made.is_success, made.text
    team = Team(hub, made.json()["data"]["teamId"], slug, {"olga": olga, "stan": stan}, {})
    team.ids = {name: client.get("/user/whoami").json()["data"]["id"] for name, client in team.people.items()}
    for name, role in list(ROLES.items())[1:]:
        team.add(name, role)
    return team
