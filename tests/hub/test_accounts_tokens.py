"""API tokens, and logins by challenge: the wire of hub.md §2.1 with a throwaway key, the page, and every way it can end."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.conftest import RunningHub
from tests.hub.browsing import PASSWORD, Browser, dump, moment
from tests.hub.images import build
from tests.hub.people import owner_of


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory):
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def person(open_hub: RunningHub) -> Browser:
    """Somebody who is signed in."""
    browser = Browser(open_hub)
    browser.sign_up("person")
    return browser


def public_pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


class Program:
    """What a program does that logs in, as the official command does it."""

    def __init__(self, hub: RunningHub, **body: Any) -> None:
        self.hub = hub
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.http = hub.client()
        self.http.headers["User-Agent"] = "a program/1.0 <b>"
        answer = self.http.post("/auth_challenge/generate", json={"encryptionPublicKey": public_pem(self.key), **body})
        assert answer.status_code == 200, answer.text
        self.answer = answer.json()
        self.code = self.answer["challenge"]
        self.page = f"/dashboard/tokens/challenge?code={self.code}"

    def ask(self, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.answer['status_auth_token']}"}
        return self.http.get("/auth_challenge/status", params={"challenge": self.code}, headers=headers)

    def decrypted(self, result: str) -> str:
        scheme = padding.OAEP(mgf=padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        return self.key.decrypt(base64.b64decode(result), scheme).decode()


def test_the_whole_way(open_hub: RunningHub, person: Browser) -> None:
    program = Program(open_hub)
    assert program.answer["url"] == f"{open_hub.url}{program.page}" and program.answer["expires_in"] == 600
    waiting = program.ask()
    assert (waiting.status_code, "result" in waiting.json()) == (200, False)
    page = person.get(program.page)
    for words in (program.code, "a program/1.0 <b>", "127.0.0.1", "API key of person", "Limits none"):
        assert words in page.text, words
    done = person.submit(page, "/dashboard/tokens/challenge", choice="approve")
    assert "Approved" in done.text
    before = len(open_hub.api.get("/tokens").json()["data"])
    found = program.ask()
    key = program.decrypted(found.json()["result"])
    assert key.startswith("prime_") and key not in found.text
    assert open_hub.client(key).get("/user/whoami").json()["data"]["slug"] == "person"
    assert "login: a program/1.0" in person.get("/dashboard/tokens").text
    assert len(open_hub.api.get("/tokens").json()["data"]) == before, "nobody else got one"
    again = program.ask()
    assert again.status_code == 404 and again.json()["error"] == "fetched"
    assert person.get(program.page).status == 409
    for secret in (key, program.answer["status_auth_token"], program.code):
        assert secret not in open_hub.log
    assert key not in dump(open_hub) and program.answer["status_auth_token"] not in dump(open_hub)


def test_its_result_is_handed_out_once_also_to_many_at_once(open_hub: RunningHub, person: Browser) -> None:
    program = Program(open_hub)
    person.submit(program.page, "/dashboard/tokens/challenge", choice="approve")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: program.ask().status_code, range(8)))
    assert sorted(answers) == [200] + [404] * 7


def test_denied(open_hub: RunningHub, person: Browser) -> None:
    program = Program(open_hub)
    done = person.submit(program.page, "/dashboard/tokens/challenge", choice="deny")
    assert "The program gets no key." in done.text
    answer = program.ask()
    assert answer.status_code == 404 and answer.json()["error"] == "denied"
    assert person.get(program.page).status == 409


def test_it_runs_out(open_hub: RunningHub, person: Browser) -> None:
    program, approved = Program(open_hub), Program(open_hub)
    page = person.get(program.page)
    person.submit(approved.page, "/dashboard/tokens/challenge", choice="approve")
    open_hub.sql(f"UPDATE challenges SET expires_at = {moment(-1)}")
    for one in (program, approved):
        answer = one.ask()
        assert answer.status_code == 404 and answer.json()["error"] == "expired"
    late = person.submit(page, "/dashboard/tokens/challenge", choice="approve")
    assert late.status == 404 and "has run out" in late.text
    Program(open_hub)  # the next one clears what has run out away
    assert program.code not in dump(open_hub)


def test_only_the_program_that_asked_gets_it(open_hub: RunningHub, person: Browser) -> None:
    program, other = Program(open_hub), Program(open_hub)
    person.submit(program.page, "/dashboard/tokens/challenge", choice="approve")
    for token in (other.answer["status_auth_token"], program.code, open_hub.token, "x"):
        refused = program.ask(token)
        assert refused.status_code == 404 and "result" not in refused.text
    unknown = program.http.get("/auth_challenge/status", params={"challenge": "NOPE"})
    assert unknown.status_code == 404
    assert program.ask().status_code == 200


def test_who_is_not_signed_in_comes_back(open_hub: RunningHub, person: Browser) -> None:
    program, browser = Program(open_hub), Browser(open_hub)
    shown = browser.get(program.page)
    assert shown.answer.url.path == "/dashboard/sign-in" and program.code not in shown.text
    back = browser.submit(shown, "/dashboard/sign-in", slug="person", password=PASSWORD)
    assert back.answer.url.path == "/dashboard/tokens/challenge" and program.code in back.text
    # By a letter in the wrong case it is found, too: people type it.
    assert browser.get(program.page.replace(program.code, program.code.lower())).status == 200
    assert browser.get("/dashboard/tokens/challenge?code=AAAAA-AAAAA").status == 404
    bad = browser.submit(back, "/dashboard/tokens/challenge", choice="perhaps")
    assert bad.status == 422 and "result" not in program.ask().json()


def test_limits_are_shown_and_kept(open_hub: RunningHub, person: Browser) -> None:
    program = Program(open_hub, limits={"maxConcurrentSandboxes": 3, "maxTunnelTtlHours": 0})
    page = person.get(program.page)
    assert "at most 3 sandboxes at once, at most 0 hours for a tunnel" in page.text
    person.submit(page, "/dashboard/tokens/challenge", choice="approve")
    api = open_hub.client(program.decrypted(program.ask().json()["result"]))
    limits = api.get("/user/whoami").json()["data"]["key_limits"]
    assert limits == {"max_concurrent_sandboxes": 3, "max_tunnel_ttl_hours": 0}
    refused = api.post("/tokens", json={"name": "child"})
    assert refused.status_code == 403 and "has limits" in refused.json()["detail"]


def test_limits_hold(hub: RunningHub) -> None:
    command = [sys.executable, "-m", "prime_hub", "user", "add", "limited", "--password-stdin"]
    subprocess.run(
        [*command, "--data-dir", str(hub.data_dir)],
        input=PASSWORD,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **hub.variables},
    )
    browser = Browser(hub)
    browser.sign_in("limited")

    def key(**limits: int) -> httpx.Client:
        program = Program(hub, limits=limits)
        browser.submit(program.page, "/dashboard/tokens/challenge", choice="approve")
        return hub.client(program.decrypted(program.ask().json()["result"]))

    def asked(client: httpx.Client, **more: Any) -> httpx.Response:
        return client.post("/sandbox", json={"name": "s", "docker_image": "tiny:latest", "cpu_cores": 1, **more})

    one = key(maxConcurrentSandboxes=1)
    build(one)
    first = asked(one)
    assert first.status_code == 200, first.text
    with ThreadPoolExecutor(4) as pool:
        for second in pool.map(lambda _: asked(one), range(4)):
            assert second.status_code == 403 and "may have 1 sandbox at once" in second.json()["detail"]
    assert one.delete(f"/sandbox/{first.json()['id']}").is_success
    hourly = key(maxSandboxCreationsPerHour=1)
    made = asked(hourly)
    assert made.status_code == 200 and hourly.delete(f"/sandbox/{made.json()['id']}").is_success
    late = asked(hourly)
    assert late.status_code == 403 and "may make 1 sandbox within an hour" in late.json()["detail"]
    narrow = key(maxSandboxCpuCores=1)
    assert "ask for fewer" in asked(narrow, cpu_cores=2).json()["detail"]
    assert asked(narrow).status_code == 200
    assert "of which its sandboxes have 1" in asked(narrow).json()["detail"]


def test_what_cannot_be_asked_for(open_hub: RunningHub) -> None:
    small = public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    curve = public_pem(ec.generate_private_key(ec.SECP256R1()))
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    client = open_hub.client()
    for pem in (small, curve, secret, "", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "é" * 9):
        answer = client.post("/auth_challenge/generate", json={"encryptionPublicKey": pem})
        assert answer.status_code == 422 and "RSA public key" in answer.json()["detail"], pem
    good = public_pem(private)
    for body in (
        {},
        {"encryptionPublicKey": "x" * 9000},
        {"encryptionPublicKey": good, "limits": {"maxFriends": 1}},
        {"encryptionPublicKey": good, "limits": {"maxConcurrentSandboxes": -1}},
        {"encryptionPublicKey": good, "limits": {"maxConcurrentSandboxes": "many"}},
    ):
        assert client.post("/auth_challenge/generate", json=body).status_code == 422


def test_not_too_many_wait(start_hub) -> None:
    hub = start_hub()
    client = hub.client()
    body = {"encryptionPublicKey": public_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))}
    found = [client.post("/auth_challenge/generate", json=body).status_code for _ in range(101)]
    assert found == [200] * 100 + [429]
    hub.sql(f"UPDATE challenges SET expires_at = {moment(-1)}")
    assert client.post("/auth_challenge/generate", json=body).status_code == 200


def test_tokens_by_the_api(open_hub: RunningHub) -> None:
    api = open_hub.client(open_hub.add_user("tokens-api"))
    made = api.post("/tokens", json={"name": "reader", "scopes": {"environments": "read"}, "days": 30})
    assert made.status_code == 201
    row = made.json()["data"]
    reader = open_hub.client(row["token"])
    data = reader.get("/user/whoami").json()["data"]
    assert data["scope"]["environments"] == {"read": True, "write": False} and data["scope"]["images"] is None
    assert reader.get("/environmentshub/").status_code == 200
    for method, path in (
        ("POST", "/environmentshub/resolve"),
        ("GET", "/tokens"),
        ("POST", "/tokens"),
        ("GET", "/user/teams"),
    ):
        refused = reader.request(method, path, json={"name": "more"})
        assert refused.status_code == 403 and "environments:read" in refused.json()["detail"], path
    rows = api.get("/tokens").json()["data"]
    assert {one["name"] for one in rows} == {"first token", "reader"} and rows[0]["hint"] == row["token"][-4:]
    assert rows[0]["lastUsedAt"] and rows[0]["expiresAt"] and rows[1]["expiresAt"] is None
    assert [one["current"] for one in rows] == [False, True]
    assert row["token"] not in api.get("/tokens").text
    assert api.delete(f"/tokens/{row['id']}").status_code == 204
    assert api.delete(f"/tokens/{row['id']}").status_code == 204
    gone = reader.get("/user/whoami")
    assert gone.status_code == 401 and "was revoked" in gone.json()["detail"]
    assert open_hub.api.delete(f"/tokens/{row['id']}").status_code == 404
    for body in (
        {"name": ""},
        {"name": "x", "scopes": {"moon": "read"}},
        {"name": "x", "days": 0},
        {"name": "x", "days": 4000},
    ):
        assert api.post("/tokens", json=body).status_code == 422, body


def test_no_token_makes_a_mightier_one(open_hub: RunningHub) -> None:
    api = open_hub.client(open_hub.add_user("tokens-mighty"))
    scopes = {"account": "write", "environments": "read"}
    less = open_hub.client(
        api.post("/tokens", json={"name": "less", "scopes": scopes, "days": 5}).json()["data"]["token"]
    )
    for wanted in (None, {}, {"environments": "write"}, {"images": "read"}, {**scopes, "sandboxes": "read"}):
        refused = less.post("/tokens", json={"name": "more", "scopes": wanted})
        assert refused.status_code == 403 and "no key that may do more" in refused.json()["detail"], wanted
    child = less.post("/tokens", json={"name": "child", "scopes": {"environments": "read"}, "days": 3000}).json()[
        "data"
    ]
    ends = {row["name"]: row["expiresAt"] for row in api.get("/tokens").json()["data"]}
    assert child["expiresAt"] == ends["child"] == ends["less"]
    assert less.post("/user/sign-in-link").status_code == 403


def test_a_token_runs_out_and_ends_itself(open_hub: RunningHub) -> None:
    api = open_hub.client(open_hub.add_user("tokens-ending"))
    row = api.post("/tokens", json={"name": "short", "days": 1}).json()["data"]
    short = open_hub.client(row["token"])
    assert short.get("/user/whoami").status_code == 200
    open_hub.sql(f"UPDATE tokens SET expires_at = {moment(-1)} WHERE id = :id", id=row["id"])
    late = short.get("/user/whoami")
    assert late.status_code == 401 and "has run out" in late.json()["detail"]
    assert "short" not in [one["name"] for one in api.get("/tokens").json()["data"]]
    scoped = api.post("/tokens", json={"name": "scoped", "scopes": {"images": "read"}}).json()["data"]["token"]
    assert open_hub.client(scoped).delete("/tokens/current").status_code == 204
    assert open_hub.client(scoped).get("/user/whoami").status_code == 401


def test_the_owners_key_that_is_revoked_is_replaced(hub: RunningHub) -> None:
    old, slug = hub.token, hub.owner
    assert hub.api.delete("/tokens/current").status_code == 204
    assert hub.client(old).get("/user/whoami").status_code == 401
    assert hub.token != old
    assert hub.client(hub.token).get("/user/whoami").json()["data"]["slug"] == slug
    assert (hub.data_dir / "owner.token").stat().st_mode & 0o777 == 0o600


def test_tokens_by_the_page(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("keeper")
    assert "There is no API key." in browser.get("/dashboard/tokens").text
    page = "/dashboard/tokens"
    made = browser.submit(page, page, name="All <i>of</i> it", days="30", access="all")
    token = next(word for word in made.text.split() if word.startswith("prime_"))
    assert (
        "shown only this once" in made.text
        and "All <i>of</i> it" in made.text
        and "no-store" in made.answer.headers["cache-control"]
    )
    assert open_hub.client(token).get("/tokens").status_code == 200
    listed = browser.get(page)
    assert token not in listed.answer.text and f"…{token[-4:]}" in listed.text
    some = browser.submit(page, page, name="some", access="some", environments="read", days="")
    reader = next(word for word in some.text.split() if word.startswith("prime_"))
    assert "environments:read" in some.text and open_hub.client(reader).get("/tokens").status_code == 403
    for fields, words in (
        ({"name": "x"}, "Choose at least one thing"),
        ({"name": "x", "access": "some"}, "Choose at least one thing"),
        ({"name": " ", "access": "all"}, "Give the API key a name"),
        ({"name": "x", "access": "all", "days": "soon"}, "whole number"),
        ({"name": "x", "access": "all", "days": "99999"}, "An API key lives for 1 to 3660 days"),
        ({"name": "x", "access": "some", "images": "rule"}, "is no scope"),
    ):
        refused = browser.submit(page, page, **fields)
        assert refused.status == 422 and words in refused.text, fields
    gone = browser.submit(listed, f"{page}/revoke")
    assert "The API key is revoked." in gone.text
    assert open_hub.client(token).get("/user/whoami").status_code == 401
    stranger = browser.post(f"{page}/revoke", token="0" * 24, proof=browser.proof)
    assert stranger.status == 404


def test_a_key_of_the_page_does_not_more_than_was_chosen(open_hub: RunningHub) -> None:
    browser, page = Browser(open_hub), "/dashboard/tokens"
    browser.sign_up("careful")
    only = browser.submit(page, page, name="only", environments="read")
    key = next(word for word in only.text.split() if word.startswith("prime_"))
    assert open_hub.client(key).get("/user/whoami").json()["data"]["scope"]["images"] is None
    both = browser.submit(page, page, name="both", access="all", days="7", environments="read", images="write")
    assert both.status == 422 and "and also only environments:read, images:write; choose one of the two" in both.text
    kept = both.form(page).fields
    assert (kept["name"], kept["days"], kept["access"], kept["images"]) == ("both", "7", "all", "write")
    assert "both" not in browser.get(page).text


def test_a_new_key_is_shown_once_and_loading_again_makes_no_other(open_hub: RunningHub) -> None:
    browser, page = Browser(open_hub), "/dashboard/tokens"
    browser.sign_up("reloader")
    shown = browser.submit(page, page, name="one", access="all")
    key = next(word for word in shown.text.split() if word.startswith("prime_"))
    assert [answer.status_code for answer in shown.answer.history] == [303]
    assert key not in str(shown.answer.history[0].headers), "sealed on its way"
    again = browser.get(str(shown.answer.url).removeprefix(open_hub.url))
    assert key not in again.answer.text and len(open_hub.client(key).get("/tokens").json()["data"]) == 1
    # What was kept for one browser is nothing to another.
    other = Browser(open_hub)
    other.sign_up("reloader-2")
    fields = {"name": "two", "access": "all", "proof": browser.proof}
    sent = browser.client.post(f"{open_hub.url}{page}", data=fields, follow_redirects=False)
    name = next(name for name in sent.cookies if name.startswith("fresh"))
    other.client.cookies.set(name, sent.cookies[name])
    assert "prime_" not in other.get(page).text


def test_ending_a_key_takes_two_steps(hub: RunningHub) -> None:
    browser = owner_of(hub).browser
    shown = browser.get("/dashboard/tokens")
    assert "This is the key of the Hub's own machine" in shown.text
    assert re.search(r"<details[^>]*>\s*<summary>Revoke<[^\0]*?/dashboard/tokens/revoke", shown.answer.text)
