"""What changed between two versions, by the API and by the page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest

from prime_hub.db.models import Environment, Version
from prime_hub.services.catalogue import Catalogue
from prime_hub.services.comparing import Comparing
from prime_hub.services.line_diffs import Steps, TooEntangled, difference
from prime_hub.services.sources import Sources
from tests.conftest import RunningHub
from tests.hub.pushing import make_wheel, push
from tests.hub.test_environment_pages import Counted
from tests.hub.test_pages import browse

OLD = b"".join(b"line %d\n" % number for number in range(40))
NEW = OLD.replace(b"line 20\n", b"line twenty\n<b>new</b> \xe2\x80\xae\n") + b"the end"


def wheel(name: str, version: str, requires: str) -> bytes:
    """A wheel that needs something."""
    made = make_wheel(name, version)
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(made)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info, data + requires.encode() if info.filename.endswith("METADATA") else data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def site(module_hub: RunningHub) -> RunningHub:
    name = "moved-env"
    kept = {"kept.txt": b"the same"}
    push(
        module_hub.api,
        name,
        files={**kept, "code.py": OLD, "gone.txt": b"1", "data.bin": b"\0a", "large.txt": b"a" * 400_000},
        wheel=wheel(name, "0.1.0", "Requires-Dist: one>=1\nRequires-Dist: both\nRequires-Python: >=3.11\n"),
        metadata={"description": "Was <this>", "tags": ["math", "old"]},
    )
    push(
        module_hub.api,
        name,
        "0.2.0",
        files={**kept, "code.py": NEW, "come/new.txt": b"12", "data.bin": b"\0b", "large.txt": b"b" * 400_000},
        wheel=wheel(name, "0.2.0", "Requires-Dist: both\nRequires-Dist: two>=2\nRequires-Python: >=3.12\n"),
        metadata={"description": "Is that", "tags": ["math", "new"]},
    )
    # Of an older line, and published later.
    push(module_hub.api, name, "0.1.1", files={**kept, "code.py": OLD})
    push(module_hub.api, "once-env")
    return module_hub


def changes(site: RunningHub, name: str = "moved-env", **asked: str) -> dict[str, Any]:
    answer = site.client().get(f"/environmentshub/{site.owner}/{name}/changes", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_what_changed(site: RunningHub) -> None:
    told = changes(site, **{"from": "0.1.0", "to": "0.2.0"})
    assert (told["from"]["version"], told["to"]["version"]) == ("0.1.0", "0.2.0")
    rows = {row["path"]: row for row in told["files"]}
    assert list(rows) == sorted(rows) and "kept.txt" not in rows
    assert {path: row["status"] for path, row in rows.items()} == {
        "code.py": "changed",
        "come/new.txt": "added",
        "data.bin": "changed",
        "gone.txt": "removed",
        "large.txt": "changed",
        "pyproject.toml": "changed",
    }
    assert told["counts"] == {"added": 1, "removed": 1, "changed": 4} and told["files_left_out"] == 0
    assert rows["code.py"]["diff"] == (
        "@@ -18,7 +18,8 @@\n line 17\n line 18\n line 19\n-line 20\n+line twenty\n+<b>new</b> \u202e\n line 21\n line 22\n"
        " line 23\n@@ -38,3 +39,4 @@\n line 37\n line 38\n line 39\n+the end\n\\ No newline at end of file\n"
    )
    assert (rows["code.py"]["added_lines"], rows["code.py"]["removed_lines"]) == (3, 1)
    assert (rows["gone.txt"]["size_before"], rows["gone.txt"]["size_after"]) == (1, None)
    reasons = {path: row["no_diff_because"] for path, row in rows.items() if row["no_diff_because"]}
    assert reasons == {"data.bin": "binary", "large.txt": "too_large"}
    assert {row["field"]: (row["removed"], row["added"]) for row in told["metadata"]} == {
        "description": (["Was <this>"], ["Is that"]),
        "tags": (["old"], ["new"]),
        "python": ([">=3.11"], [">=3.12"]),
        "dependencies": (["one>=1"], ["two>=2"]),
    }


def test_the_one_before_is_that_of_the_next_lower_number(site: RunningHub) -> None:
    assert changes(site)["from"]["version"] == "0.1.1" and changes(site)["to"]["version"] == "0.2.0"
    assert changes(site, to="0.1.1")["from"]["version"] == "0.1.0"
    back = changes(site, **{"from": "0.2.0", "to": "0.1.0"})
    assert {row["path"]: row["status"] for row in back["files"]}["gone.txt"] == "added"
    same = changes(site, **{"from": "0.2.0", "to": "0.2.0"})
    assert (same["files"], same["metadata"]) == ([], [])
    first = site.client().get(f"/environmentshub/{site.owner}/once-env/changes")
    assert first.status_code == 404 and "There is no version before 0.1.0 of" in first.json()["detail"]


def test_the_page(site: RunningHub) -> None:
    base = f"/dashboard/environments/{site.owner}"
    page = browse(site, f"{base}/moved-env/changes?from=0.1.0&to=0.2.0")
    words = re.sub(r"\s+", " ", page.text)
    for told in (
        "What changed from 0.1.0 to 0.2.0",
        "4 changed, 1 added, 1 removed.",
        "removed: Was <this>",
        "added: two>=2",
        "<b>new</b> U+202E",
        "Not a text file.",
        "Too large to compare line by line.",
        "no newline at the end of the file",
    ):
        assert told in words, told
    rows = [row.get("class") for row in page.named("tr")]
    assert (rows.count("added"), rows.count("removed")) == (4, 2), "code.py and the number in pyproject.toml"
    links = [link["href"] for link in page.named("a")]
    assert f"{base}/moved-env/files/gone.txt?version=0.1.0" in links
    assert f"{base}/moved-env/files/come/new.txt?version=0.2.0" in links
    assert "That is the same version" in browse(site, f"{base}/moved-env/changes?from=0.2.0&to=0.2.0").text
    assert "There is no version before 0.1.0" in browse(site, f"{base}/once-env/changes").text
    assert browse(site, f"{base}/moved-env/changes?from=7.7.7").answer.status_code == 404


def test_what_a_page_shows_is_bounded(site: RunningHub) -> None:
    push(site.api, "bells-env", files={f"{number}.txt": b"0\n" for number in range(1)})
    push(site.api, "bells-env", "0.2.0", files={f"{number}.txt": b"a\x01" * 30_000 for number in range(1)})
    page = browse(site, f"/dashboard/environments/{site.owner}/bells-env/changes")
    assert "… 40000 more characters" in page.text


def test_many_files_and_what_is_too_much(site: RunningHub) -> None:
    entangled = [b"".join(b"%d\n" % (number * step % 127) for number in range(9000)) for step in (1, 50)]
    old = {f"n/{number}.txt": b"a\n" for number in range(1200)} | {"entangled.txt": entangled[0]}
    new = {f"n/{number}.txt": b"b\n" for number in range(600)} | {"entangled.txt": entangled[1]}
    push(site.api, "many-env", files=old)
    push(site.api, "many-env", "0.2.0", files=new)
    told = changes(site, "many-env")
    assert len(told["files"]) == 1000 and told["files_left_out"] == 202
    assert told["counts"] == {"added": 0, "removed": 600, "changed": 602}
    rows = {row["path"]: row for row in told["files"]}
    assert rows["entangled.txt"]["no_diff_because"] == "entangled"
    assert sum(row["no_diff_because"] == "too_many" for row in told["files"]) > 450
    page = browse(site, f"/dashboard/environments/{site.owner}/many-env/changes")
    assert "202 of them are not listed here" in page.text and "Too different to compare" in page.text


def test_a_difference_is_bounded_by_its_work() -> None:
    steps = Steps(1000)
    found = difference("a\nb\n", "a\nc\n", steps)
    assert list(found.unified()) == ["@@ -1,2 +1,2 @@", " a", "-b", "+c"] and 980 < steps.left < 1000
    with pytest.raises(TooEntangled):
        difference("a\n" * 150, "a\n" * 150 + "b", Steps(1000))
    assert list(difference("", "a", Steps(10)).unified()) == [
        "@@ -0,0 +1 @@",
        "+a",
        "\\ No newline at end of file",
    ]


class Listed:
    """The versions that are compared, by their numbers."""

    def __init__(self, *versions: Version) -> None:
        self._versions = {one.version: one for one in versions}

    async def version(self, environment: Environment, number: str) -> Version:
        return self._versions[number]


async def test_equal_comparisons_are_made_once(tmp_path: Path) -> None:
    blobs = Counted(tmp_path)
    old, new = await blobs.version(1, {"a": b"1\n"}), await blobs.version(2, {"a": b"2\n"})
    comparing = Comparing(cast(Catalogue, Listed(old, new)), Sources(blobs))
    for _ in range(2):
        asked = (comparing.compare(Environment(), old.version, new.version) for _ in range(9))
        found = await asyncio.gather(*asked)
        assert [one.files[0].path for one in found] == ["a"] * 9
        assert blobs.reads == 4, "two lists and two texts"
