"""Bad input to a push: each is refused in one sentence, or harmless; nothing is stored, and the Hub's memory stays small.

Bombs unpack to ten gigabytes. What bounds the time of a refusal is the size limits themselves, so that no clock is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub import hostile_archives, hostile_wheels
from tests.hub.hostile_archives import entry, packed
from tests.hub.hostile_wheels import content, zipped
from tests.hub.pushing import Push, push
from tests.hub.test_publishing import visible

MIB = 1 << 20
GROWTH = 200 * MIB


def peak(hub: RunningHub) -> int:
    """The most memory that the Hub's process has had, in bytes."""
    assert hub.process is not None
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub's own temporary folder."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[RunningHub]:
    """A Hub with that folder, which has served one ordinary push."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    try:
        hub = RunningHub(tmp_path_factory.mktemp("hub"))
    finally:
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
    push(hub.api, "ordinary")
    yield hub
    hub.close()


@pytest.fixture(autouse=True)
def _unharmed(target: RunningHub, temporary: Path) -> Iterator[None]:
    """Whatever was sent: memory, temporary folder, blobs and log are as after any other push."""
    before = peak(target)
    yield
    grown = peak(target) - before
    assert grown < GROWTH, f"the Hub's memory grew by {grown / MIB:.0f} MiB"
    assert list(temporary.rglob("*")) == []
    assert target.api.get("/health").status_code == 200
    assert "Traceback" not in target.log


def stored(hub: RunningHub, data: bytes) -> bool:
    digest = hashlib.sha256(data).hexdigest()
    return any(path.name == digest for path in (hub.data_dir / "blobs").rglob("*"))


def told(answer: httpx.Response, words: str) -> None:
    """A refusal that says why, in one line."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:300])
    detail = answer.json()["detail"]
    assert words in detail and "\n" not in detail and detail.isprintable(), detail[:500]
    assert detail.endswith(".") and len(detail) < 600, detail


@pytest.mark.parametrize("kind", hostile_archives.REFUSED)
def test_a_source_archive_that_is_refused(target: RunningHub, kind: str) -> None:
    make, words = hostile_archives.REFUSED[kind]
    one = Push(target.api, "bad-source", archive=make())
    one.run(until=6)
    told(one.finalize_version(), words)
    assert not visible(target, "bad-source")
    assert not stored(target, one.archive)
    assert one.finalize_version().status_code == 404


@pytest.mark.parametrize("kind", hostile_wheels.REFUSED)
def test_a_wheel_that_is_refused(target: RunningHub, kind: str) -> None:
    make, words = hostile_wheels.REFUSED[kind]
    one = Push(target.api, hostile_wheels.NAME, wheel=make())
    one.run(until=3)
    answer = one.finalize_wheel()
    assert answer is not None
    told(answer, words)
    assert not stored(target, one.wheel)
    one.prepare_version()
    one.upload_archive()
    assert "wheel of version 0.1.0 has not been uploaded" in one.finalize_version().json()["detail"]
    assert not visible(target, hostile_wheels.NAME)


def of_text(text: str, words: str) -> str:
    """The words of the refusal of a text: what cannot be kept at all is refused before it is looked at."""
    if "\0" in text:
        return "A NUL character cannot be in a text."
    return words if text.isprintable() or text.encode("utf-8", "ignore").decode() == text else "holds half a character"


@pytest.mark.parametrize("filename", hostile_wheels.FILENAMES)
def test_a_wheels_file_name_that_is_refused(target: RunningHub, filename: str) -> None:
    one = Push(target.api, hostile_wheels.NAME)
    one.resolve()
    answer = one.prepare_wheel(filename=filename)
    told(answer, of_text(filename, "is not the file name of a wheel"))


@pytest.mark.parametrize(
    "filename", ["../../evil.tar.gz", "/etc/evil.tar.gz", "a\nb.tar.gz", "\u202ezg.rat", "a\0.tar.gz"]
)
def test_an_archives_file_name_that_is_refused(target: RunningHub, filename: str) -> None:
    one = Push(target.api, hostile_wheels.NAME)
    one.resolve()
    told(one.prepare_version(filename=filename), of_text(filename, "is not the file name of a source archive"))


UNICODE_NAMES = [
    "my\u200b-env",  # a space of no width
    "m\u0443-env",  # a Cyrillic u
    "\u202evne-ym",
    "\uff4dy-env",  # full width
    "my\u2011env",  # another hyphen
    "my-env\u0301",
    "my-env\n",
    "my-env\0",
    "\u212aey",  # the Kelvin sign, which is k in lower case
    "my\ud800env",
    "..",
    "../evil",
]


@pytest.mark.parametrize("name", UNICODE_NAMES)
def test_an_environments_name_that_is_refused(target: RunningHub, name: str) -> None:
    body = json.dumps({"name": name})
    headers = {"Content-Type": "application/json"}
    told(target.api.post("/environmentshub/resolve", content=body, headers=headers), of_text(name, "environment name"))


UNICODE_VERSIONS = [
    "0.1.0\n",
    " 0.1.0",
    "0.1.0\u2003",
    "0.1.0\u200b",
    "\u0660.\u0661",
    "\uff11.0",
    "1.0.po\u017ft1",
    "1.0\0",
]


@pytest.mark.parametrize("version", UNICODE_VERSIONS)
def test_a_version_that_is_refused(target: RunningHub, version: str) -> None:
    one = Push(target.api, "ordinary")
    one.resolve()
    for answer in (
        one.prepare_wheel(semantic_version=version),
        one.prepare_version(semantic_version=version),
        target.api.post("/environmentshub/check", json={"name": "ordinary", "semantic_version": version}),
    ):
        told(answer, of_text(version, "is not a version"))


def test_a_gitignore_that_names_the_build_record(target: RunningHub) -> None:
    """The Hub reads the record from the archive, whatever an ignore file beside it says."""
    manifest = {"image": "prime/me/ignored:latest", "image_digest": "sha256:" + "b" * 64}
    files = {".gitignore": b"proj/.build.json\n.build.json\n", "proj/.gitignore": b".build.json\n"}
    push(target.api, "ignored", files={**files, "proj/.build.json": json.dumps(manifest).encode()})
    detail = target.api.get(f"/environmentshub/{target.owner}/ignored/@latest").json()["data"]
    assert detail["image"] == {"reference": manifest["image"], "digest": manifest["image_digest"]}


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("deep", b"[" * 100_000 + b"]" * 100_000),
        ("deep-objects", b'{"image":' * 50_000 + b"1" + b"}" * 50_000),
        ("surrogate", b'{"image": "prime/me/\\ud800:latest", "image_digest": "sha256:\\udfff"}'),
        ("zeros", b'{"image": "prime/me/\\u0000:latest", "image_digest": "\\u0000"}'),
        ("backwards", '{"image": "\u202eprime", "image_digest": "\x1b[2J"}'.encode()),
        ("numbers", b'{"image": ' + b"9" * 10_000 + b', "image_digest": NaN}'),
        ("lists", b'{"image": ["x"], "image_digest": {"a": 1}}'),
    ],
)
def test_a_build_record_that_makes_no_sense_names_no_image(target: RunningHub, name: str, manifest: bytes) -> None:
    push(target.api, f"record-{name}", files={"proj/.build.json": manifest})
    detail = target.api.get(f"/environmentshub/{target.owner}/record-{name}/@latest").json()["data"]
    assert not detail["image"] or detail["image"] == {"reference": None, "digest": None}


@pytest.mark.parametrize(
    ("name", "readme"),
    [
        ("zeros", b"# A\0B\n" * 100),
        ("not-text", bytes(range(256)) * 50),
        ("brackets", b"[" * 50_000),
        ("quotes", b">" * 50_000),
        ("stars", b"*a " * 50_000),
        ("lists", b"".join(b" " * level + b"- x\n" for level in range(1_000))),
        ("script", b"<script>alert(1)</script><img src=x onerror=alert(1)>[x](javascript:alert(1))\n"),
    ],
)
def test_a_readme_of_any_bytes_is_shown(target: RunningHub, name: str, readme: bytes) -> None:
    one = push(target.api, f"readme-{name}", files={"README.md": readme})
    page = target.client().get(f"{target.url}/dashboard/environments/{target.owner}/readme-{name}")
    assert page.status_code == 200
    assert not any(bad in page.text for bad in ("<script>alert", "onerror=alert(1)>", 'href="javascript:'))
    detail = target.api.get(f"/environmentshub/{target.owner}/readme-{name}/@latest").json()["data"]
    assert target.client().get(detail["package_url"]).content == one.archive


def test_words_of_a_client_that_a_terminal_obeys(target: RunningHub) -> None:
    zeros = Push(target.api, "words", metadata={"tags": ["ma\0th"]})
    zeros.resolve()
    told(zeros.prepare_wheel(), "A NUL character cannot be in a text.")
    push(target.api, "words", metadata={"description": "a\x1b[2J", "tags": ["math", " "], "urls": {"Home": "x"}})
    rows = target.api.get("/environmentshub/", params={"search": "words"}).json()["data"]
    assert [row["tags"] for row in rows] == [["math"]]
    for path in ("/api/v1/environmentshub/?search=words", f"/dashboard/environments/{target.owner}/words", "/"):
        assert target.client(target.token).get(f"{target.url}{path}", follow_redirects=True).status_code == 200


def test_what_is_in_an_archive_of_an_archive_stays_packed(target: RunningHub) -> None:
    bomb = hostile_archives.bomb_of_one()
    push(target.api, "nested", files={"data/bomb.tar.gz": bomb})
    base = f"/environmentshub/{target.owner}/nested/@latest/inspect"
    assert target.api.get(base, params={"path": "data/bomb.tar.gz"}).json()["data"]["total_bytes"] == len(bomb)
    wheel = zipped(content({"inside.whl": hostile_wheels.bomb_lying()}, name="nested-too"), name="nested-too")
    push(target.api, "nested-too", wheel=wheel)


def test_the_wheels_own_words_count(target: RunningHub) -> None:
    """What a client says of requirements and Python goes by what the wheel says."""
    lies = {"requires_dist": ["evil"], "python_requires": ">=99", "dependencies": ["evil"]}
    wheel = hostile_wheels.told("Requires-Dist: httpx>=0.2\nRequires-Python: >=3.11\n")()
    push(target.api, hostile_wheels.NAME, wheel=wheel, metadata=lies)
    rows = target.client().get(f"{target.url}/{target.owner}/simple/{hostile_wheels.NAME}/", headers={"Accept": JSON})
    assert rows.json()["files"][0]["requires-python"] == ">=3.11"
    detail = target.api.get(f"/environmentshub/{target.owner}/{hostile_wheels.NAME}/@latest").json()["data"]
    assert detail["metadata"]["requires_dist"] == ["httpx>=0.2"]


JSON = "application/vnd.pypi.simple.v1+json"


def test_what_is_like_them_and_in_order_is_published(target: RunningHub) -> None:
    """The rules refuse nothing that a build or a command makes: folders as entries, other alphabets, any order."""
    files = {"README.md": b"# Fine\n", "pyproject.toml": b"[project]\n", "daten/\u00fcber \u65e5\u672c.txt": b"x"}
    folder = entry("daten", b"", tarfile.DIRTYPE)
    archive = packed(folder, *(entry(f"./{name}", data) for name, data in sorted(files.items(), reverse=True)))
    more = (hostile_wheels.member("usual/", b"", 0o040755), hostile_wheels.member("usual/\u00fcber \u65e5\u672c.txt"))
    one = Push(target.api, "usual", archive=archive, wheel=zipped(content(name="usual"), *more, name="usual"))
    one.files = files
    assert one.run().status_code == 200


def test_metadata_that_is_mail_in_mail_is_read_once(target: RunningHub) -> None:
    wheel = zipped(content(metadata=hostile_wheels.nested_mail(), name="mail"), name="mail")
    push(target.api, "mail", wheel=wheel)
    answer = target.client().get(f"{target.url}/{target.owner}/simple/mail/", headers={"Accept": JSON})
    assert answer.json()["files"][0]["core-metadata"]["sha256"]
