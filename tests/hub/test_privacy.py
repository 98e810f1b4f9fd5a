"""What is private does not exist for those who may not know of it: in every route, page, index, list, count and log.

Each route of the app's own table is asked twice, about something private and about something that is not there. To
everybody from outside both answers are the same. A route that is in none of the tables here fails the test, so that
nobody forgets to think of a new one.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_plus

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub import of_evaluations
from tests.hub.of_evaluations import EVALUATION, EVALUATION_PAGE
from tests.hub.world import ABSENT, Route, World, every_route, make_world

HUB = "/api/v1/environmentshub"
NAMED = HUB + "/{owner}/{name}"
VERSION = NAMED + "/@{version}"
BY_ID = HUB + "/{environment_id}"
PAGE = "/dashboard/environments/{owner}/{name}"
SETTINGS = PAGE + "/settings"
IMAGE_PAGE = "/dashboard/images/{owner}/{name}/{tag}"

OUTSIDERS = ("nobody", "stranger", "former member", "stranger in a browser", "revoked", "narrow")

# What a route is asked with; several times where there are several. Texts have parameters, as paths have.
UPLOAD = {
    "content_hash": "a" * 64,
    "filename": "{filename}",
    "sha256": "b" * 64,
    "size": 10,
    "semantic_version": "0.1.0",
}
SANDBOXES = [
    {"json": {"name": "x", "docker_image": image}}
    for image in (
        "prime/{owner}/{image}:v1",
        "prime/mel/{image}:v1",
        "mel/{image}:v1",
        "{image}@{digest}",
        "x@{digest}",
        "prime/{team}/{image}:v1",
    )
] + [{"json": {"name": "x", "docker_image": image, "team_id": "{team}"}} for image in ("{image}:v1", "x@{digest}")]
SEARCHES = ("search={name}", "search={owner}", "owner={owner}", "owner={owner}&visibility=PRIVATE", "sort_by=stars", "")
ASKED: dict[Route, list[dict[str, Any]]] = {
    ("POST", HUB + "/resolve"): [
        {"json": {"name": "{name}", "team_slug": "{owner}"}},
        {"json": {"name": "{name}", "owner_slug": "{owner}", "visibility": "PUBLIC"}},
        {"json": {"name": "{name}", "team_id": "{owner}"}},
    ],
    ("POST", HUB + "/check"): [
        {"json": {"name": "{name}", "semantic_version": "{version}", "team_slug": "{owner}"}},
        {"json": {"name": "{name}", "semantic_version": "{version}", "owner_slug": "{owner}"}},
    ],
    **of_evaluations.PRIVATE,
    ("GET", HUB + "/facets"): [
        {"query": query} for query in ("search={name}", "owner={owner}", "tags=hidden-tag", "search={owner}")
    ],
    ("POST", HUB + "/lookup"): [{"json": {"id": "{environment_id}"}}],
    ("POST", BY_ID + "/wheels"): [{"json": UPLOAD}],
    ("POST", BY_ID + "/versions"): [{"json": UPLOAD}],
    ("PUT", "/api/v1/uploads/{kind}/{slot}"): [{"content": b"x"}, {"content": b"x", "query": "expires=1&signature=x"}],
    ("PUT", "/api/v1/uploads/context/{build_id}"): [{"content": b"x"}],
    ("GET", HUB + "/"): [{"query": query} for query in (*SEARCHES, "tags=hidden-tag", "mine_only=true")],
    ("GET", VERSION): [{}, {"query": "x", "version": "latest"}, {"version": "{hash}"}],
    ("GET", VERSION + "/inspect"): [{}, {"query": "path=README.md"}],
    ("PUT", VERSION + "/yank"): [{"json": {"reason": "x"}}],
    ("GET", VERSION + "/check"): [{}, {"version": "latest"}, {"version": "{hash}"}],
    ("POST", VERSION + "/check"): [{}, {"version": "latest"}, {"version": "{hash}"}],
    ("POST", NAMED + "/transfer"): [{"json": {"to": "stan"}}],
    ("POST", NAMED + "/fork"): [{"json": {}}, {"json": {"version": "{version}"}}],
    ("PATCH", NAMED): [{"json": {"visibility": "PUBLIC"}}],
    ("POST", BY_ID + "/secrets"): [{"json": {"name": "A_B", "value": "x"}}],
    ("PATCH", BY_ID + "/secrets/{secret_id}"): [{"json": {"value": "x"}}],
    ("POST", BY_ID + "/variables"): [{"json": {"name": "A_B", "value": "x"}}],
    ("PATCH", BY_ID + "/variables/{variable_id}"): [{"json": {"value": "x"}}],
    ("GET", "/"): [{"query": query} for query in ("", "q={name}", "owner={owner}", "tag=hidden-tag", "q=secret+words")],
    ("GET", PAGE): [{}, {"query": "version={version}"}],
    ("GET", PAGE + "/usage"): [{}, {"query": "days=30&version={version}"}],
    ("GET", NAMED + "/usage"): [{}, {"query": "days=7&version={version}"}, {"query": "version={hash}"}],
    ("GET", NAMED + "/changes"): [{"query": "from={version}&to={hash}"}, {}],
    ("GET", PAGE + "/changes"): [{}, {"query": "from={version}&to={hash}"}],
    **{
        ("GET", PAGE + f"/{word}"): [{}, {"query": "version={version}"}]
        for word in ("files", "versions", "check", "badge.svg")
    },
    **{("GET", PAGE + f"/{word}/{{inside:path}}"): [{}, {"query": "version={hash}"}] for word in ("files", "raw")},
    ("POST", SETTINGS + "/visibility"): [{"data": {"visibility": "PUBLIC"}}],
    ("POST", SETTINGS + "/transfer"): [{"data": {"to": "betty"}}],
    ("POST", SETTINGS + "/version"): [{"data": {"version": "{version}", "action": "yank"}}],
    ("POST", SETTINGS + "/delete"): [{"data": {"typed": "{owner}/{name}"}}],
    ("POST", PAGE + "/star"): [{"data": {"starred": "yes"}}],
    ("POST", PAGE + "/check"): [{"data": {"version": "{version}"}}, {"data": {}}],
    ("POST", PAGE + "/secrets"): [{"data": {"change": "link", "id": "{secret_id}"}}],
    **{
        ("GET", f"/dashboard/{place}"): [{}, {"query": "team={team}"}, {"query": "team={team}&show=all&page=2"}]
        for place in ("images", "sandboxes", "secrets")
    },
    ("POST", IMAGE_PAGE + "/visibility"): [{"data": {"visibility": "PUBLIC"}}],
    ("POST", IMAGE_PAGE + "/delete"): [{"data": {"confirm": "{name}:{tag}"}}],
    ("POST", "/dashboard/builds/{build_id}/delete"): [{"data": {"confirm": "{image}:v1"}}],
    ("POST", "/dashboard/secrets"): [
        {"data": {"change": "delete", "id": "{secret_id}"}},
        {"data": {"change": "add", "team": "{team}", "name": "A_B", "value": "x"}},
    ],
    ("POST", "/api/v1/sandbox"): SANDBOXES,
    ("POST", "/api/v1/sandbox/status:batchGet"): [{"json": {"sandbox_ids": ["{sandbox_id}"]}}],
    ("POST", "/api/v1/sandbox/background-jobs/status:batchGet"): [
        {"json": {"jobs": [{"sandbox_id": "{sandbox_id}", "job_id": "x"}]}}
    ],
    ("GET", "/api/v1/sandbox"): [{}] + [{"query": q} for q in ("labels=x", "user_id=mel", "team_id={team}")],
    ("DELETE", "/api/v1/sandbox"): [
        {"json": {"sandbox_ids": ["{sandbox_id}"]}},
        {"json": {"labels": ["x"], "team_id": "{team}"}},
        {"json": {"all_users": True, "team_id": "{team}"}},
        {"json": {"user_id": "mel", "team_id": "{team}"}},
    ],
    ("POST", "/api/v1/sandbox/{sandbox_id}/expose"): [{"json": {"port": 8000}}],
    ("POST", "/api/v1/sandbox/{sandbox_id}/lease"): [{"json": {"lease_seconds": 60}}],
    ("PUT", "/api/v1/sandbox/{sandbox_id}/egress-policy"): [{"json": {"allowlist": []}}],
    ("GET", "/api/v1/images"): [{}, {"query": "search={image}"}, {"query": "teamId={team}"}],
    ("POST", "/api/v1/images/build"): [{"json": {"image_name": "x", "team_id": "{team}"}}],
    **{
        (method, "/api/v1/images/{name}/{tag}"): [{}, {"query": "teamId={team}"}, {"query": "teamId=stan"}]
        for method in ("GET", "DELETE")
    },
    ("PATCH", "/api/v1/images"): [
        {"json": {"mode": "explicit", "dryRun": False, "updates": [{"source": source, "set": wanted}]}}
        for source in (
            *({"reference": f"{owner}/{{image}}:v1"} for owner in ("prime/mel", "prime/{team}")),
            {"owner": {"type": "team", "teamId": "{team}"}, "name": "{image}", "tag": "v1"},
        )
        for wanted in ({"visibility": "PUBLIC"}, {"owner": {"type": "personal"}})
    ],
    ("POST", "/api/v1/images/build/{build_id}/start"): [{"json": {"context_uploaded": True}}],
    ("PATCH", "/api/v1/teams/{team}"): [{"json": {"name": "x"}}],
    ("POST", "/api/v1/teams/{team}/members"): [{"json": {"user": "stan"}}],
    ("PATCH", "/api/v1/teams/{team}/members/{user}"): [{"json": {"role": "owner"}}],
    ("PATCH", "/api/v1/secrets/{secret_id}"): [{"json": {"value": "x"}}],
}

# Nothing in these answers is about environments or images, or it is about what is the caller's own only.
OWN = "what is the caller's own only"
TELLS_NOTHING: dict[Route, str] = {
    ("GET", "/api/v1/openapi.json"): "the description of the API",
    ("HEAD", "/api/v1/openapi.json"): "the description of the API",
    ("GET", "/api/v1/health"): "the state of the Hub",
    ("GET", "/api/v1/distributions"): "our own distributions",
    ("GET", "/api/v1/distributions/{filename}"): "our own distributions",
    ("HEAD", "/api/v1/distributions/{filename}"): "our own distributions",
    ("GET", "/api/v1/sandbox/capacity"): "how busy the machine is",
    ("GET", "/static/hub.css"): "the stylesheet",
    ("GET", "/static/hub.js"): "the script",
    ("GET", "/dashboard/start"): "how to begin",
    ("GET", "/dashboard/checks/{check}"): "what a check is about",
    ("GET", "/dashboard"): "sends on",
    ("GET", "/dashboard/environments"): "sends on",
    ("PATCH", "/api/v1/user/slug"): OWN,
    ("POST", "/api/v1/user/sign-in-link"): OWN,
    ("POST", "/api/v1/teams"): OWN,
    ("POST", "/api/v1/tokens"): OWN,
    ("DELETE", "/api/v1/tokens/current"): OWN,
    ("POST", "/api/v1/secrets/"): OWN,
    ("POST", "/api/v1/auth_challenge/generate"): "a new login",
    ("GET", "/api/v1/auth_challenge/status"): "a login, to who has its token",
    **{(method, f"/dashboard/{path}"): OWN for method in ("GET", "POST") for path in ("sign-in", "sign-up", "tokens")},
    **{("POST", f"/dashboard/account/{path}"): OWN for path in ("profile", "name", "password", "sessions")},
    **{("POST", f"/dashboard/{path}"): OWN for path in ("sign-out", "tokens/revoke", "tokens/challenge", "teams")},
    **{("GET", f"/dashboard/{path}"): OWN for path in ("sign-in/link", "tokens/challenge")},
}

# What the official clients ask for and this Hub does not have: one sentence to everybody.
UNSUPPORTED = re.compile(r"/api/v1/sandbox/(\{sandbox_id\}/)?(checkpoints|networks|volumes|ssh-session)")

# The least role with an environment's owner for what a route does.
READS, PUBLISHES, MANAGES = "read", "publish", "manage"
ROLES: dict[Route, str] = {
    **{("GET", NAMED + rest): READS for rest in ("/status", "/versions", "/usage")},
    **{("GET", VERSION + rest): READS for rest in ("", "/inspect", "/package", "/check")},
    **{("HEAD", VERSION + rest): READS for rest in ("/package",)},
    **{
        (method, "/api/v1/files/{owner}/{filename}" + rest): READS
        for method in ("GET", "HEAD")
        for rest in ("", ".metadata")
    },
    **{(method, "/{owner}/simple/{project}" + rest): READS for method in ("GET", "HEAD") for rest in ("", "/")},
    **{(method, "/{owner}/simple" + rest): READS for method in ("GET", "HEAD") for rest in ("", "/")},
    ("POST", HUB + "/lookup"): READS,
    ("GET", PAGE): READS,
    ("GET", PAGE + "/usage"): READS,
    ("GET", PAGE + "/evaluations"): READS,
    **{("GET", PAGE + rest): READS for rest in ("/files", "/files/{inside:path}", "/raw/{inside:path}")},
    **{("GET", PAGE + rest): READS for rest in ("/versions", "/changes", "/check", "/badge.svg")},
    ("POST", VERSION + "/check"): PUBLISHES,
    ("GET", NAMED + "/changes"): READS,
    ("PUT", NAMED + "/star"): READS,
    ("DELETE", NAMED + "/star"): READS,
    ("POST", NAMED + "/fork"): READS,
    **{("POST", BY_ID + rest): PUBLISHES for rest in ("/wheels", "/versions")},
    ("POST", BY_ID + "/wheels/{wheel_id}/finalize"): PUBLISHES,
    ("POST", BY_ID + "/versions/{version_id}/finalize"): PUBLISHES,
    ("PUT", VERSION + "/yank"): MANAGES,
    ("DELETE", VERSION + "/yank"): MANAGES,
    ("DELETE", VERSION): MANAGES,
    ("POST", NAMED + "/transfer"): MANAGES,
    ("PATCH", NAMED): MANAGES,
    ("DELETE", NAMED): MANAGES,
    ("DELETE", BY_ID): MANAGES,
    ("POST", BY_ID + "/secrets"): MANAGES,
    **{(method, BY_ID + "/secrets/{secret_id}"): MANAGES for method in ("PATCH", "DELETE")},
    **{(method, BY_ID + "/secrets/link/{secret_id}"): MANAGES for method in ("POST", "DELETE")},
    ("POST", BY_ID + "/variables"): MANAGES,
    **{("GET", BY_ID + rest): PUBLISHES for rest in ("/secrets", "/variables")},  # names, never a secret's value
    **{(method, BY_ID + "/variables/{variable_id}"): MANAGES for method in ("PATCH", "DELETE")},
}
# A browser's session is needed for these; tests/hub/test_managing*.py send their forms.
BY_FORM = {("GET", SETTINGS), ("GET", PAGE + "/secrets")} | {
    ("POST", path)
    for path in (
        PAGE + "/star",
        PAGE + "/check",
        PAGE + "/secrets",
        *(f"{SETTINGS}/{end}" for end in ("visibility", "transfer", "version", "delete")),
    )
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    # Images of others run here, as they do where the runtime isolates.
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open", "--allow-foreign-images"))
    try:
        yield make_world(hub)
    finally:
        hub.close()


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[Route]:
    return list(every_route(tmp_path_factory.mktemp("app")))


def fill(value: Any, values: dict[str, str]) -> Any:
    """`value` with every `{parameter}` in it replaced, in all its depth."""
    if isinstance(value, dict):
        return {key: fill(one, values) for key, one in value.items()}
    if isinstance(value, list):
        return [fill(one, values) for one in value]
    if isinstance(value, str):
        return re.sub(r"\{([a-z_]+)(?::path)?\}", lambda found: values[found[1]], value)
    return value


def ask(world: World, who: str, route: Route, asked: dict[str, Any], which: str = "hidden") -> httpx.Response:
    method, path = route
    values = world.values(path, which)
    values |= {"hash": "0" * 64 if which in ABSENT else world.marks[8]}
    values |= {"version": fill(asked["version"], values)} if "version" in asked else {}
    query = fill(asked.get("query", ""), values)
    url = f"{world.hub.url}{fill(path, values)}" + (f"?{query}" if query else "")
    more = {key: fill(asked[key], values) for key in ("json", "content", "data") if key in asked}
    page = not path.startswith(("/api/", "/gateway/", "/ports/"))
    headers = {"Accept": "text/html"} if page and "simple" not in path else {"Accept": "*/*"}
    return world.people[who].request(method, url, headers=headers, **more)


def told(world: World, answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    """An answer without what differs between any two: the names that were asked with, times, proofs of forms."""
    text = answer.text
    headers = dict(answer.headers)
    for name in ("date", "etag", "set-cookie", "content-length", "x-request-id"):
        headers.pop(name, None)
    absent = {**world.values("", "absent"), "hash": "0" * 64}
    for pairs in ({**world.values("", "hidden"), "hash": world.marks[8]}, world.values("", "team")):
        for key in sorted(pairs, key=lambda key: -len(pairs[key])):
            if pairs[key] != absent[key] and len(pairs[key]) > 4:
                text = text.replace(pairs[key], absent[key])
                headers = {name: value.replace(pairs[key], absent[key]) for name, value in headers.items()}
    text = re.sub(r'(name="proof" value=")[^"]*|\d+ (second|minute)s? ago', r"\1", text)
    return answer.status_code, text, headers


def questions(route: Route) -> list[dict[str, Any]]:
    return ASKED.get(route, [{}])


def is_known(world: World, route: Route) -> bool:
    parameters = set(re.findall(r"\{([a-z_]+)", route[1]))
    if route in TELLS_NOTHING or route in ASKED or UNSUPPORTED.match(route[1]):
        return True
    known = parameters <= world.values(route[1], "hidden").keys()
    return known and (bool(parameters) or route[0] in ("GET", "HEAD"))


def test_every_route_has_been_thought_of(world: World, routes: list[Route]) -> None:
    """A new route is put into ASKED, TELLS_NOTHING, or has parameters that are known; and into ROLES."""
    assert len(routes) > 140
    assert [route for route in routes if not is_known(world, route)] == []
    assert {*ASKED, *TELLS_NOTHING, *ROLES, *BY_FORM} - set(routes) == set(), "tables name routes that are gone"
    of_environments = [route for route in routes if re.search(r"environment|\{project\}|\{filename\}", route[1])]
    roles = [route for route in of_environments if "{" in route[1] and not route[1].startswith("/api/v1/distributions")]
    assert [route for route in roles if route not in ROLES and route not in BY_FORM] == []


@pytest.mark.timeout(900)
def test_to_outsiders_it_does_not_exist(world: World, routes: list[Route]) -> None:
    wrong: list[str] = []
    asked = 0
    for route in routes:
        if route in TELLS_NOTHING or route[0] == "WEBSOCKET":
            continue
        for question in questions(route):
            of_team = re.search(r"/(sandbox|images|gateway|ports|uploads)\b", route[1])
            for who in OUTSIDERS:
                if who == "narrow" and re.match("/api/v1/(hosted-)?evaluations|/dashboard/evaluations", route[1]):
                    continue  # a member's key to read evaluations with
                for absent, hidden in list(ABSENT.items())[: 2 if of_team else 1]:
                    asked += 1
                    answers = [ask(world, who, route, question, which) for which in (hidden, absent)]
                    wrong += _wrong(world, who, route, question, answers[0], told(world, answers[1]))
    assert not wrong, "\n".join(wrong)
    assert asked > 900
    # And all of it is still there, as it was.
    detail = ask(world, "member", ("GET", VERSION), {}).json()["data"]
    assert (detail["visibility"], detail["stars"], detail["yanked"]) == ("PRIVATE", 0, False)
    for who, which in (("member", "hidden"), ("member", "team"), ("admin", "team")):
        image = ask(world, who, ("GET", "/api/v1/images/{owner}/{name}/{tag}"), {}, which).json()
        assert (image["status"], image["visibility"]) == ("COMPLETED", "PRIVATE")
        box = ask(world, who, ("GET", "/api/v1/sandbox/{sandbox_id}"), {}, which).json()
        assert (box["status"], box["networkAllowlist"]) == ("RUNNING", None)


def _wrong(
    world: World,
    who: str,
    route: Route,
    question: dict[str, Any],
    answer: httpx.Response,
    absent: tuple[int, str, dict[str, str]],
) -> list[str]:
    """What an answer about something private tells that one about nothing does not."""
    wrong = []
    if (hidden := told(world, answer)) != absent:
        wrong.append(f"{who}: {route} {question}\n    {hidden}\n    {absent}")
    if who == "stranger" and answer.status_code == 422 and '"detail":[' in answer.text:
        wrong.append(f"{route} {question} is not asked as it takes it: {answer.text}")
    if answer.status_code >= 500 and answer.status_code not in (501, 503):
        wrong.append(f"{who}: {route} {question}: {answer.status_code} {answer.text}")
    sent = unquote_plus(f"{answer.request.url} {answer.request.content.decode('utf-8', 'replace')}")
    for mark in world.marks:
        if mark in answer.text and mark not in sent and "%" not in mark:
            wrong.append(f"{who}: {route} {question} tells of {mark}: {answer.text[:300]}")
    return wrong


def test_lists_count_what_they_show(world: World) -> None:
    for who in ("nobody", "stranger", "former member"):
        listing = world.people[who].get("/environmentshub/", params={"limit": 250}).json()
        assert [row["name"] for row in listing["data"]] == ["shown-env"] and listing["total_count"] == 1
        assert world.people[who].get(f"{world.hub.url}/makers/simple/").text.count("<a ") == 0
    for who in ("member", "admin", "owner", "reader"):
        listing = world.people[who].get("/environmentshub/", params={"limit": 250}).json()
        assert {row["name"] for row in listing["data"]} == {"shown-env", "hidden-env"} and listing["total_count"] == 2


@pytest.mark.parametrize("who", ["member", "admin", "owner", "narrow"])
def test_insiders_read_an_evaluation(world: World, who: str) -> None:
    for path in (EVALUATION, f"{EVALUATION}/samples", f"{EVALUATION}/samples/{{sample_id}}", EVALUATION_PAGE):
        answer = ask(world, who, ("GET", path), {})
        assert answer.status_code == 200 and world.hidden["evaluation_id"] in str(answer.request.url)
    for path in ("/rollouts/{sample_id}", "/rollouts/{sample_id}/raw"):
        assert "hidden words" in ask(world, who, ("GET", EVALUATION_PAGE + path), {}).text
    if who == "narrow":
        for route in (("PATCH", EVALUATION), ("POST", EVALUATION + "/finalize"), ("POST", EVALUATION + "/samples")):
            assert ask(world, who, route, questions(route)[0]).status_code == 403
        assert ask(world, who, ("DELETE", EVALUATION), {}).status_code == 403


@pytest.mark.parametrize("who", ["member", "admin", "owner", "reader", "narrow"])
def test_insiders_by_their_role(world: World, who: str) -> None:
    """What is READS works for all of the team; a member may not manage; a key may no more than its scopes."""
    wrong = []
    for route, needs in ROLES.items():
        answer = ask(world, who, route, questions(route)[0]) if _harmless(route, who, needs) else None
        if answer is None:
            continue
        status = answer.status_code
        reading = route[0] in ("GET", "HEAD") or route == ("POST", HUB + "/lookup")
        unauthenticated = route[1] in ("/{owner}/simple", "/{owner}/simple/{project}")  # sent on by their spelling
        if who == "narrow":
            good = status == 403 or unauthenticated
        elif (who == "reader" and not reading) or (needs == MANAGES and who in ("member", "reader")):
            good = status == 403
        elif reading:
            good = status in (200, 301)
        else:
            good = status not in (401, 403) and "There is no environment" not in answer.text and status < 500
        if not good:
            wrong.append(f"{route} {needs}: {status} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


def _harmless(route: Route, who: str, needs: str) -> bool:
    """What would take away the very thing that the others ask for is left out, for those who may do it."""
    method, path = route
    if needs != MANAGES or who not in ("admin", "owner"):
        return True
    return method == "GET" or path.endswith("/yank") or path in (BY_ID + "/variables", BY_ID + "/secrets")


def test_images_by_digest(world: World) -> None:
    """Whoever may see a version may run its image; to others there is none."""
    body = {"name": "x", "docker_image": f"any@{world.digests['hidden']}", "timeout_minutes": 1}
    for who in ("member", "admin", "owner"):
        made = world.people[who].post("/sandbox", json=body)
        assert made.status_code == 200, (who, made.text)
        world.people[who].delete(f"/sandbox/{made.json()['id']}")
    for who in ("stranger", "former member"):
        for image in (body["docker_image"], f"any@sha256:{'0' * 64}"):
            refused = world.people[who].post("/sandbox", json={**body, "docker_image": image})
            assert (refused.status_code, refused.json()["error"]) == (404, "image_not_found"), refused.text
        by_name = world.people[who].post("/sandbox", json={**body, "docker_image": "prime/mel/hidden-image:v1"})
        assert by_name.status_code == 404


def test_a_name_that_is_taken_by_something_private_is_free_for_others(world: World) -> None:
    """Each owner has names of their own, so that nobody learns of another's."""
    stranger = world.people["stranger"]
    made = stranger.post("/environmentshub/resolve", json={"name": "hidden-env"})
    assert made.status_code == 200 and made.json()["data"]["created"] is True


def test_what_was_open_and_is_closed_is_gone_at_once(world: World) -> None:
    from tests.hub.pushing import push

    hub = world.hub
    owner = hub.client(hub.add_user("opal"))
    stranger = world.people["stranger"]
    one = push(owner, "closing-env", metadata={"tags": ["closing-tag"]})
    addresses = [
        *(
            f"{hub.url}{HUB}/opal/closing-env/{rest}"
            for rest in ("@latest", "@0.1.0", "status", "versions", "@latest/package")
        ),
        *(f"{hub.url}/api/v1/files/opal/{one.wheel_filename}{rest}" for rest in ("", ".metadata")),
        f"{hub.url}/opal/simple/closing-env/",
        *(
            f"{hub.url}/dashboard/environments/opal/closing-env{rest}"
            for rest in ("", "/files", "/files/README.md", "/raw/README.md", "/versions", "/changes")
        ),
        f"{hub.url}{HUB}/opal/closing-env/changes?from=0.1.0&to=0.1.0",
    ]
    assert [stranger.get(address).status_code for address in addresses] == [200] * len(addresses)
    assert stranger.put("/environmentshub/opal/closing-env/star").status_code == 200
    assert stranger.post("/environmentshub/opal/closing-env/fork").status_code == 200
    etags = {address: stranger.get(address).headers.get("etag") for address in addresses}
    assert owner.post("/environmentshub/resolve", json={"name": "closing-env", "visibility": "PRIVATE"}).is_success
    for address in addresses:
        known = {"If-None-Match": etags[address]} if etags[address] else {}
        assert stranger.get(address, headers=known).status_code == 404, address
    starred = stranger.get("/environmentshub/", params={"starred_only": True}).json()
    assert (starred["data"], starred["total_count"]) == ([], 0)
    assert stranger.delete("/environmentshub/opal/closing-env/star").status_code == 404
    mine = stranger.get("/environmentshub/stan/closing-env/@latest").json()["data"]
    assert mine["forked_from"] is None, "the fork does not tell of what is private now"
    assert owner.get("/environmentshub/opal/closing-env/@latest").json()["data"]["stars"] == 1


def test_the_log_has_no_names(world: World) -> None:
    """After all of the above, when the tests run in this order; alone it looks at the making of the world."""
    for who in ("member", "stranger", "nobody"):
        ask(world, who, ("GET", VERSION), {})
    log = world.hub.log
    assert "GET /api/v1/environmentshub/makers/-/@0.1.0 200" in log
    assert "GET /api/v1/environmentshub/makers/-/@0.1.0 404" in log
    for mark in (
        "hidden-env",
        "hidden_env",
        "hidden-image",
        "crew-image",
        "HIDDEN_SECRET",
        "secret words",
        "hidden-tag",
    ):
        lines = [line for line in log.splitlines() if mark in line]
        assert not lines, lines[:3]
