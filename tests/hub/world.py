"""A Hub with private things in it, the people who may and may not know of them, and every route that it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.browsing import PASSWORD, Browser
from tests.hub.images import DOCKERFILE, build, create
from tests.hub.pushing import Push, push

Route = tuple[str, str]
"""(method, path with parameters), as the app declares it."""

ABSENT_ID = "0123456789abcdef01234567"
ABSENT = {"absent": "hidden", "absent team": "team"}
"""What is not there, beside what is."""


def every_route(folder: Path) -> Iterator[Route]:
    """Every route of the app's own table, pages and hidden ones included."""

    def walk(routes: Any) -> Iterator[Route]:
        for route in routes:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                yield from walk(inner.routes)
            else:
                for method in sorted(getattr(route, "methods", None) or {"WEBSOCKET"}):
                    yield method, route.path

    yield from walk(create_app(Settings(folder)).routes)


@dataclass
class World:
    """`hidden` fills the parameters of a path with what is private, `absent` with what is not there, `of_team` with what
    is the team's where `hidden` has what is a member's own; `people` are clients by what they are.
    """

    hub: RunningHub
    hidden: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    of_team: dict[str, str] = field(default_factory=dict)
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    """The parameters of images' paths: `hidden` and `team`, and `absent` and `absent team` of the same owners."""
    people: dict[str, httpx.Client] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()

    def values(self, path: str, which: str) -> dict[str, str]:
        """What the parameters of that path stand for; `which` as in `images`."""
        found = self.absent if which in ABSENT else self.hidden | (self.of_team if which == "team" else {})
        found = found | {"image": self.images[which]["name"], "digest": self.digests.get(which, "sha256:" + "0" * 64)}
        of_images = path.startswith(("/api/v1/images", "/dashboard/images"))
        return found | self.images[which] if of_images else found


def make_world(hub: RunningHub) -> World:
    """A team's private environment with secrets, a member's image and sandbox and the team's, and something public."""
    world = World(hub)
    keys = {name: hub.add_user(name) for name in ("olga", "ada", "mel", "fred", "stan")}
    olga, mel = hub.client(keys["olga"]), hub.client(keys["mel"])
    team = _data(olga.post("/teams", json={"slug": "makers", "name": "Makers"}))["teamId"]
    for name, role in (("ada", "admin"), ("mel", "member"), ("fred", "member")):
        _data(olga.post(f"/teams/{team}/members", json={"user": name, "role": role}))
    _image(world, mel)
    _image_of_team(world, mel)
    one = _environment(world, mel)
    _belongings(world, olga, one.environment_id)
    _evaluation(world, mel, one.environment_id)
    world.hidden["token_id"] = olga.get("/tokens").json()["data"][0]["id"]
    assert olga.delete(f"/teams/{team}/members/fred").status_code == 204
    push(hub.client(keys["stan"]), "shown-env")
    _people(world, keys)
    hidden = {"owner": "makers", "name": "hidden-env", "project": "hidden-env", "version": "0.1.0", "team": "makers"}
    absent = {"owner": "makers", "name": "absent-env", "project": "absent-env", "version": "0.1.0", "team": "absent"}
    hidden |= {"filename": one.wheel_filename, "wheel_id": one.wheel_id, "version_id": one.version_id, "kind": "wheel"}
    absent |= {"filename": "absent_env-0.1.0-py3-none-any.whl", "kind": "wheel", "user_ns": "none", "token": "x" * 43}
    world.hidden |= hidden | {"environment_id": one.environment_id, "slot": one.wheel_id, "user": "mel", "rest": "x"}
    world.hidden |= {"path": "x", "key": "k" * 16, "inside": "README.md"}
    world.absent = dict.fromkeys(world.hidden, ABSENT_ID) | absent | {"user": "mel", "rest": "x", "path": "x"}
    world.absent |= {"key": "k" * 16, "inside": "README.md"}
    world.marks = (
        *("hidden-env", "hidden_env", "Hidden-Env", "secret words", "hidden-tag", "hidden-image", "HIDDEN_SECRET"),
        *(one.environment_id, one.content_hash, world.digests["hidden"]),
        *(world.hidden["sandbox_id"], world.hidden["build_id"]),
        *(world.hidden["evaluation_id"], world.hidden["sample_id"], "hidden-model", "hidden words"),
        *("crew-image", "crew-port", world.digests["team"], world.of_team["sandbox_id"], world.of_team["build_id"]),
    )
    return world


def _data(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json().get("data", answer.json())


def _image(world: World, mel: httpx.Client) -> None:
    built = build(mel, "hidden-image", "v1", visibility="PRIVATE")
    assert built["status"] == "COMPLETED", built
    row = next(row for row in mel.get("/images").json()["data"] if row["imageName"] == "hidden-image")
    digest = built.get("digest") or built.get("imageDigest") or row["digest"]
    world.digests = {"hidden": digest}
    world.hidden["build_id"] = built.get("id") or built.get("build_id") or row["buildId"]
    names = {"owner": "mel", "tag": "v1", "build_id": world.hidden["build_id"]}
    world.images = {
        "hidden": names | {"name": "hidden-image"},
        "absent": names | {"name": "absent-image", "build_id": ABSENT_ID},
    }
    box = create(mel, "prime/mel/hidden-image:v1")
    auth = box["gatewayAuth"]
    world.hidden |= {"sandbox_id": box["id"], "user_ns": auth["user_ns"]}
    exposed = mel.post(f"/sandbox/{box['id']}/expose", json={"port": 8000, "name": "hidden-port"})
    world.hidden["exposure_id"] = exposed.json()["exposure_id"] if exposed.is_success else ABSENT_ID
    world.hidden["token"] = "y" * 43


def _image_of_team(world: World, mel: httpx.Client) -> None:
    built = build(mel, "crew-image", "v1", {"Dockerfile": DOCKERFILE + "ENV CREW=1\n"}, team_id="makers")
    assert built["status"] == "COMPLETED", built
    world.digests["team"] = built["imageDigest"]
    box = create(mel, "prime/makers/crew-image:v1", team_id="makers")
    exposed = mel.post(f"/sandbox/{box['id']}/expose", json={"port": 8000, "name": "crew-port"})
    world.of_team = {"sandbox_id": box["id"], "exposure_id": exposed.json()["exposure_id"], "build_id": built["id"]}
    world.images["team"] = {"owner": "makers", "tag": "v1", "build_id": built["id"], "name": "crew-image"}
    world.images["absent team"] = world.images["absent"] | {"owner": "makers"}


def _environment(world: World, mel: httpx.Client) -> Push:
    manifest = {"image": "prime/mel/hidden-image:v1", "image_digest": world.digests["hidden"]}
    metadata = {"description": "secret words", "tags": ["hidden-tag", "math"]}
    one = Push(mel, "hidden-env", files={"proj/.build.json": json.dumps(manifest).encode()}, metadata=metadata)
    body = {"name": "hidden-env", "visibility": "PRIVATE", "team_slug": "makers"}
    one.environment_id = _data(mel.post("/environmentshub/resolve", json=body))["id"]
    for step in one.steps()[1:]:
        answer = step()
        assert answer is None or answer.is_success, answer.text
    return one


def _evaluation(world: World, mel: httpx.Client, environment_id: str) -> None:
    """Public, but of what is private, so that nobody outside is told of it."""
    body = {"name": "hidden-evaluation", "environments": [{"id": environment_id}], "model_name": "hidden-model"}
    one = _data(mel.post("/evaluations/", json=body | {"team_id": "makers", "is_public": True}))["evaluation_id"]
    sample = {"example_id": 1, "rollout_index": 0, "reward": 1.0, "completion": "hidden words"}
    _data(mel.post(f"/evaluations/{one}/samples", json={"samples": [sample]}))
    _data(mel.post(f"/evaluations/{one}/finalize", json={}))
    rows = mel.get(f"/evaluations/{one}/samples", params={"summary": True}).json()["samples"]
    world.hidden |= {"evaluation_id": one, "sample_id": rows[0]["sample_id"]}


def _belongings(world: World, olga: httpx.Client, environment_id: str) -> None:
    base = f"/environmentshub/{environment_id}"
    secret = _data(olga.post(f"{base}/secrets", json={"name": "HIDDEN_SECRET", "value": "x"}))
    variable = _data(olga.post(f"{base}/variables", json={"name": "HIDDEN_VARIABLE", "value": "x"}))
    world.hidden |= {"secret_id": secret["id"], "variable_id": variable["id"]}


def _people(world: World, keys: dict[str, str]) -> None:
    hub = world.hub
    mel = hub.client(keys["mel"])

    def scoped(**scopes: str) -> httpx.Client:
        token = _data(mel.post("/tokens", json={"name": "scoped", "scopes": scopes}))["token"]
        return hub.client(token)

    revoked = _data(mel.post("/tokens", json={"name": "revoked"}))
    assert mel.delete(f"/tokens/{revoked['id']}").status_code == 204
    browser = Browser(hub)
    assert browser.sign_up("betty", PASSWORD).status == 200 and browser.signed_in
    browser.client.follow_redirects = False
    world.people = {
        "nobody": hub.client(),
        "stranger": hub.client(keys["stan"]),
        "former member": hub.client(keys["fred"]),
        "stranger in a browser": browser.client,
        "revoked": hub.client(revoked["token"]),
        "narrow": scoped(evaluations="read"),
        "reader": scoped(environments="read"),
        "member": mel,
        "admin": hub.client(keys["ada"]),
        "owner": hub.client(keys["olga"]),
    }
