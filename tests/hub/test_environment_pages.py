"""An environment's pages: one heading with tabs, its files, its versions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from prime_hub.db.models import Version
from prime_hub.services.blobs import BlobStore
from prime_hub.services.sources import AT_ONCE, Sources
from prime_hub.web.colouring import lines
from prime_hub.web.shown import memory, size
from tests.conftest import RunningHub
from tests.hub.browsing import Browser
from tests.hub.pushing import make_archive, push
from tests.hub.test_pages import Page, browse

PYTHON = b'''def load_environment(seed: int = 1) -> None:
    """<b>Loads</b> & returns."""
    return None  # </code><script>alert(1)</script>
'''
FILES = {
    "code.py": PYTHON,
    "plain.unknown": b"nothing to colour <b>\r\nsecond\r\n",
    "data/deep/rows.csv": b"1\n2\n",
    "data/a.txt": b"x" * 300,
    "data/empty.txt": b"",
    "docs/guide.md": b"# Guide\n\n## Usage\n\nBack to [the README](../README.md), [out](../../../etc/passwd).\n",
    "silent.md": b"<!-- x -->\n",
    "bells.txt": b"\x01" * 262_144,
    "odd.txt": 'if access != "user\u202e \u2066# Check if admin\u2069 \u2066":\x1b[31m\n'.encode(),
    "nul.txt": b"a\0b",
    "latin.txt": "caf\u00e9".encode("latin-1"),
    "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "named.png": b"no picture at all",
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "page.html": b"<script>alert(1)</script>",
    "a <b>&\"' c#d?e%20f.txt": b"odd name",
    "\u540d\u524d/\u30d5\u30a1\u30a4\u30eb.txt": b"name",
}
README = """# Shown

[code](code.py#L2) [the guide](./docs/guide.md#usage) [folder](/data/) [usage](#usage) [gone](missing.py) [up](../../x)
[mail](mailto:a@example.org) [host](//evil.example/x) [none](#nothing)

![A picture](picture.png) [![badge](https://example.org/badge.svg)](https://example.org/ci) ![lost](lost.png)

## Usage

## Usage
"""


@pytest.fixture(scope="module")
def site(module_hub: RunningHub) -> RunningHub:
    push(module_hub.api, "filed-env", files={**FILES, "README.md": README.encode()})
    changed = {**FILES, "README.md": README.encode(), "code.py": PYTHON.replace(b"seed", b"start"), "more.txt": b"m"}
    del changed["nul.txt"]
    push(module_hub.api, "filed-env", "0.2.0", files=changed, metadata={"description": "Another"})
    push(module_hub.api, "closed-env", visibility="PRIVATE")
    reason = {"reason": "Wrong <answers>"}
    yanked = module_hub.api.put(f"/environmentshub/{module_hub.owner}/filed-env/@0.1.0/yank", json=reason)
    assert yanked.is_success
    return module_hub


def page(site: RunningHub, rest: str = "", name: str = "filed-env") -> Page:
    return browse(site, f"/dashboard/environments/{site.owner}/{name}{rest}")


def links(shown: Page) -> list[str]:
    return [link.get("href") or "" for link in shown.named("a")]


def code(shown: Page) -> str:
    """The text of a file as it is on its page, which is what is copied from it."""
    found = re.search(r'<pre class="source".*?<code>(.*)</code></pre>', shown.answer.text, re.DOTALL)
    assert found is not None, shown.answer.text
    inside = Page(shown.answer)
    inside.text = ""
    inside.reset()
    inside.feed(found[1])
    return inside.text


def test_every_tab_has_the_heading_and_keeps_the_version(site: RunningHub) -> None:
    base = f"/dashboard/environments/{site.owner}/filed-env"
    for rest in ("", "/files", "/versions"):
        shown = page(site, f"{rest}?version=0.1.0")
        assert len(shown.named("h1")) == 1 and "v0.1.0" in shown.text
        assert (
            "This is not the newest version" in shown.text and "This version was yanked: Wrong <answers>" in shown.text
        )
        tabs = [link for link in shown.named("a") if link.get("aria-current") == "page"]
        assert [tab["href"] for tab in tabs] == [f"{base}{rest}?version=0.1.0"]
        for other in ("", "/files", "/versions"):
            assert f"{base}{other}?version=0.1.0" in links(shown)
        assert f"{base}{rest}" in links(page(site, rest)), "the newest has an address without a version"


def test_a_folder(site: RunningHub) -> None:
    top = page(site, "/files")
    words = re.sub(r"\s+", " ", top.text)
    assert re.search(r"data/ ?3 ?304 bytes", words) and "picture.png2.0 kB" in words
    order = [words.index(name) for name in ("data/", "docs/", "\u540d\u524d/", "README.md", "code.py")]
    assert order == sorted(order), "folders first"
    data = page(site, "/files/data?version=0.1.0")
    base = f"/dashboard/environments/{site.owner}/filed-env"
    assert f"{base}/files/data/deep?version=0.1.0" in links(data) and f"{base}/files?version=0.1.0" in links(data)
    assert page(site, "/files/").answer.status_code == 200 and "deep/" in page(site, "/files/data/").text
    for missing in (
        "/files/nope",
        "/files/dat",
        "/files/data/a.txt/x",
        "/files/%2e%2e/%2e%2e/etc/passwd",
        "/files/a%00b",
    ):
        gone = page(site, missing)
        assert gone.answer.status_code == 404 and "There is no file or folder" in gone.text


def test_a_file_with_colours_and_lines(site: RunningHub) -> None:
    shown = page(site, "/files/code.py?version=0.1.0")
    assert code(shown) == PYTHON.decode(), "the numbers of lines are not copied"
    spans = [one.get("class") for one in shown.named("span")]
    assert {"c-keyword", "c-comment", "c-string", "c-name"} <= set(spans)
    assert [one["id"] for one in shown.named("span") if one.get("class") == "line"] == ["L1", "L2", "L3"]
    assert "#L2" in links(shown) and "alert(1)" in shown.text
    plain = page(site, "/files/plain.unknown")
    assert code(plain) == "nothing to colour <b>\nsecond\n" and not re.search("class=.c-", plain.answer.text)


def test_what_cannot_be_seen_is_named(site: RunningHub) -> None:
    shown = page(site, "/files/odd.txt")
    for sign in ("U+202E", "U+2066", "U+2069", "U+001B"):
        assert sign in shown.text
    bells = page(site, "/files/bells.txt")
    assert "U+0001 ×20000" in bells.text and "… 242144 more characters" in bells.text
    assert "This is the beginning of a long file" in bells.text and len(bells.answer.text) < 10_000
    assert not set("\u202e\u2066\u2069\x1b") & set(shown.answer.text)


def test_what_a_page_shows_is_bounded() -> None:
    found, cut = lines([("", "a\x01\x01\x02\n"), ("number", "1\x01" * 70_000), ("", ("\n" + "<\x01" * 7_000) * 30)], 99)
    assert cut and len(found) == 32
    assert found[0] == 'a<span class="unseen">U+0001 ×2 U+0002</span>\n'
    assert found[1].endswith('<span class="unseen">… 120000 more characters</span>\n')
    assert found[31] == '<span class="unseen">… 14000 more characters</span>'
    assert 2_000_000 < len("".join(found)) < 3_000_000
    assert lines([("", "a\nb\n")], 2) == (["a\n", "b\n"], False) and lines([("", "a\nb")], 1) == (["a\n"], True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("picture.png", "This is a PNG picture of 2.0 kB"),
        ("nul.txt?version=0.1.0", "This is a binary file of 3 bytes"),
        ("latin.txt", "This is a binary file of 4 bytes"),
        ("data/empty.txt", "This file is empty"),
        ("named.png", "no picture at all"),
    ],
)
def test_files_that_are_no_text(site: RunningHub, name: str, words: str) -> None:
    shown = page(site, f"/files/{name}")
    assert shown.answer.status_code == 200 and words in shown.text


def test_names_that_are_odd(site: RunningHub) -> None:
    names = [name for name in FILES if not name.isascii() or "<" in name]
    for name in names:
        folder, _, last = name.rpartition("/")
        shown = page(site, f"/files/{folder}")
        href = next(link for link in shown.named("a") if (link["href"] or "").endswith(".txt") and "%" in link["href"])
        found = browse(site, href["href"] or "")
        assert last in found.text and code(found) == FILES[name].decode()
        raw = next(link for link in links(found) if "/raw/" in link)
        answer = site.client().get(f"{site.url}{raw}")
        assert answer.content == FILES[name] and answer.headers["content-disposition"].isascii()


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "picture.png", "nul.txt", "data/empty.txt"])
def test_a_raw_file_does_no_harm(site: RunningHub, name: str) -> None:
    base = f"{site.url}/dashboard/environments/{site.owner}/filed-env/raw"
    answer = site.client().get(f"{base}/{name}?version=0.1.0")
    assert answer.content == FILES[name]
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename*=utf-8''")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; sandbox")
    assert int(answer.headers["content-length"]) == len(FILES[name])
    assert site.client().get(f"{base}/data").status_code == 404, "a folder is none"


def test_long_files_are_cut(site: RunningHub) -> None:
    letters = "\u00e9" * 300_000
    files = {
        "wide.py": letters.encode(),
        "long.txt": b"line\n" * 9000,
        **{f"many/{number}.txt": b"" for number in range(2500)},
        # What takes this highlighter longer than a file may take is shown without colours.
        "Slow.java": b"a<" * 60_000,
    }
    push(site.api, "large-env", files=files)
    for name in ("wide.py", "long.txt"):
        shown = page(site, f"/files/{name}", "large-env")
        assert "This is the beginning of a long file" in shown.text
        assert len(code(shown)) < 150_000
    assert code(page(site, "/files/long.txt", "large-env")).count("\n") == 5000
    assert "The first 2000 of 2500 are listed" in page(site, "/files/many", "large-env").text
    slow = page(site, "/files/Slow.java", "large-env")
    assert code(slow) == "a<" * 10_000 + "… 100000 more characters" and 'class="c-' not in slow.answer.text
    raw = site.client().get(f"{site.url}/dashboard/environments/{site.owner}/large-env/raw/wide.py")
    assert raw.content == files["wide.py"]


def test_markdown_is_rendered_and_its_source_can_be_seen(site: RunningHub) -> None:
    guide = page(site, "/files/docs/guide.md?version=0.1.0")
    base = f"/dashboard/environments/{site.owner}/filed-env"
    assert {"id": "readme-usage"} in guide.named("h3")
    assert f"{base}/files/README.md?version=0.1.0" in links(guide)
    assert not any("passwd" in link for link in links(guide))
    source = browse(site, next(link for link in links(guide) if "source=true" in link))
    assert code(source) == FILES["docs/guide.md"].decode()
    assert f"{base}/files/docs/guide.md?version=0.1.0" in links(source)


def test_markdown_without_words_is_a_page_too(site: RunningHub) -> None:
    shown = page(site, "/files/silent.md")
    assert "There is nothing to read in this file as a page" in shown.text and not shown.named("code")
    assert "Show the source" in shown.text and "Show it as a page" not in shown.text
    assert code(page(site, "/files/silent.md?source=true")) == "<!-- x -->\n"


def test_sizes() -> None:
    counts = (None, 1, 999, 1000, 999_949, 999_950, 999_950_000, 5 * 10**12)
    assert [size(count) for count in counts] == [
        "0 bytes",
        "1 byte",
        "999 bytes",
        "1.0 kB",
        "999.9 kB",
        "1.0 MB",
        "1.0 GB",
        "5000.0 GB",
    ]
    # One unit for a limit and what is used of it.
    amounts = (0, 5 << 20, 1 << 29, (1 << 30) - 1, 2 << 30, 2.5 * (1 << 30))
    assert [memory(count) for count in amounts] == ["0 MB", "5 MB", "512 MB", "1 GB", "2 GB", "2.5 GB"]


def test_links_of_a_readme_lead_to_its_files(site: RunningHub) -> None:
    base = f"/dashboard/environments/{site.owner}/filed-env/files"
    shown = page(site, "?version=0.1.0")
    found = {
        text: href for href, text in re.findall(r'<a href="([^"]*)" rel="nofollow[^"]*">([^<]*)</a>', shown.answer.text)
    }
    assert found["code"] == f"{base}/code.py?version=0.1.0#L2"
    assert found["the guide"] == f"{base}/docs/guide.md?version=0.1.0#readme-usage"
    assert found["folder"] == f"{base}/data?version=0.1.0"
    assert found["usage"] == "#readme-usage" and found["mail"] == "mailto:a@example.org"
    assert found["A picture"] == f"{base}/picture.png?version=0.1.0"
    assert not {"gone", "up", "host", "none", "lost"} & found.keys(), "what leads nowhere is no link"
    assert "https://example.org/ci" in links(shown) and "badge" in shown.text
    ids = [one["id"] for one in shown.named("h3")]
    assert ids == ["readme-usage", "readme-usage-1"]
    assert browse(site, found["A picture"]).answer.status_code == 200


def test_downloads_are_offered_where_a_browser_can_have_them(site: RunningHub) -> None:
    for href in [link for link in links(page(site, "/files")) if link.startswith("/api/")]:
        assert site.client().get(f"{site.url}{href}").status_code == 200
    path = f"/dashboard/environments/{site.owner}/closed-env/files"
    shown = browse(site, path, site.token)
    assert not [link for link in links(shown) if link.startswith("/api/")]
    assert f"prime env pull {site.owner}/closed-env@0.1.0" in shown.text
    raw = site.client(site.token).get(f"{site.url}/dashboard/environments/{site.owner}/closed-env/raw/README.md")
    assert raw.status_code == 200 and "private" in raw.headers["cache-control"]


def test_versions(site: RunningHub) -> None:
    shown = page(site, "/versions")
    words = re.sub(r"\s+", " ", shown.text)
    assert "2 versions" in words and "0.2.0 latest" in words and "0.1.0 yanked" in words
    assert "Yanked: Wrong <answers>" in words and f"{len(FILES) + 3} files" in words
    base = f"/dashboard/environments/{site.owner}/filed-env"
    assert f"{base}/changes?from=0.1.0&to=0.2.0" in links(shown)
    form = Browser(site).get(f"{base}/versions").form(f"{base}/changes")
    assert (form.method, form.fields) == ("get", {"from": "0.1.0", "to": "0.2.0"})
    changes = page(site, "/changes?from=0.1.0&to=0.2.0")
    assert "What changed from 0.1.0 to 0.2.0" in changes.text


def test_bytes_that_are_gone(hub: RunningHub) -> None:
    push(hub.api, "lost-env")
    for blob in (hub.data_dir / "blobs" / "sha256").rglob("*"):
        if blob.is_file():
            blob.unlink()
    base = f"{hub.url}/dashboard/environments/{hub.owner}/lost-env"
    assert hub.client().get(base).status_code == 200
    for rest in ("/files", "/files/README.md", "/raw/README.md"):
        answer = hub.client().get(f"{base}{rest}")
        assert answer.status_code == 404 and "missing from this Hub's storage" in answer.text
    assert hub.client().get(f"{base}/versions").status_code == 200
    assert "Traceback" not in hub.log


class Counted(BlobStore):
    """A store that counts how often something is read."""

    reads = 0

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path]:
        self.reads += 1
        async with super().local(key) as path:
            yield path

    async def version(self, number: int, files: dict[str, bytes]) -> Version:
        """A version of these files."""
        data = make_archive(files)
        await self.put_bytes(f"v{number}", data, "An archive")
        return Version(id=str(number), version=f"0.{number}.0", blob=f"v{number}", size=len(data), details={})


async def test_an_archive_is_read_once(tmp_path: Path) -> None:
    blobs = Counted(tmp_path)
    sources = Sources(blobs)
    versions = [await blobs.version(number, {f"{one}.txt": b"" for one in range(9_000)}) for number in range(3)]
    asked = [asyncio.create_task(sources.entries(versions[0])) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert blobs.reads == 1 and [len(one) for one in found if isinstance(one, dict)] == [9_000] * 4
    for version in [*versions, *versions]:
        await sources.entries(version)
    assert blobs.reads == 3, "the newest few are kept, however many files they hold"
    assert await sources.counts(versions) == {"0": 9_000, "1": 9_000, "2": 9_000} and blobs.reads == 3


async def test_counting_is_bounded_by_what_is_unpacked(tmp_path: Path) -> None:
    blobs = Counted(tmp_path)
    sizes = (20, 20, 40, 1)
    versions = [await blobs.version(number, {"a": bytes(size << 20), "b": b""}) for number, size in enumerate(sizes)]
    sources = Sources(blobs)
    assert await sources.counts(versions) == {"0": 2} and blobs.reads == 2
    assert await sources.counts(versions) == {"0": 2, "1": 2} and blobs.reads == 4
    assert await sources.counts(versions) == {"0": 2, "1": 2} and blobs.reads == 5
    assert await sources.counts(versions) == {"0": 2, "1": 2, "3": 2} and blobs.reads == 6
    assert await sources.counts(versions) == {"0": 2, "1": 2, "3": 2} and blobs.reads == 6


async def test_a_reader_who_leaves_while_others_read(tmp_path: Path) -> None:
    blobs = Counted(tmp_path)
    sources = Sources(blobs)
    version = await blobs.version(1, {"a": b"1"})
    _, parts = await sources.raw(version, "a")
    for _ in range(AT_ONCE):
        await sources._reading.acquire()
    waiting = asyncio.create_task(anext(parts))
    await asyncio.wait({waiting}, timeout=0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for _ in range(AT_ONCE):
        sources._reading.release()
    _, parts = await sources.raw(version, "a")
    assert [part async for part in parts] == [b"1"]
