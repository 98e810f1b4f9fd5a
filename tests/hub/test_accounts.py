"""Accounts and browsers: signing up, in and out, by the real forms; who guesses, and who forges."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import RunningHub
from tests.hub.browsing import PASSWORD, Browser, dump, moment
from tests.hub.pushing import push


@pytest.fixture(scope="module")
def open_hub(tmp_path_factory: pytest.TempPathFactory):
    hub = RunningHub(tmp_path_factory.mktemp("hub"), ("--sign-up", "open"))
    yield hub
    hub.close()


def operator(hub: RunningHub, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prime_hub", "user", *words, "--data-dir", str(hub.data_dir)]
    environment = {**os.environ, **hub.variables}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment)


def of_account(slug: str) -> str:
    """A condition on rows that belong to an account."""
    return f"account_id = (SELECT id FROM accounts WHERE slug = '{slug}')"


def session_cookie(browser: Browser) -> str:
    return next(cookie.value or "" for cookie in browser.client.cookies.jar if cookie.name.startswith("session_"))


def test_sign_up_sign_out_and_in_again(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    assert "Sign in" in browser.get("/").text and not browser.signed_in
    page = browser.sign_up("ada", name="Ada Lovelace", email="ada@example.org")
    assert page.status == 200 and "ada Sign out" in page.text
    account = browser.get("/dashboard/account")
    assert account.form("/dashboard/account/profile").fields["name"] == "Ada Lovelace"
    out = browser.submit("/dashboard/account", "/dashboard/sign-out")
    assert out.status == 200 and not browser.signed_in
    assert not [cookie for cookie in browser.client.cookies.jar if cookie.name.startswith("session_")]
    back = browser.sign_in("Ada", target="/dashboard/tokens")
    assert back.answer.url.path == "/dashboard/tokens" and browser.signed_in


def test_a_fresh_hub_lets_nobody_sign_up(module_hub: RunningHub) -> None:
    browser = Browser(module_hub)
    shown = browser.get("/dashboard/sign-up")
    assert shown.status == 200 and "prime hub user add NAME" in shown.text
    assert not [form for form in shown.forms if form.action == "/dashboard/sign-up"]
    assert "/dashboard/sign-up" not in browser.get("/dashboard/sign-in").links
    form = browser.get("/dashboard/sign-in").form("/dashboard/sign-in")
    refused = browser.post("/dashboard/sign-up", slug="eve", password=PASSWORD, proof=form.fields["proof"])
    assert refused.status == 403 and "eve" not in dump(module_hub)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"slug": "Bad Name"}, 422, "lower-case letters"),
        ({"slug": "dashboard"}, 422, "the Hub's own addresses"),
        ({"slug": "0123456789abcdef01234567"}, 422, "looks like an account's id"),
        ({"slug": "c0123456789abcdef01234567"}, 422, "looks like an account's id"),
        ({"slug": "somebody", "password": "short"}, 422, "10 to 256 characters"),
        ({"slug": "somebody", "password": "aaaaaaaaaaaa"}, 422, "too easy"),
        ({"slug": "somebody", "password": "somebody"}, 422, "10 to 256"),
        ({"slug": "somebody", "email": "no address"}, 422, "e-mail address"),
        ({"slug": "somebody", "name": "x" * 101}, 422, "100 characters"),
        ({"slug": "somebody", "name": "a\x07b"}, 422, "one line"),
    ],
)
def test_what_cannot_sign_up(open_hub: RunningHub, fields: dict[str, str], status: int, words: str) -> None:
    browser = Browser(open_hub)
    page = browser.sign_up(**{"password": PASSWORD, **fields})
    assert (page.status, not browser.signed_in) == (status, True) and words in page.text
    form = page.form("/dashboard/sign-up")
    assert "password" not in form.fields or form.fields["password"] == ""


def test_a_name_is_given_once_also_to_two_at_once(open_hub: RunningHub) -> None:
    def one(_: int) -> int:
        return Browser(open_hub).sign_up("twice").status

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [200, 409, 409, 409]
    page = Browser(open_hub).sign_up("twice")
    assert "There is already an account named 'twice'" in page.text


def test_signing_up_is_bounded(start_hub) -> None:
    hub = start_hub("--sign-up", "open")
    browser = Browser(hub)
    form = browser.get("/dashboard/sign-up").form("/dashboard/sign-up")
    fields = {**form.fields, "slug": hub.owner, "password": PASSWORD}
    assert {browser.post("/dashboard/sign-up", **fields).status for _ in range(50)} == {409}
    page = browser.post("/dashboard/sign-up", **{**fields, "slug": "somebody"})
    assert page.status == 429 and "Too many attempts to make an account" in page.text


def test_who_signed_up_is_not_of_this_machine(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("outsider")
    made = browser.submit("/dashboard/tokens", "/dashboard/tokens", name="k", access="all")
    token = next(word for word in made.text.split() if word.startswith("prime_"))
    link = open_hub.client(token).post("/user/sign-in-link")
    assert link.status_code == 403 and "made on the Hub's own machine" in link.json()["detail"]


def test_wrong_and_unknown_get_one_sentence(open_hub: RunningHub) -> None:
    Browser(open_hub).sign_up("known")
    open_hub.add_user("keyonly")  # has no password
    pages = [
        Browser(open_hub).sign_in("known", "not the password"),
        Browser(open_hub).sign_in("unknown", "not the password"),
        Browser(open_hub).sign_in("keyonly", "not the password"),
        Browser(open_hub).sign_in("keyonly", ""),
    ]
    for page, name in zip(pages, ("known", "unknown", "keyonly", "keyonly"), strict=True):
        assert page.status == 403
        assert page.text.replace(name, "") == pages[0].text.replace("known", "")
    assert "do not belong together" in pages[0].text


def test_guessing_is_bounded_also_at_once(start_hub) -> None:
    hub = start_hub("--sign-up", "open")
    Browser(hub).sign_up("target")
    browser = Browser(hub)
    form = browser.get("/dashboard/sign-in").form("/dashboard/sign-in")

    def guess(number: int) -> int:
        other = Browser(hub)
        other.client.cookies.update(browser.client.cookies)
        return other.post(
            "/dashboard/sign-in", **{**form.fields, "slug": "target", "password": f"guess {number}"}
        ).status

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(guess, range(14)))
    assert found.count(403) == 10 and found.count(429) == 4
    late = Browser(hub).sign_in("target")  # the right one, from the same address
    assert late.status == 429 and "Too many wrong passwords; try again in 15 minutes." in late.text
    # Nobody else is locked out, and one name that is not there is as bounded as one that is.
    assert Browser(hub).sign_up("other").status == 200
    assert Browser(hub).sign_in("other").status == 200
    assert [Browser(hub).sign_in("nobody-here", "x" * 12).status for _ in range(11)][-2:] == [403, 429]


def test_the_cookie(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("cookie")
    browser.submit("/", "/dashboard/sign-out")
    browser.client.follow_redirects = False
    form = browser.get("/dashboard/sign-in").form("/dashboard/sign-in")
    answer = browser.post("/dashboard/sign-in", **{**form.fields, "slug": "cookie", "password": PASSWORD}).answer
    assert answer.status_code == 303
    given = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("session_"))
    assert "HttpOnly" in given and "SameSite=lax" in given and "Path=/" in given and "Secure" not in given
    secret = session_cookie(browser)
    assert secret not in dump(open_hub) and PASSWORD not in dump(open_hub)
    assert "$argon2id$" in dump(open_hub)
    # Behind a proxy that speaks https.
    proxied = Browser(open_hub, **{"X-Forwarded-Proto": "https"})
    proxied.client.follow_redirects = False
    shown = proxied.client.get(f"{open_hub.url}/dashboard/sign-in")
    (bound,) = shown.headers.get_list("set-cookie")
    assert bound.startswith("__Host-form_") and "Secure" in bound and "Path=/" in bound


def test_the_api_never_takes_the_cookie(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("pagesonly")
    for method, path in (("GET", "/user/whoami"), ("GET", "/tokens"), ("POST", "/teams"), ("PATCH", "/user/slug")):
        answer = browser.client.request(method, f"{open_hub.url}/api/v1{path}", json={"slug": "x", "name": "x"})
        assert answer.status_code == 401, (path, answer.text)


def test_a_token_fills_in_no_form(open_hub: RunningHub) -> None:
    browser = Browser(open_hub, Authorization=f"Bearer {open_hub.token}")
    assert browser.get("/").status == 200
    assert browser.get("/dashboard/tokens").answer.url.path == "/dashboard/sign-in"
    form = browser.get("/dashboard/sign-in").form("/dashboard/sign-in")
    refused = browser.post("/dashboard/tokens", name="more", proof=form.fields["proof"])
    assert refused.status == 401


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/dashboard/account/profile", {"name": "forged"}),
        ("/dashboard/account/name", {"slug": "forged"}),
        ("/dashboard/account/password", {"old": PASSWORD, "new": "forged password"}),
        ("/dashboard/account/sessions", {"session": "x"}),
        ("/dashboard/tokens", {"name": "forged"}),
        ("/dashboard/tokens/revoke", {"token": "x"}),
        ("/dashboard/tokens/challenge", {"code": "x", "choice": "approve"}),
        ("/dashboard/teams", {"slug": "forged"}),
        ("/dashboard/teams/x/members", {"user": "x"}),
        ("/dashboard/teams/x/role", {"user": "x"}),
        ("/dashboard/teams/x/remove", {"user": "x"}),
        ("/dashboard/teams/x/settings", {"name": "forged"}),
        ("/dashboard/teams/x/delete", {"confirm": "x"}),
        ("/dashboard/sign-out", {"unused": "1"}),
        ("/dashboard/sign-in", {"slug": "forger", "password": PASSWORD}),
        ("/dashboard/sign-up", {"slug": "forged", "password": PASSWORD}),
    ],
)
def test_a_form_without_its_field_is_refused(forger, open_hub: RunningHub, path: str, fields: dict[str, str]) -> None:
    victim, stranger_proof = forger
    for proof in ({}, {"proof": "1999999999.AAAA"}, {"proof": stranger_proof}):
        refused = victim.post(path, **fields, **proof)
        assert refused.status == 403, path
    whole = {**fields, "proof": victim.proof}
    for site in ("cross-site", "same-site"):
        sent = victim.client.post(f"{open_hub.url}{path}", data=whole, headers={"Sec-Fetch-Site": site})
        assert sent.status_code == 403 and "another site" in sent.text
    assert victim.client.post(f"{open_hub.url}{path}", json=whole).status_code == 400
    assert victim.signed_in and "forged" not in dump(open_hub)


@pytest.fixture(scope="module")
def forger(open_hub: RunningHub):
    """Somebody who is signed in, and the proof of somebody else's form."""
    victim, stranger = Browser(open_hub), Browser(open_hub)
    victim.sign_up("victim")
    stranger.sign_up("stranger")
    return victim, stranger.proof


def test_sessions_end(open_hub: RunningHub) -> None:
    first, second = Browser(open_hub), Browser(open_hub)
    first.sign_up("ending")
    second.sign_in("ending")
    stolen = session_cookie(second)
    page = first.get("/dashboard/account")
    assert page.text.count("Test browser") == 2 and "this browser" in page.text
    out = first.submit(page, "/dashboard/account/sessions")
    assert "That browser is signed out." in out.text and first.signed_in and not second.signed_in
    # Signed out means ended, not only forgotten by the browser.
    second.sign_in("ending")
    assert session_cookie(second) != stolen
    stolen = session_cookie(second)
    second.submit("/", "/dashboard/sign-out")
    thief = Browser(open_hub)
    name = next(cookie.name for cookie in first.client.cookies.jar if cookie.name.startswith("session_"))
    thief.client.cookies.set(name, stolen)
    assert not thief.signed_in
    open_hub.sql(f"UPDATE browser_sessions SET expires_at = {moment(-1)} WHERE {of_account('ending')}")
    assert not first.signed_in
    assert first.get("/dashboard/account").answer.url.path == "/dashboard/sign-in"


def test_a_used_session_goes_on_and_not_for_ever(open_hub: RunningHub) -> None:
    browser = Browser(open_hub)
    browser.sign_up("lasting")
    soon = f"UPDATE browser_sessions SET last_used_at = {moment(-1)}, expires_at = {moment(1)}"
    longer = f"SELECT count(*) FROM browser_sessions WHERE {of_account('lasting')} AND expires_at > "
    open_hub.sql(f"{soon} WHERE {of_account('lasting')}")
    assert browser.signed_in
    assert open_hub.sql(longer + moment(13)) == [(1,)]
    open_hub.sql(f"{soon}, created_at = {moment(-89)} WHERE {of_account('lasting')}")
    assert browser.signed_in
    assert open_hub.sql(longer + moment(2)) == [(0,)]


def test_another_password_signs_the_others_out(open_hub: RunningHub) -> None:
    here, there = Browser(open_hub), Browser(open_hub)
    here.sign_up("changing")
    there.sign_in("changing")
    change = "/dashboard/account/password"
    wrong = here.submit("/dashboard/account", change, old="not it at all", new="another good password")
    assert wrong.status == 403 and "not the password as it is now" in wrong.text
    weak = here.submit("/dashboard/account", change, old=PASSWORD, new="changing")
    assert weak.status == 422 and there.signed_in
    done = here.submit("/dashboard/account", change, old=PASSWORD, new="another good password")
    assert "Your password is changed" in done.text and here.signed_in and not there.signed_in
    assert there.sign_in("changing").status == 403
    assert there.sign_in("changing", "another good password").status == 200


def test_the_operator_gives_passwords(hub: RunningHub) -> None:
    added = operator(hub, "add", "grace", "--password-stdin", stdin="a password of grace\n")
    assert added.returncode == 0, added.stderr
    assert added.stdout.count("\n") == 1 and added.stdout.startswith("prime_")
    browser = Browser(hub)
    assert browser.sign_in("grace", "a password of grace").status == 200
    done = operator(hub, "password", "grace", "--password-stdin", stdin="quite another one\n")
    assert (done.returncode, done.stderr) == (0, "") and "quite" not in done.stdout
    assert not browser.signed_in
    assert browser.sign_in("grace", "quite another one").status == 200
    for words, stdin, sentence in (
        (("password", "nobody", "--password-stdin"), "long enough for it\n", "no account named 'nobody'"),
        (("password", "grace", "--password-stdin"), "short\n", "10 to 256 characters"),
        (("add", "hopper", "--password-stdin"), "short\n", "10 to 256 characters"),
        (("password", "grace"), "", "--password-stdin"),
    ):
        refused = operator(hub, *words, stdin=stdin)
        assert refused.returncode == 1 and sentence in refused.stderr and "Traceback" not in refused.stderr
    assert "hopper" not in dump(hub)


def test_the_machines_owner_comes_in_by_a_link(hub: RunningHub) -> None:
    answer = hub.api.post("/user/sign-in-link").json()["data"]
    assert answer["url"] == f"{hub.url}{answer['path']}?code={answer['code']}"
    assert answer["code"] not in dump(hub)
    path = f"{answer['path']}?code={answer['code']}"
    assert Browser(hub, **{"X-Forwarded-For": "203.0.113.9"}).get(path).status == 403
    browser = Browser(hub)
    assert browser.get(f"{path}&next=/dashboard/tokens").answer.url.path == "/dashboard/tokens" and browser.signed_in
    again = Browser(hub)
    used = again.get(path)
    assert used.status == 403 and "prime hub open" in used.text and not again.signed_in
    late = hub.api.post("/user/sign-in-link").json()["data"]["code"]
    hub.sql(f"UPDATE browser_sessions SET expires_at = {moment(-1)} WHERE agent = 'sign-in link'")
    assert Browser(hub).get(f"{answer['path']}?code={late}").status == 403
    assert hub.client().post("/user/sign-in-link").status_code == 401
    assert (
        hub.client(hub.token).post("/user/sign-in-link", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 403
    )
    # A code is no cookie.
    code = hub.api.post("/user/sign-in-link").json()["data"]["code"]
    name = next(cookie.name for cookie in browser.client.cookies.jar if cookie.name.startswith("session_"))
    again.client.cookies.set(name, code)
    assert not again.signed_in


def test_private_environments_are_seen_by_whose_they_are(hub: RunningHub) -> None:
    token = operator(hub, "add", "owner-of-it", "--password-stdin", stdin=PASSWORD).stdout.strip()
    operator(hub, "add", "passer-by", "--password-stdin", stdin=PASSWORD)
    push(hub.client(token), "hidden-env", visibility="PRIVATE")
    page = "/dashboard/environments/owner-of-it/hidden-env"
    mine, other = Browser(hub), Browser(hub)
    mine.sign_in("owner-of-it")
    other.sign_in("passer-by")
    assert mine.get(page).status == 200 and "hidden-env" in mine.get("/").text
    for browser in (other, Browser(hub)):
        assert browser.get(page).status == 404 and "hidden-env" not in browser.get("/").text
    assert "no-store" in mine.get("/").answer.headers["cache-control"]
    assert "Cookie" in mine.get("/").answer.headers["vary"]
    mine.submit("/", "/dashboard/sign-out")
    assert mine.get(page).status == 404


def test_another_name_keeps_the_former_one(open_hub: RunningHub) -> None:
    browser, squatter = Browser(open_hub), Browser(open_hub)
    browser.sign_up("before")
    squatter.sign_up("squatter")
    rename = "/dashboard/account/name"
    assert browser.submit("/dashboard/account", rename, slug="squatter").status == 409
    assert browser.submit("/dashboard/account", rename, slug="Not A Name").status == 422
    done = browser.submit("/dashboard/account", rename, slug="after")
    assert "new name" in done.text and "after Sign out" in done.text
    assert squatter.submit("/dashboard/account", rename, slug="before").status == 409
    assert Browser(open_hub).sign_up("before").status == 409
    assert operator(open_hub, "add", "before").returncode == 1
    assert browser.submit("/dashboard/account", rename, slug="before").status == 200
    assert browser.submit("/dashboard/account", rename, slug="after").status == 200
    for number in range(4):
        assert browser.submit("/dashboard/account", rename, slug=f"name-{number}").status == 200
    assert browser.submit("/dashboard/account", rename, slug="one-more").status == 409


def test_old_addresses_go_on(open_hub: RunningHub) -> None:
    api = open_hub.client(open_hub.add_user("old-name"))
    push(api, "moving-env")
    assert api.patch("/user/slug", json={"slug": "new-name"}).status_code == 200
    for name in ("old-name", "new-name"):
        found = open_hub.client().get(f"/environmentshub/{name}/moving-env/@latest")
        assert found.status_code == 200, found.text
        assert Browser(open_hub).get(f"/dashboard/environments/{name}/moving-env").status == 200
        assert open_hub.client().get(f"{open_hub.url}/{name}/simple/moving-env/").status_code == 200
    assert push(api, "moving-env", "0.2.0").version == "0.2.0"
    for name in ("old-name", "new-name", "somebody-else"):
        resolved = api.post("/environmentshub/resolve", json={"name": "moving-env", "owner_slug": name})
        assert resolved.status_code == (200 if name.endswith("name") else 403), resolved.text


def test_the_slug_by_the_api(open_hub: RunningHub) -> None:
    token = open_hub.add_user("slug-one")
    open_hub.add_user("slug-two")
    api = open_hub.client(token)
    assert api.patch("/user/slug", json={"slug": "slug-two"}).status_code == 409
    assert api.patch("/user/slug", json={"slug": "no good"}).status_code == 422
    assert api.patch("/user/slug", json={"slug": "slug-three"}).json()["data"]["slug"] == "slug-three"
    assert api.get("/user/whoami").json()["data"]["slug"] == "slug-three"
    assert open_hub.client().patch("/user/slug", json={"slug": "slug-four"}).status_code == 401


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "evil", "/\t/evil.example"],
)
def test_nobody_is_led_elsewhere_by_signing_in(forger, open_hub: RunningHub, target: str) -> None:
    browser = forger[0]
    shown = browser.client.get(f"{open_hub.url}/dashboard/sign-in", params={"next": target}, follow_redirects=False)
    assert (shown.status_code, shown.headers["location"]) == (303, "/")


def test_no_secret_is_in_the_log(start_hub) -> None:
    hub = start_hub("--sign-up", "open")
    browser = Browser(hub)
    browser.sign_up("quiet", email="quiet@example.org")
    made = browser.submit("/dashboard/tokens", "/dashboard/tokens", name="k", access="all")
    token = next(word for word in made.text.split() if word.startswith("prime_"))
    code = hub.api.post("/user/sign-in-link").json()["data"]["code"]
    Browser(hub).get(f"/dashboard/sign-in/link?code={code}")
    browser.submit("/dashboard/account", "/dashboard/account/password", old=PASSWORD, new="another good password")
    Browser(hub).sign_in("quiet", "a wrong password here")
    secrets = [PASSWORD, "another good password", "a wrong password here", token, code, hub.token, browser.proof]
    secrets += [session_cookie(browser)]
    for one in secrets:
        assert one not in hub.log
    assert "POST /dashboard/sign-in 403" in hub.log and "GET /dashboard/sign-in/link 303" in hub.log
