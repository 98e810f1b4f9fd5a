"""Checks that the Hub makes of what is published: asked for, made in sandboxes, shown, and nobody's but the Hub's."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import httpx
import pytest

from prime_hub.errors import TooMany
from prime_hub.hub import Hub
from prime_hub.settings import Settings
from tests.conftest import RunningHub
from tests.hub.checking import CODE, HEADERS, address, check, gone, hosted, outcomes, push_checkable, read, until
from tests.hub.people import owner_of

PAGE = "/dashboard/environments"
SLOW = "import time\ntime.sleep(600)\n"


def badge(hub: RunningHub, path: str, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{hub.url}{PAGE}/{path}/badge.svg", headers=headers, trust_env=False)


def page(hub: RunningHub, path: str) -> str:
    answer = httpx.get(f"{hub.url}{PAGE}/{path}", headers={"Accept": "text/html"}, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_a_sound_version(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "sound")
    before = read(api, owner, "sound")
    assert (before["state"], before["badge"], before["report"]) == ("none", "not checked", None)
    assert "not checked" in badge(module_hub, f"{owner}/sound").text
    assert f"prime env check {owner}/sound@0.1.0 --on-hub" in page(module_hub, f"{owner}/sound/check")
    found = check(api, owner, "sound")
    assert (found["state"], found["badge"], found["problems"]) == ("done", "checked", 0), found
    made = outcomes(found)
    for name in ("metadata-invalid", "load-fails", "rows-invalid", "rollout-fails", "reward-constant"):
        assert made[name] == "pass", found["report"]
    assert made["seed-ignored"] == "skip" and found["runtime"] and found["checker"].startswith("verifiers 0.1.")
    assert found["report"]["environment"]["owner"] == owner and found["report"]["part"] == "full"
    picture = badge(module_hub, f"{owner}/sound")
    assert picture.headers["content-type"] == "image/svg+xml" and "environment check: checked" in picture.text
    shown = page(module_hub, f"{owner}/sound/check")
    assert "/dashboard/checks/load-fails" in shown and f"[![environment check]({module_hub.url}" in shown
    assert "environment check: checked" in page(module_hub, f"{owner}/sound")
    listed = httpx.get(f"{module_hub.url}/?q=sound", trust_env=False).text
    assert f'href="/dashboard/environments/{owner}/sound/check">checked</a>' in listed
    # Sandboxes of the Hub's own are in nobody's list, and nothing is left of them.
    assert api.get("/sandbox").json()["sandboxes"] == [] and api.get("/images").json()["data"] == []
    gone(module_hub)
    if os.environ["PRIME_HUB_RUNTIME"] in ("process", "bubblewrap"):
        images = list((module_hub.data_dir / "runner" / "images").iterdir())
        assert len(images) == 1, "only the checker's is kept"


def test_what_is_wrong_is_on_the_page_with_where_and_what_to_change(module_hub: RunningHub) -> None:
    code = CODE.replace("return 1.0 if", "raise ValueError('<b>no</b>')\n    return 1.0 if")
    push_checkable(module_hub.api, "raising", code)
    found = check(module_hub.api, module_hub.owner, "raising")
    failed = [name for name, outcome in outcomes(found).items() if outcome == "fail"]
    assert failed and found["problems"] == len(failed) and found["badge"].startswith(f"{len(failed)} problem"), found
    shown = page(module_hub, f"{module_hub.owner}/raising/check")
    finding = next(one for check in found["report"]["checks"] for one in check["findings"] if one["id"] == failed[0])
    assert finding["where"] in shown and "<b>no</b>" not in shown
    assert f"{len(failed)} problem" in badge(module_hub, f"{module_hub.owner}/raising").text
    explained = httpx.get(f"{module_hub.url}/dashboard/checks/{failed[0]}", trust_env=False)
    assert explained.status_code == 200 and failed[0] in explained.text
    assert httpx.get(f"{module_hub.url}/dashboard/checks/no-such", trust_env=False).status_code == 404


def test_what_cannot_be_installed_is_not_checked_and_says_why(module_hub: RunningHub) -> None:
    headers = "Requires-Dist: verifiers>=0.9\n"
    push_checkable(module_hub.api, "impossible", headers=headers)
    found = check(module_hub.api, module_hub.owner, "impossible")
    assert found["state"] == "failed" and found["badge"] == "not checked"
    assert found["reason"].startswith("It cannot be installed: impossible needs verifiers>=0.9")
    assert found["reason"] in page(module_hub, f"{module_hub.owner}/impossible/check").replace("&gt;", ">")
    push_checkable(module_hub.api, "missing", headers=HEADERS + "Requires-Dist: no-such-distribution-of-anybody==1\n")
    found = check(module_hub.api, module_hub.owner, "missing")
    assert found["state"] == "failed" and "no-such-distribution-of-anybody" in found["log"], found
    assert "no-such-distribution-of-anybody" in found["reason"] and "Dockerfile" not in found["reason"]
    assert read(module_hub.client(), module_hub.owner, "missing")["log"] is None, "the log is for those who publish"
    assert "What was said then" not in page(module_hub, f"{module_hub.owner}/missing/check")


def test_what_needs_a_key_is_only_partly_checked(module_hub: RunningHub) -> None:
    code = CODE.replace("    rows =", "    vf.ensure_keys(['A_KEY_OF_NOBODY'])\n    rows =")
    push_checkable(module_hub.api, "keyed", code)
    found = check(module_hub.api, module_hub.owner, "keyed")
    assert found["badge"] == "partly checked" and outcomes(found)["load-fails"] == "skip", found
    assert "partly checked" in badge(module_hub, f"{module_hub.owner}/keyed").text


def test_an_environment_comes_with_the_others_of_its_owner_that_it_needs(module_hub: RunningHub) -> None:
    push_checkable(module_hub.api, "needed-words", "WORDS = ['a', 'b']\n" + CODE)
    code = CODE.replace("import verifiers", "from needed_words import WORDS\nimport verifiers")
    push_checkable(module_hub.api, "needing", code, headers=HEADERS + "Requires-Dist: needed-words>=0.1\n")
    found = check(module_hub.api, module_hub.owner, "needing")
    assert outcomes(found)["load-fails"] == "pass", found


def test_while_one_goes_on_asking_is_joining_it_and_deleting_the_version_ends_it(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "slow", SLOW + CODE)
    first = api.post(address(owner, "slow"))
    assert first.status_code == 202 and first.json()["data"]["version"] == "0.1.0"
    until(api, owner, "slow", "running")
    end = time.monotonic() + 120
    while len(hosted(module_hub.data_dir)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    again = api.post(address(owner, "slow", "0.1.0")).json()["data"]
    assert again["asked_at"] == first.json()["data"]["asked_at"] and again["state"] == "running"
    assert module_hub.sql("SELECT count(*) FROM jobs WHERE kind = 'check' AND state = 'running'")[0][0] == 1
    assert "Load this page again" in page(module_hub, f"{owner}/slow/check")
    assert api.delete(f"/environmentshub/{owner}/slow/@0.1.0").is_success
    gone(module_hub)
    assert module_hub.sql("SELECT count(*) FROM checks WHERE state = 'running'")[0][0] == 0
    assert badge(module_hub, f"{owner}/slow").status_code == 404


def test_a_hub_that_is_killed_in_the_middle_makes_the_check_again(hub: RunningHub) -> None:
    owner = hub.owner
    gate = hub.data_dir.with_name("gate")
    gate.touch()
    waiting = f"import os, time\nwhile os.path.exists({str(gate)!r}):\n    time.sleep(0.1)\n"
    push_checkable(hub.api, "waiting", waiting + CODE)
    hub.api.post(address(owner, "waiting"))
    end = time.monotonic() + 120
    while len(hosted(hub.data_dir)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    first = set(hosted(hub.data_dir))
    assert len(first) == 2
    hub.kill()
    hub.close_clients()
    gate.unlink()
    hub.start()
    found = until(hub.api, owner, "waiting")
    assert (found["state"], found["badge"]) == ("done", "checked"), found
    assert hub.sql("SELECT attempt FROM jobs WHERE kind = 'check'")[0][0] == 2
    gone(hub)


def test_a_runner_that_is_killed_in_the_middle_gives_it_back(hub: RunningHub) -> None:
    owner = hub.owner
    push_checkable(hub.api, "interrupted", "import time\ntime.sleep(3)\n" + CODE)
    hub.api.post(address(owner, "interrupted"))
    end = time.monotonic() + 120
    while len(hosted(hub.data_dir)) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert hub.runner_pid is not None
    os.kill(hub.runner_pid, signal.SIGKILL)
    found = until(hub.api, owner, "interrupted")
    assert (found["state"], found["badge"]) == ("done", "checked"), found
    gone(hub)


def test_who_may_not_publish_may_read_and_not_begin(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "open-to-read")
    push_checkable(api, "closed", visibility="PRIVATE")
    stranger, nobody = module_hub.client(module_hub.add_user("stranger")), module_hub.client()
    assert stranger.post(address(owner, "open-to-read")).status_code == 403
    assert nobody.post(address(owner, "open-to-read")).status_code == 401
    assert stranger.post(address(owner, "closed")).status_code == 404
    check(api, owner, "open-to-read")
    check(api, owner, "closed")
    assert read(nobody, owner, "open-to-read")["report"]["outcome"] == "pass"
    assert nobody.get(address(owner, "closed")).status_code == 404
    assert badge(module_hub, f"{owner}/closed").status_code == 404
    assert badge(module_hub, f"{owner}/closed", module_hub.token).headers["cache-control"] == "private, no-store"


def test_where_nothing_isolates_only_accounts_of_this_machine_are_checked(start_hub) -> None:
    hub = start_hub("--runtime", "process")
    guest = hub.client(hub.add_user("guest"))
    hub.sql("UPDATE accounts SET local = false WHERE slug = 'guest'")  # as one from elsewhere
    push_checkable(guest, "foreign")
    found = check(guest, "guest", "foreign")
    assert found["state"] == "failed" and "does not isolate builds" in found["reason"], found
    # A guest's version does not run in a team's name either, when somebody of this machine asks for it.
    hub.api.post("/teams", json={"slug": "crew", "name": "Crew"})
    assert hub.api.post("/teams/crew/members", json={"user": "guest"}).is_success
    push_checkable(guest, "shared", team="crew")
    found = check(hub.api, "crew", "shared")
    assert found["state"] == "failed" and "does not isolate builds" in found["reason"], found


def test_a_request_is_held_until_something_has_changed(module_hub: RunningHub) -> None:
    api, owner = module_hub.api, module_hub.owner
    push_checkable(api, "followed", "import time\ntime.sleep(1)\n" + CODE)
    api.post(address(owner, "followed"))
    seen = []
    while not seen or seen[-1][0] in ("queued", "running"):
        found = read(api, owner, "followed", wait=25)
        seen.append((found["state"], found["progress"]))
    assert seen[-1] == ("done", None) and ("running", "package") in seen, seen
    assert len(seen) == len(set(seen)), "each answer says something new"


def test_owners_have_their_turns(module_hub: RunningHub) -> None:
    """One of each owner after the other, whoever asked for how many."""
    api, owner = module_hub.api, module_hub.owner
    other = module_hub.client(module_hub.add_user("patient"))
    headers = "Requires-Dist: verifiers>=0.9\n"
    push_checkable(api, "holder", "import time\ntime.sleep(2)\n" + CODE)
    for name in ("many-1", "many-2", "many-3"):
        push_checkable(api, name, headers=headers)
    push_checkable(other, "single", headers=headers)
    names = [(api, owner, one) for one in ("holder", "many-1", "many-2", "many-3")] + [(other, "patient", "single")]
    for client, slug, name in names:
        assert client.post(address(slug, name)).status_code == 202
    began = {name: until(client, slug, name)["started_at"] for client, slug, name in names}
    assert sorted(began, key=lambda name: began[name]) == ["holder", "single", "many-1", "many-2", "many-3"]


def test_where_the_operator_lets_it_each_publication_is_checked(start_hub) -> None:
    hub = start_hub("--check-published")
    push_checkable(hub.api, "by-itself")
    assert until(hub.api, hub.owner, "by-itself")["badge"] == "checked"


def test_as_many_wait_as_there_is_room_for(hub: RunningHub) -> None:
    for name in ("first", "second"):
        push_checkable(hub.api, name)
    hub_owner = hub.owner
    hub.stop()

    async def ask() -> None:
        room = Hub(Settings(hub.data_dir, waiting_checks=1, database_url=hub.variables.get("PRIME_HUB_DATABASE_URL")))
        await room.open()
        try:
            owner = await room.accounts.user(hub_owner)
            await room.checks.ask(owner, owner.slug, "first", "latest")
            await room.checks.ask(owner, owner.slug, "first", "latest")
            with pytest.raises(TooMany, match="1 checks wait on this Hub already"):
                await room.checks.ask(owner, owner.slug, "second", "latest")
        finally:
            await room.close()

    asyncio.run(ask())
    hub.start()
    assert until(hub.api, hub.owner, "first")["badge"] == "checked", "it waited for the Hub"
    assert read(hub.api, hub.owner, "second")["state"] == "none"


def test_the_button_of_the_page(module_hub: RunningHub) -> None:
    browser = owner_of(module_hub).browser
    push_checkable(module_hub.api, "pressed")
    path = f"{PAGE}/{module_hub.owner}/pressed/check"
    shown = browser.submit(path, path)
    assert shown.status == 200 and ("Being checked" in shown.text or "Checked by this Hub" in shown.text)
    assert until(module_hub.api, module_hub.owner, "pressed")["badge"] == "checked"


@pytest.mark.parametrize("name", ["badge.svg", "check"])
def test_a_version_is_named_by_its_number(module_hub: RunningHub, name: str) -> None:
    push_checkable(module_hub.api, f"numbered-{name[:5]}")
    path = f"{module_hub.url}{PAGE}/{module_hub.owner}/numbered-{name[:5]}/{name}"
    assert httpx.get(path, params={"version": "0.1.0"}, trust_env=False).status_code == 200
    assert httpx.get(path, params={"version": "9.9"}, trust_env=False).status_code == 404
