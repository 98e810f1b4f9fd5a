"""No field of a request does nothing: each changes what somebody sees, or is refused with a sentence.

The fields are those of the Hub's OpenAPI document; one that `field_cases.py` does not name fails the test, so that nobody
forgets to think of a new one.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from prime_hub.app import create_app
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.asking import API, BODIES, BOX, FORMS, HUB, IMAGE, INSIDE, QUERIES, TAG, Owned, document
from tests.hub.field_cases import ABSENT, CASES, LIMITS, PAGES, TUNNELS, Case, Differs, Refused, Shown
from tests.hub.images import DOCKERFILE, Gateway, build, create
from tests.hub.pushing import Push, make_archive, push

# What is another one with every answer, whatever was asked.
VOLATILE = re.compile(
    r"\bc?[0-9a-f]{24}\b|\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:\d\d)?|x\d+x|X\d+X|prime_[\w-]+|\d{10}\.[\w=-]+"
    r"|[A-Z2-9]{5}-[A-Z2-9]{5}|\bt-x\d+x\b"
)

ECHO = frozenset({"limit", "offset", "page", "perPage", "dryRun", "source", "hint"})


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _properties(schema: dict[str, Any], before: str = "") -> Iterator[str]:
    schema = _resolved(schema)
    for part in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        yield from _properties(part, before)
    if schema.get("type") == "array":
        yield from _properties(schema["items"], f"{before}[]")
    for name, inner in schema.get("properties", {}).items():
        where = f"{before}.{name}" if before else name
        yield where
        yield from _properties(inner, where)


def fields() -> dict[str, list[str]]:
    """Every field of every operation that has any."""
    found: dict[str, list[str]] = {}
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            names = [f"?{one['name']}" for one in operation.get("parameters", ()) if one["in"] == "query"]
            assert not [one for one in operation.get("parameters", ()) if one["in"] not in ("query", "path")]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                names += _properties(content["schema"])
            if names:
                found[f"{method.upper()} {path}"] = list(dict.fromkeys(names))
    return found


def test_every_field_is_in_the_table() -> None:
    known = {operation: set(cases) for operation, cases in CASES.items()}
    there = {operation: set(names) for operation, names in fields().items()}
    assert known == there, {
        operation: known.get(operation, set()) ^ there.get(operation, set())
        for operation in known | there
        if known.get(operation) != there.get(operation)
    }


READ_OF_A_FORM = re.compile(r'form\.(?:text|get|many)\("(\w+)"')


def _of_addresses(dependant: Dependant) -> list[Any]:
    """The parameters of a route, and of what it depends on."""
    return [*dependant.query_params, *(one for inner in dependant.dependencies for one in _of_addresses(inner))]


def page_fields() -> dict[str, set[str]]:
    """What the pages' own routes read: of their addresses by their parameters, of their forms by what they ask for."""
    found: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        routers = [
            one.original_router for one in create_app(Settings(Path(folder))).routes if hasattr(one, "original_router")
        ]
    for route in (route for router in routers for route in router.routes):
        if not isinstance(route, APIRoute) or not route.endpoint.__module__.startswith("prime_hub.web."):
            continue
        source = inspect.getsource(route.endpoint)
        names = {f"?{one.alias}" for one in _of_addresses(route.dependant)} | set(READ_OF_A_FORM.findall(source))
        if "_require_typed(" in source:
            names.add("confirm")
        for method in sorted(route.methods) if names else ():
            found[f"{method} {route.path}"] = names
    return found


def test_every_field_of_a_page_is_in_the_table() -> None:
    known = {route: set(cases) for route, cases in PAGES.items()}
    there = page_fields()
    assert known == there, {route: known.get(route, set()) ^ there.get(route, set()) for route in known | there}


PROBED = [
    pytest.param(operation, field, case, id=f"{operation} {field}")
    for operation, cases in (CASES | PAGES).items()
    for field, case in cases.items()
]


@pytest.fixture(scope="module")
def owned(module_hub: RunningHub) -> Owned:
    """Somebody who has two of what is listed, beside others who have something, too."""
    module_hub.wait_for_runner()
    one = Owned(module_hub)
    one.restore()
    module_hub.add_user("nora")
    push(one.client, "a-later-env", metadata={"tags": ["other"]})
    push(module_hub.client(module_hub.add_user("strange")), "strange-env")
    assert one.client.post("/teams", json={"slug": "second-team", "name": "Second"}).is_success
    over = create(one.client, f"{IMAGE}:{TAG}")["id"]
    assert one.client.delete(f"/sandbox/{over}").is_success
    for path, text in {"/tmp/kept": b"kept text", "/tmp/more": b"more"}.items():
        assert one.send("PUT", f"{INSIDE.format(**one.values)}/files?path={path}", content=text).is_success
    return one


def asked(owned: Owned, operation: str, field: str, value: Any, case: Differs | Refused) -> httpx.Response:
    """The operation's request with one field set to that value."""
    method, _, path = operation.partition(" ")
    body, query = copy.deepcopy(BODIES.get(operation, FORMS.get(operation))), dict(QUERIES.get(operation, {}))
    if case.body is not None and field.startswith("?"):
        query = dict(case.body)
    elif case.body is not None:
        body = copy.deepcopy(case.body)
    if field.startswith("?"):
        query[field[1:]] = value
    else:
        _put(body, field.split("."), value)
    values = {**owned.values, **owned.path_values(path)}
    url = re.sub(r"\{(\w+)(?::path)?\}", lambda found: values[found[1]], path)
    pairs = owned.filled({name: text for name, text in query.items() if text is not ABSENT})
    url += "?" + "&".join(f"{name}={quote_plus(text)}" for name, text in pairs.items()) if pairs else ""
    options: dict[str, Any] = {}
    if operation in FORMS:
        options = {"data": owned.filled({**body, "proof": "{proof}"})}
    elif body is not None:
        options = {"content": json.dumps(owned.filled(body)).encode(), "headers": {"Content-Type": "application/json"}}
    if path.endswith("/upload"):
        options = {"files": {"file": ("name", b"data")}}
    elif path.endswith("/tree") and method == "PUT":
        options = {"content": make_archive({"a": b"b"})}
    return owned.send(method, url, **options)


def _put(body: Any, names: list[str], value: Any) -> None:
    """Set a field; a list on the way to it has one item."""
    for name in names[:-1]:
        inner = body.setdefault(name.removesuffix("[]"), {})
        body = inner[0] if name.endswith("[]") else inner
    if value is ABSENT:
        body.pop(names[-1], None)
    else:
        body[names[-1]] = value


def seen(owned: Owned, answer: httpx.Response, see: str | None) -> str:
    """What somebody sees of a request that was carried out, without what is another each time."""
    assert answer.status_code < 400, (answer.status_code, answer.text)
    if see is not None:
        method, _, url = owned.filled(see).partition(" ")
        answer = owned.send(method, url)
        assert answer.is_success, (url, answer.text)
    told = answer.content.decode("utf-8", "replace")
    if answer.headers.get("content-type", "").startswith("application/json"):
        told = json.dumps(_without_echo(answer.json()))
    return VOLATILE.sub("…", told) + answer.headers.get("location", "")


def _without_echo(told: Any) -> Any:
    """An answer without what only says again what was asked, or is drawn by chance."""
    if isinstance(told, dict):
        return {key: _without_echo(item) for key, item in told.items() if key not in ECHO}
    return [_without_echo(item) for item in told] if isinstance(told, list) else told


@pytest.mark.parametrize(("operation", "field", "case"), PROBED)
def test_a_field_does_what_it_says(owned: Owned, operation: str, field: str, case: Case) -> None:
    if isinstance(case, Shown):
        module = importlib.import_module(f"tests.hub.{case.module}")
        assert callable(getattr(module, case.test, None)), f"{case.module} has no {case.test}"
        return
    about = f"{operation} {json.dumps([BODIES.get(operation), case.body])}"
    owned.restore(about)
    if isinstance(case, Refused):
        answer = asked(owned, operation, field, case.value, case)
        assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
        assert case.words in answer.text, answer.text
        return
    both = []
    for value in (case.one, case.other):
        owned.restore(about)
        answer = asked(owned, operation, field, value, case)
        both.append(seen(owned, answer, case.see))
        if operation == f"POST {API}/sandbox":
            owned.client.delete(f"/sandbox/{answer.json()['id']}")
    one, other = both
    assert one != other, f"{field} does nothing: {one[:1000]}"


def test_what_a_build_is_asked_for(owned: Owned) -> None:
    client = owned.client
    files = {
        "Other": DOCKERFILE.replace("GREETING=hello", "GREETING=other"),
        "Dockerfile": "FROM nothing:at-all\nRUN x",
    }
    built = build(client, "asked-for", files=files, dockerfile_path="Other", port=8123)
    assert built["status"] == "COMPLETED", built
    row = client.get("/images/asked-for/latest").json()
    assert row["config"]["port"] == 8123 and row["config"]["env"]["GREETING"] == "other", row["config"]
    files = {"Dockerfile": DOCKERFILE.replace("ENV GREETING=hello", "ARG WORD=hello\nENV GREETING=$WORD")}
    assert build(client, "asked-for", files=files, build_args={"WORD": "given"})["status"] == "COMPLETED"
    assert client.get("/images/asked-for/latest").json()["config"]["env"]["GREETING"] == "given"


def test_what_a_push_tells_of_itself(owned: Owned) -> None:
    told = {"description": "what it is", "tags": ["told-tag"], "license": "MIT"}
    one = Push(owned.client, "told-env", metadata=told)
    assert one.run(5).is_success
    later = one.prepare_version(wheel_id=one.wheel_id, runtime_hint="VERIFIERS_V0")
    assert later.is_success and one.upload_archive().is_success
    assert one.finalize_version().is_success
    detail = owned.client.get("/environmentshub/olga/told-env/@latest").json()["data"]
    assert (detail["description"], detail["tags"], detail["metadata"]["license"]) == ("what it is", ["told-tag"], "MIT")
    assert detail["metadata"]["runtime_hint"] == "VERIFIERS_V0"
    two = Push(owned.client, "untold-env")
    assert two.run(4).is_success
    refused = two.prepare_version(wheel_id="0" * 24)
    assert refused.status_code == 422 and "of this content and number; push the wheel first" in refused.text


@pytest.mark.parametrize("name", [*(f"max{what}" for what in LIMITS), *TUNNELS])
def test_limits_of_a_login_are_shown_to_who_approves_it(owned: Owned, name: str) -> None:
    owned.restore("{session}")
    asked = {"encryptionPublicKey": owned.values["public_key"], "limits": {name: 37}}
    code = owned.client.post("/auth_challenge/generate", json=asked).json()["challenge"]
    assert "at most 37 " in owned.browser.get(f"/dashboard/tokens/challenge?code={code}").text
    refused = owned.client.post("/auth_challenge/generate", json={**asked, "limits": {name: -1}})
    assert refused.status_code == 422 and name in refused.text


def test_what_a_sandbox_is_given(owned: Owned) -> None:
    box = create(owned.client, "kept-image:v1", environment_vars={"ONE": "1"}, secrets={"TWO": "2"}, port=8124)
    inside = Gateway(owned.hub, box["gatewayAuth"])
    assert inside.execute("echo $ONE $TWO").json()["stdout"].split() == ["1", "2"]
    exposed = owned.client.post(f"/sandbox/{box['id']}/expose", json={"port": 8124}).json()
    assert exposed["external_port"] != 8124, "it is the sandbox's own, so that two may have the same"
    owned.client.delete(f"/sandbox/{box['id']}")


def test_where_a_sandbox_may_connect_to(owned: Owned) -> None:
    """What the runtime cannot hold a sandbox to is refused; what it can, it says of it."""
    wishes: list[dict[str, Any]] = [
        {"network_allowlist": ["example.org"]},
        {"network_denylist": ["example.org"]},
        {"network_access": False},
    ]
    able = "egress" in owned.hub.wait_for_runner().get("enforces", ())
    for wish in wishes:
        answer = owned.client.post("/sandbox", json={"name": "s", "docker_image": "kept-image:v1", **wish})
        if not able:
            assert answer.status_code == 422 and "does not restrict where a sandbox connects to" in answer.text
            continue
        shown = answer.json()
        owned.client.delete(f"/sandbox/{shown['id']}")
        lists = (shown["networkAllowlist"], shown["networkDenylist"], shown["networkAccess"])
        assert lists != (None, None, True), shown
    for policy in ({"allowlist": ["example.org"]}, {"denylist": ["example.org"]}):
        owned.restore(BOX)
        answer = owned.client.put(BOX.removeprefix(API).format(**owned.values) + "/egress-policy", json=policy)
        if able:
            assert policy.items() <= answer.json()["policy"].items()
        else:
            assert answer.status_code in (409, 422) and answer.json()["detail"].endswith("."), answer.text


def test_an_unknown_field_of_the_table_would_fail() -> None:
    """The walk over the document finds nested fields, lists and queries."""
    found = fields()
    assert "updates[].set.owner.type" in found[f"PATCH {API}/images"]
    assert "limits.maxTunnelTtlHours" in found[f"POST {API}/auth_challenge/generate"]
    assert "?sort_by" in found[f"GET {HUB}/"]
