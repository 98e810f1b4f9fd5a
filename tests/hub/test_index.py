"""The package index of an owner: its pages in both forms, read by a parser of ours and by the real uv and pip."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from prime_core.uv import run_uv
from tests.conftest import HubFactory, RunningHub
from tests.core.support import Site, make_wheel, serve_index
from tests.hub.pushing import Push, push

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


class Links(HTMLParser):
    """Every link of a page: its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs))


def wheel_of(tmp_path: Path, name: str, version: str, requires: tuple[str, ...] = (), python: str = "") -> bytes:
    extra = f"\nRequires-Python: {python}" if python else ""
    path = make_wheel(tmp_path, name, f"{version}", requires)
    if extra:
        content = {}
        with zipfile.ZipFile(path) as archive:
            content = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in content.items():
                if member.endswith("/METADATA"):
                    data = data.replace(b"\nName:", extra.encode() + b"\nName:")
                archive.writestr(member, data)
    return path.read_bytes()


def yank(hub: RunningHub, name: str, version: str, reason: str | None = None) -> None:
    answer = hub.api.put(f"/environmentshub/{hub.owner}/{name}/@{version}/yank", json={"reason": reason or ""})
    assert answer.is_success, answer.text


@pytest.fixture(scope="module")
def site(module_hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> RunningHub:
    folder = tmp_path_factory.mktemp("made")
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        push(module_hub.api, "Some_Env", version, wheel=wheel_of(folder, "Some_Env", version, python=">=3.8"))
    yank(module_hub, "some-env", "0.2.0", 'it <counts> "wrong"')
    yank(module_hub, "some-env", "0.3.0")
    push(module_hub.api, "hidden-env", visibility="PRIVATE")
    return module_hub


def get(hub: RunningHub, path: str, token: str | None = None, **headers: str) -> httpx.Response:
    return hub.client(token).get(f"{hub.url}/{hub.owner}/simple/{path}", headers=headers)


def test_json(site: RunningHub) -> None:
    listing = get(site, "", **JSON)
    assert listing.headers["content-type"] == JSON["Accept"]
    assert listing.json() == {"meta": {"api-version": "1.1"}, "projects": [{"name": "some-env"}]}
    page = get(site, "some-env/", **JSON)
    content = page.json()
    assert (content["meta"], content["name"]) == ({"api-version": "1.1"}, "some-env")
    assert content["versions"] == ["0.1.0", "0.2.0", "0.3.0"]
    assert [file["yanked"] for file in content["files"]] == [False, 'it <counts> "wrong"', True]
    for file in content["files"]:
        wheel = site.client().get(urljoin(str(page.url), file["url"]))
        assert hashlib.sha256(wheel.content).hexdigest() == file["hashes"]["sha256"]
        assert len(wheel.content) == file["size"]
        assert file["requires-python"] == ">=3.8"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", file["upload-time"])
        metadata = site.client().get(urljoin(str(page.url), file["url"] + ".metadata"))
        assert file["core-metadata"] == file["data-dist-info-metadata"]
        assert file["core-metadata"] == {"sha256": hashlib.sha256(metadata.content).hexdigest()}
        assert metadata.content.startswith(b"Metadata-Version: 2.1\nRequires-Python: >=3.8\nName: Some_Env\n")


def test_html_says_the_same(site: RunningHub) -> None:
    assert {"href": "some-env/"} in Links(get(site, "").text).found
    page, files = get(site, "some-env/", Accept="text/html"), get(site, "some-env/", **JSON).json()["files"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<meta name="pypi:repository-version" content="1.1">' in page.text
    for link, file in zip(Links(page.text).found, files, strict=True):
        digest = f"sha256={file['core-metadata']['sha256']}"
        expected = {
            "href": f"{file['url']}#sha256={file['hashes']['sha256']}",
            "data-requires-python": ">=3.8",
            "data-core-metadata": digest,
            "data-dist-info-metadata": digest,
        }
        if file["yanked"]:
            expected["data-yanked"] = "" if file["yanked"] is True else file["yanked"]
        assert link == expected


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        ("text/html, application/vnd.pypi.simple.v1+json;q=0.1", "text/html"),
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html"),
        ("application/vnd.pypi.simple.latest+json", "application/vnd.pypi.simple.v1+json"),
        ("application/vnd.pypi.simple.v1+json, text/html;q=0.01", "application/vnd.pypi.simple.v1+json"),
        ("application/vnd.pypi.simple.v1+json;q=0, text/html;q=0.01", "text/html"),
        ("application/vnd.pypi.simple.v9+json, application/vnd.pypi.simple.v1+html;q=x", "text/html"),
    ],
)
def test_the_client_chooses_the_form(site: RunningHub, accept: str, kind: str) -> None:
    for path in ("", "some-env/"):
        assert get(site, path, Accept=accept).headers["content-type"].partition(";")[0] == kind


def test_names_are_sent_on_to_their_normalised_form(site: RunningHub) -> None:
    client = site.client(follow_redirects=True)
    for path in ("Some_Env/", "some.env", "some--env/", "some-env", "SOME-ENV"):
        answer = client.get(f"{site.url}/{site.owner}/simple/{path}", headers=JSON)
        assert answer.status_code == 200 and str(answer.url) == f"{site.url}/{site.owner}/simple/some-env/", path
    assert str(client.get(f"{site.url}/{site.owner}/simple").url) == f"{site.url}/{site.owner}/simple/"
    # By its spelling alone: whether it is there is not told.
    assert get(site, "No_Such/").status_code == get(site, "Hidden_Env/").status_code == 301


def test_what_is_not_there(site: RunningHub) -> None:
    for path in ("no-such/", "hidden-env/", "-/", "%00/", "no%20such/"):
        answer = get(site, path)
        assert answer.status_code == 404, path
        assert "www-authenticate" not in answer.headers
    unknown, private = get(site, "no-such/"), get(site, "hidden-env/")
    assert unknown.text.replace("no-such", "hidden-env") == private.text
    missing = site.client().get(f"{site.url}/nobody/simple/")
    assert missing.status_code == 404 and "no account 'nobody'" in missing.json()["detail"]


def test_head_ranges_and_etags(site: RunningHub) -> None:
    client = site.client()
    base = f"{site.url}/{site.owner}/simple/some-env/"
    page = client.get(base, headers=JSON)
    url = urljoin(base, page.json()["files"][0]["url"])
    for address in (base, url, url + ".metadata"):
        whole = client.get(address, headers=JSON)
        head = client.head(address, headers=JSON)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "content-type", "etag", "cache-control", "vary"):
            assert head.headers[name] == whole.headers[name]
        assert "private" in whole.headers["cache-control"]
        again = client.get(address, headers={**JSON, "If-None-Match": f'"other", W/{whole.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(address, headers={**JSON, "If-None-Match": '"other"'}).status_code == 200
    wheel = client.get(url).content
    part = client.get(url, headers={"Range": "bytes=-7"})
    assert (part.status_code, part.content) == (206, wheel[-7:])
    assert client.get(url, headers={"Range": f"bytes={len(wheel)}-"}).status_code == 416
    # Another form is another thing.
    assert client.get(base, headers={"If-None-Match": page.headers["etag"]}).status_code == 200


def test_a_token_is_the_password_of_basic(site: RunningHub) -> None:
    def ask(path: str, password: str, user: str = "anything", **headers: str) -> httpx.Response:
        sent = base64.b64encode(f"{user}:{password}".encode()).decode()
        address = f"{site.url}/{site.owner}/simple/{path}"
        return site.client().get(address, headers={"Authorization": f"Basic {sent}", **headers})

    assert "hidden_env-0.1.0" in ask("hidden-env/", site.token).text
    assert "hidden_env-0.1.0" in ask("hidden-env/", "", site.token).text
    assert "hidden-env" in ask("", site.token).text
    # A wrong one is told, so that an installer asks for another, also where it takes pages.
    for headers in ({}, {"Accept": "text/html"}):
        refused = ask("some-env/", "prime_wrong", **headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="hub"')
    scoped = site.api.post("/tokens", json={"name": "reads", "scopes": {"environments": "read"}}).json()["data"][
        "token"
    ]
    assert "hidden_env-0.1.0" in ask("hidden-env/", scoped).text
    other = site.api.post("/tokens", json={"name": "runs", "scopes": {"sandboxes": "write"}}).json()["data"]["token"]
    assert ask("hidden-env/", other).status_code == ask("some-env/", other).status_code == 403


def test_the_index_of_a_team(site: RunningHub) -> None:
    member = site.client(site.add_user("mel"))
    stranger = site.client(site.add_user("stan"))
    team = site.api.post("/teams", json={"name": "The Makers", "slug": "makers"}).json()["data"]["teamId"]
    added = site.api.post(f"/teams/{team}/members", json={"user": "mel", "role": "member"})
    assert added.is_success, added.text
    one = Push(member, "made-env", visibility="PRIVATE")
    answer = member.post(
        "/environmentshub/resolve", json={"name": "made-env", "visibility": "PRIVATE", "team_slug": "makers"}
    )
    one.environment_id = answer.json()["data"]["id"]
    for step in one.steps()[1:]:
        step()
    base = f"{site.url}/makers/simple/"
    assert member.get(base, headers=JSON).json()["projects"] == [{"name": "made-env"}]
    file = member.get(f"{base}made-env/", headers=JSON).json()["files"][0]
    assert member.get(urljoin(f"{base}made-env/", file["url"])).content == one.wheel
    for client in (stranger, site.client()):
        assert client.get(base, headers=JSON).status_code == 404
        assert client.get(f"{base}made-env/").status_code == 404
        assert client.get(urljoin(f"{base}made-env/", file["url"])).status_code == 404
        assert client.get(urljoin(f"{base}made-env/", file["url"] + ".metadata")).status_code == 404


def test_names_that_it_does_not_know_are_sent_on_where_the_operator_says_so(
    start_hub: HubFactory, tmp_path: Path, installing: None
) -> None:
    make_wheel(tmp_path / "upstream", "left-pad", "1.0")
    make_wheel(tmp_path / "upstream", "own-env", "9.9")
    with serve_index(tmp_path / "upstream") as upstream:
        hub = start_hub("--upstream-index", upstream.url)
        push(hub.api, "own-env", wheel=wheel_of(tmp_path, "own-env", "0.1.0", ("left-pad",)))
        index = f"{hub.url}/{hub.owner}/simple/"
        sent = hub.client().get(f"{index}left-pad/")
        assert (sent.status_code, sent.headers["location"]) == (302, f"{upstream.url}left-pad/")
        assert hub.client().get(f"{index}own-env/").status_code == 200
        assert hub.client().get(f"{hub.url}/nobody/simple/left-pad/").status_code == 404
        for installer in ("uv", "pip"):
            target = tmp_path / f"with-{installer}"
            install(installer, target, "own-env", "--index-url", index)
            assert versions(target) == {"left_pad": "1.0", "own_env": "0.1.0"}
        assert "own-env" not in {seen.path.split("/")[2] for seen in upstream.seen if seen.path.startswith("/simple/")}


@pytest.mark.parametrize("url", ["nonsense", "ftp://x/simple", "https://user:secret@x/simple", "http://"])
def test_an_upstream_that_is_no_address(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prime_hub", "serve", "--data-dir", str(tmp_path), "--upstream-index", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "not an http(s) address without credentials" in done.stderr


# --- the real installers -------------------------------------------------------------------------------------------


@pytest.fixture
def installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this machine's configuration reaches the installers."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
    yield


@pytest.fixture
def public(tmp_path: Path, installing: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A public index: `left-pad`, and 9.9 of every environment's name."""
    make_wheel(tmp_path / "public", "left-pad", "1.0")
    for name in ("some-env", "hidden-env", "needy-env"):
        make_wheel(tmp_path / "public", name, "9.9")
    with serve_index(tmp_path / "public") as site:
        monkeypatch.setenv("UV_DEFAULT_INDEX", site.url)
        monkeypatch.setenv("PIP_INDEX_URL", site.url)
        yield site


INSTALLERS = ["uv", "pip"]


def install(installer: str, target: Path, *words: str, fails: bool = False) -> str:
    command = [sys.executable, "-m", "uv", "pip"] if installer == "uv" else [sys.executable, "-m", "pip"]
    command += ["install", "--target", str(target), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def versions(target: Path) -> dict[str, str]:
    found = (path.name.removesuffix(".dist-info").split("-") for path in target.glob("*.dist-info"))
    return dict(sorted((name, version) for name, version in found))


def with_token(hub: RunningHub) -> str:
    return f"{hub.url.replace('://', f'://reader:{hub.token}@')}/{hub.owner}/simple/"


@pytest.mark.parametrize("installer", INSTALLERS)
def test_installing_from_it(site: RunningHub, tmp_path: Path, installing: None, installer: str) -> None:
    index = f"{site.url}/{site.owner}/simple/"
    install(installer, tmp_path / "newest", "--index-url", index, "some-env")
    assert versions(tmp_path / "newest") == {"Some_Env": "0.1.0"}, "the others are yanked"
    said = install(installer, tmp_path / "exact", "--index-url", index, "some-env==0.2.0")
    assert versions(tmp_path / "exact") == {"Some_Env": "0.2.0"}
    assert 'it <counts> "wrong"' in said
    install(installer, tmp_path / "none", "--index-url", index, "some-env>=0.2", fails=True)


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_private_one_takes_a_token(site: RunningHub, tmp_path: Path, installing: None, installer: str) -> None:
    install(installer, tmp_path / "in", "--index-url", with_token(site), "hidden-env")
    assert versions(tmp_path / "in") == {"hidden_env": "0.1.0"}
    said = install(
        installer, tmp_path / "out", "--index-url", f"{site.url}/{site.owner}/simple/", "hidden-env", fails=True
    )
    assert "hidden-env" in said and "401" not in said
    wrong = with_token(site).replace(site.token, "prime_wrong")
    said = install(installer, tmp_path / "out", "--index-url", wrong, "hidden-env", fails=True)
    assert "401" in said or "credentials" in said


@pytest.mark.parametrize("installer", INSTALLERS)
def test_what_it_needs_is_read_from_the_metadata_alone(
    start_hub: HubFactory, tmp_path: Path, installing: None, installer: str
) -> None:
    hub = start_hub()
    push(hub.api, "needed-env")
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        needs = ("needed-env",) if version == "0.1.0" else ("needed-env>=2",)
        push(hub.api, "needy-env", version, wheel=wheel_of(tmp_path, "needy-env", version, needs))
    install(installer, tmp_path / "site", "--index-url", f"{hub.url}/{hub.owner}/simple/", "needy-env")
    assert versions(tmp_path / "site") == {"needed_env": "0.1.0", "needy_env": "0.1.0"}
    fetched = re.findall(r"GET /api/v1/files/\S+?/(\S+) 20", hub.log)
    assert len([name for name in fetched if name.endswith(".metadata")]) >= 4, (
        "three of one, and what fits of the other"
    )
    assert len([name for name in fetched if not name.endswith(".metadata")]) == 2, "the wheels that are installed"


def uv(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_uv(list(words), cwd=folder, env=dict(os.environ))


def test_a_uv_project_as_the_page_says(
    site: RunningHub, tmp_path: Path, public: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the page, beside a public index that has a newer package of the name."""
    monkeypatch.delenv("UV_NO_CONFIG")
    page = site.client(site.token).get(f"{site.url}/dashboard/environments/{site.owner}/hidden-env").text
    lines = re.search(r"<code>(\[project\].*?)</code>", page, re.DOTALL)
    assert lines is not None
    import html

    folder = tmp_path / "project"
    folder.mkdir()
    shown = html.unescape(lines[1])
    text = shown.replace("[project]\n", '[project]\nname = "mine"\nversion = "0.1.0"\nrequires-python = ">=3.11"\n')
    (folder / "pyproject.toml").write_text(text.replace("dependencies = [", 'dependencies = ["left-pad", '))
    named = re.findall(r"UV_INDEX_[A-Z0-9_]+", html.unescape(page))
    assert {name.rsplit("_", 1)[1] for name in named} == {"USERNAME", "PASSWORD"}
    refused = uv(folder, "lock")
    assert refused.returncode != 0 and "hidden-env" in refused.stderr
    for name in named:
        monkeypatch.setenv(name, site.token if name.endswith("PASSWORD") else "reader")
    done = uv(folder, "sync")
    assert done.returncode == 0, done.stderr
    site_packages = next((folder / ".venv").glob("lib/python*/site-packages"))
    assert versions(site_packages).items() >= {"hidden_env": "0.1.0", "left_pad": "1.0"}.items()
    assert site.token not in (folder / "uv.lock").read_text()
    assert "hidden-env" not in {seen.path.split("/")[2] for seen in public.seen if seen.path.startswith("/simple/")}


def test_uv_add_with_an_explicit_index(
    site: RunningHub, tmp_path: Path, public: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_NO_CONFIG")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "0.1.0"\nrequires-python = ">=3.11"\ndependencies = []\n\n'
        f'[[tool.uv.index]]\nname = "the-hub"\nurl = "{site.url}/{site.owner}/simple/"\nexplicit = true\n\n'
        '[tool.uv.sources]\nsome-env = { index = "the-hub" }\n'
    )
    done = uv(folder, "add", "some-env", "left-pad")
    assert done.returncode == 0, done.stderr
    site_packages = next((folder / ".venv").glob("lib/python*/site-packages"))
    assert versions(site_packages).items() >= {"Some_Env": "0.1.0", "left_pad": "1.0"}.items()


def test_the_first_request_reads_no_wheel(module_hub: RunningHub) -> None:
    one = push(module_hub.api, "read-before")
    kept = module_hub.sql(
        "SELECT count(*) FROM core_metadata WHERE wheel_sha256 = :wheel", wheel=hashlib.sha256(one.wheel).hexdigest()
    )
    assert kept == [(1,)]
