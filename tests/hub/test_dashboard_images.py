"""The pages of images, builds and sandboxes, on a real runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from prime_hub.web.shown import end_of_log, plain
from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.hub.images import DOCKERFILE, SERVER, begin, build, create, held_context, until, wait
from tests.hub.people import Person, owner_of, person
from tests.hub.pushing import push, put

IMAGES, BUILDS, SANDBOXES = "/dashboard/images", "/dashboard/builds", "/dashboard/sandboxes"
LOUD = SERVER.replace(
    'print("server', r'print("\x1b[31mred <b>bold</b>\x1b[0m\nold words\rnew words", flush=True); print("server'
)
BROKEN = DOCKERFILE.replace("COPY server.py .", "COPY no-such-file .")


@pytest.fixture(scope="module")
def me(module_hub: RunningHub) -> Person:
    return owner_of(module_hub)


@pytest.fixture(scope="module")
def ada(module_hub: RunningHub) -> Person:
    return person(module_hub, "ada")


@pytest.fixture(scope="module")
def crew(module_hub: RunningHub, me: Person, ada: Person) -> str:
    """A team of `me`, with ada as a member."""
    made = me.api.post("/teams", json={"slug": "crew", "name": "Crew"})
    assert made.is_success, made.text
    assert me.api.post("/teams/crew/members", json={"user": "ada"}).is_success
    return "crew"


def test_nothing_yet_says_what_to_run(module_hub: RunningHub, ada: Person, crew: str) -> None:
    for path, command in ((IMAGES, "prime images push my-image"), (SANDBOXES, "prime sandbox create my-image")):
        page = ada.browser.get(path)
        assert page.status == 200 and command in page.text and "--team" not in page.text
        assert f"{command} --team crew" in ada.browser.get(f"{path}?team=crew").text
        assert "first page" in ada.browser.get(f"{path}?page=7").text
        assert ada.browser.get(f"{path}?team=nobodys").status == 404
        assert "Sign in" in Browser(module_hub).get(path).text
    assert ada.browser.get(f"{SANDBOXES}?show=some").status == 422


def test_an_image_from_its_build_to_its_end(me: Person, ada: Person) -> None:
    built = build(me.api, "kept", "v1")
    page = me.browser.get(IMAGES)
    for words in ("kept:v1", "Ready", "private", "kB", built["imageDigest"][:19]):
        assert words in page.text, words
    address = f"{IMAGES}/{me.slug}/kept/v1"
    assert address in page.links
    page = me.browser.get(address)
    for words in (
        f"prime sandbox create {me.slug}/kept:v1",
        f"prime/{me.slug}/kept:v1",
        built["imageDigest"],
        "python server.py --port 8000",
        "COPY server.py",
        "is ready after",
    ):
        assert words in page.text, words
    hidden, missing = ada.browser.get(address), ada.browser.get(address.replace("kept", "none"))
    assert hidden.status == 404 and hidden.text == missing.text.replace("none", "kept")
    shown = me.browser.submit(page, f"{address}/visibility")
    assert "Everybody on this Hub may run the image now." in shown.text
    seen = ada.browser.get(address)
    assert seen.status == 200 and "Build log" not in seen.text and "COPY" not in seen.text, "the log is its owner's"
    assert [form.action for form in seen.forms if "/images/" in form.action] == []
    assert ada.browser.post(f"{address}/visibility", visibility="PRIVATE", proof=ada.browser.proof).status == 403
    refused = me.browser.submit(address, f"{address}/delete", confirm="kept")
    assert refused.status == 422 and "Type kept:v1 to delete it." in refused.text
    assert "Only its owner may run" in me.browser.submit(address, f"{address}/visibility").text
    gone = me.browser.submit(address, f"{address}/delete", confirm="kept:v1")
    assert gone.status == 200 and "The image is deleted." in gone.text and "kept:v1" not in gone.links
    assert me.browser.get(address).status == 404


def test_a_build_that_failed_says_why_and_goes(me: Person, ada: Person) -> None:
    failed = build(me.api, "broken", files={"Dockerfile": BROKEN})
    page = me.browser.get(IMAGES)
    assert "Failed" in page.text and failed["errorMessage"] in page.text
    address = f"{BUILDS}/{failed['id']}"
    assert address in page.links
    page = me.browser.get(address)
    assert failed["errorMessage"] in page.text and "Step 4: COPY no-such-file" in page.text
    assert "prime images push broken:latest" in page.text
    assert ada.browser.get(address).status == 404
    assert me.browser.submit(address, f"{address}/delete", confirm="x").status == 422
    gone = me.browser.submit(address, f"{address}/delete", confirm="broken:latest")
    assert "is deleted" in gone.text and "broken" not in gone.text
    # Once there is an image of that name, it goes on its own page only.
    assert build(me.api, "twice")["status"] == "COMPLETED"
    second = build(me.api, "twice", files={"Dockerfile": BROKEN})
    page = me.browser.get(f"{BUILDS}/{second['id']}")
    assert f"{IMAGES}/{me.slug}/twice/latest" in page.links
    fields = {"confirm": "twice:latest", "proof": me.browser.proof}
    refused = me.browser.post(f"{BUILDS}/{second['id']}/delete", **fields)
    assert refused.status == 422 and "on its own page" in refused.text
    assert me.browser.get(f"{IMAGES}/{me.slug}/twice/latest").status == 200


def test_a_build_under_way_is_shown_and_cancelled(me: Person, tmp_path: Path) -> None:
    begun = begin(me.api, "slow")
    assert put(begun["upload_url"], held_context(tmp_path / "gate")).status_code == 200
    assert me.api.post(f"/images/build/{begun['build_id']}/start").is_success
    address = f"{BUILDS}/{begun['build_id']}"
    page = me.browser.get(address)
    assert f"prime images logs -f {begun['build_id']}" in page.text
    done = me.browser.submit(page, f"{address}/cancel")
    assert "The build is cancelled." in done.text and "Cancelled" in done.text
    assert wait(me.api, begun["build_id"])["status"] == "CANCELLED"


def test_a_sandbox_with_its_log(me: Person, ada: Person) -> None:
    assert build(me.api, "loud", files={"server.py": LOUD})["status"] == "COMPLETED"
    box = create(me.api, "loud:latest", name="talker", labels=["night"], environment_vars={"TOKEN": "hush-hush"})
    exposed = me.api.post(f"/sandbox/{box['id']}/expose", json={"port": 8000, "name": "web"})
    assert exposed.is_success
    page = me.browser.get(SANDBOXES)
    assert "talker" in page.text and "Running" in page.text and "loud:latest" in page.text
    address = f"{SANDBOXES}/{box['id']}"
    assert address in page.links
    until_said(me, box["id"], "a warning")
    page = me.browser.get(address)
    for words in (
        f"prime sandbox exec {box['id']} -- ",
        "red <b>bold</b> new words",
        "night",
        "5 minutes",
        "Ends at the latest",
        "Connects everywhere",
        "Uses now",
        "8000 web",
    ):
        assert words in page.text, words
    raw = page.answer.text
    assert "hush-hush" not in raw and "TOKEN" not in raw and "old words" not in raw and "\x1b" not in raw
    assert f"{IMAGES}/{me.slug}/loud/latest" in page.links
    port = next(link for link in page.links if link.startswith("/ports/"))
    opened = me.browser.client.get(f"{me.browser.hub.url}{port}")
    assert opened.json()["status"] == "ok" and "sandbox" in opened.headers["content-security-policy"]
    hidden, missing = ada.browser.get(address), ada.browser.get(f"{SANDBOXES}/{'0' * 24}")
    assert hidden.status == 404 and hidden.text == missing.text.replace("0" * 24, box["id"])
    assert ada.browser.post(f"{address}/delete", proof=ada.browser.proof).status == 404
    gone = me.browser.submit(page, f"{address}/delete")
    assert "The sandbox is deleted" in gone.text and "talker" not in gone.text
    assert "talker" in me.browser.get(f"{SANDBOXES}?show=all").text
    page = me.browser.get(address)
    assert "It was deleted." in page.text and "new words" in page.text, "its last words are kept"
    assert f"{address}/delete" not in [form.action for form in page.forms]


def until_said(me: Person, sandbox_id: str, words: str) -> None:
    """Until its server has printed that."""
    offset = 0
    text = ""
    while words not in text:
        part = me.api.get(f"/sandbox/{sandbox_id}/logs", params={"offset": offset, "wait": 20}).json()
        text, offset = text + part["logs"], part["offset"]
        assert not part["complete"], text


def test_what_ended_a_sandbox(me: Person) -> None:
    built = build(
        me.api, "brief", files={"server.py": "import sys\nprint('x' * 70_000 + '\\nlast words')\nsys.exit(3)\n"}
    )
    assert built["status"] == "COMPLETED"
    box = create(me.api, "brief:latest", name="brief")
    until(me.api, box["id"], "ERROR")
    row = me.browser.get(f"{SANDBOXES}?show=all")
    assert "Failed" in row.text and "ended with code 3" in row.text
    page = me.browser.get(f"{SANDBOXES}/{box['id']}")
    assert "ended with code 3" in page.text and "Exit code 3" in page.text
    assert "last words" in page.text and "The end of a long log" in page.text
    assert len(page.answer.text) < 100_000


def test_what_is_a_teams(me: Person, ada: Person, crew: str) -> None:
    built = build(me.api, "tool", "v1", team_id=crew)
    box = create(me.api, "prime/crew/tool:v1", name="shared", team_id=crew)
    page = ada.browser.get(f"{IMAGES}?team=crew")
    assert "tool:v1" in page.text and f"by {me.slug}" in page.text
    assert "tool:v1" not in ada.browser.get(IMAGES).text
    image = ada.browser.get(f"{IMAGES}/crew/tool/v1")
    assert "COPY server.py" in image.text and "prime sandbox create crew/tool:v1" in image.text
    assert [form.action for form in image.forms if "/images/" in form.action] == [], "a member changes their own only"
    fields = {"proof": ada.browser.proof, "confirm": "tool:v1", "visibility": "PUBLIC"}
    for change in ("visibility", "delete"):
        assert ada.browser.post(f"{IMAGES}/crew/tool/v1/{change}", **fields).status == 403
    assert "shared" in ada.browser.get(f"{SANDBOXES}?team=crew").text
    seen = ada.browser.get(f"{SANDBOXES}/{box['id']}")
    assert seen.status == 200 and f"by {me.slug}" in seen.text
    refused = ada.browser.post(f"{SANDBOXES}/{box['id']}/delete", **fields)
    assert refused.status == 403 and "only they and the team's admins" in refused.text and "Running" in refused.text
    assert ada.browser.get(f"{BUILDS}/{built['id']}").status == 200
    back = me.browser.submit(f"{SANDBOXES}/{box['id']}", f"{SANDBOXES}/{box['id']}/delete")
    assert "Sandboxes of crew" in back.text


def test_logs_as_text() -> None:
    given = "a\x1b[1;31mb\x1b[0m\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x1b(Be\x9b1mf\r\n10%\r20%\r30%\ng\x08h\u202ei\u00a0j\tk\x00"
    assert plain(given) == "abcdef\n30%\ngh" + "i j\tk"
    assert plain("\x1b]never ended") == "" and plain("lost\x1b") == "lost"
    assert plain("\x1b]" * 30_000 + "\x1b[" + "0" * 60_000 + "\r" * 60_000) is not None, "and soon"
    assert end_of_log("short") == ("short", False)
    assert end_of_log("first line\nsecond\nthird", most=10) == ("third", True)
    assert end_of_log("x" * 20, most=5) == ("xxxxx", True)


def test_whose_server_a_private_image_is(me: Person, ada: Person) -> None:
    digest = build(me.api, "served", files={"Dockerfile": DOCKERFILE + "ENV NAME=served\n"})["imageDigest"]
    push(me.api, "serving", metadata={"openenv": {"image": "served:latest", "image_digest": digest}})
    push(ada.api, "claiming", metadata={"openenv": {"image": "served:latest", "image_digest": digest}})
    assert f"privaterun by whoever sees {me.slug}/serving" in me.browser.get(IMAGES).text
    page = me.browser.get(f"{IMAGES}/{me.slug}/served/latest")
    assert f"/dashboard/environments/{me.slug}/serving" in page.links and "claiming" not in page.text
    assert f"that of {me.slug}/serving is public, so everybody" in page.text


def test_a_failed_build_tells_the_whole_command_and_no_folder_of_the_hub(module_hub: RunningHub, me: Person) -> None:
    project = '[project]\nname = "x"\nversion = "1"\n[build-system]\nrequires = []\nbuild-backend = "nothing"\nbackend-path = ["."]\n'
    dockerfile = DOCKERFILE.replace("COPY server.py .", "COPY . .\nRUN pip install .")
    failed = build(me.api, "unbuildable", files={"Dockerfile": dockerfile, "pyproject.toml": project})
    assert failed["status"] == "FAILED"
    page = me.browser.get(f"{BUILDS}/{failed['id']}")
    assert "prime images push unbuildable:latest -c FOLDER" in page.text
    assert "nothing" in page.text and str(module_hub.data_dir) not in page.answer.text
