"""Looking things up: list, search, inspect, our own distributions (hub.md §3.5–3.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import make_archive, push


@pytest.fixture(scope="module")
def catalogue(module_hub: RunningHub) -> RunningHub:
    """Three public environments, one private, and one of a second account."""
    push(module_hub.api, "alpha-maths", metadata={"description": "Sums of small numbers", "tags": ["math", "easy"]})
    push(module_hub.api, "beta-code", metadata={"description": "Writes 100% of a_program", "tags": ["coding", "easy"]})
    push(module_hub.api, "gamma-games", metadata={"description": "Wordle", "tags": ["games"]})
    push(module_hub.api, "delta-secret", visibility="PRIVATE", metadata={"tags": ["math"]})
    push(module_hub.client(module_hub.add_user("bob")), "alpha-maths", metadata={"tags": ["math"]})
    return module_hub


def names(hub: RunningHub, client=None, **query: object) -> list[str]:
    answer = (client or hub.client()).get("/environmentshub/", params=query)
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert rows["total_count"] >= len(rows["data"])
    return [f"{row['owner']['name']}/{row['name']}" for row in rows["data"]]


def test_the_list_holds_what_the_caller_may_see(catalogue: RunningHub) -> None:
    me = catalogue.owner
    public = {f"{me}/alpha-maths", f"{me}/beta-code", f"{me}/gamma-games", "bob/alpha-maths"}
    assert set(names(catalogue)) == public
    assert set(names(catalogue, catalogue.api)) == public | {f"{me}/delta-secret"}
    assert set(names(catalogue, catalogue.api, visibility="PRIVATE")) == {f"{me}/delta-secret"}
    assert set(names(catalogue, visibility="PRIVATE")) == set()
    assert set(names(catalogue, catalogue.api, mine_only=True)) == {name for name in public if "bob" not in name} | {
        f"{me}/delta-secret"
    }
    assert names(catalogue, mine_only=True) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"search": "WORDLE"}, {"gamma-games"}),
        ({"search": "small sums"}, {"alpha-maths"}),
        ({"search": "100%"}, {"beta-code"}),
        ({"search": "a_p"}, {"beta-code"}),
        ({"search": "%"}, set()),
        ({"search": "games"}, {"gamma-games"}),
        ({"search": "no such thing"}, set()),
        ({"tags": ["easy"]}, {"alpha-maths", "beta-code"}),
        ({"tags": ["easy", "Coding"]}, {"beta-code"}),
        ({"tags": ["hard"]}, set()),
    ],
)
def test_search_and_filters(catalogue: RunningHub, query: dict[str, object], expected: set[str]) -> None:
    found = names(catalogue, owner=catalogue.owner, **query)
    assert {name.split("/")[1] for name in found} == expected


def test_by_its_id(catalogue: RunningHub) -> None:
    for name, seen in (("alpha-maths", (200, 200)), ("delta-secret", (404, 200))):
        found = catalogue.api.get(f"/environmentshub/{catalogue.owner}/{name}/@latest").json()["data"]
        asked = {"id": found["id"]}
        answers = [client.post("/environmentshub/lookup", json=asked) for client in (catalogue.client(), catalogue.api)]
        assert tuple(answer.status_code for answer in answers) == seen
        assert answers[1].json()["data"] == {"id": found["id"], "owner": catalogue.owner, "name": name}
    assert catalogue.client().post("/environmentshub/lookup", json={"id": "none"}).status_code == 404


def test_sorting_and_pages(catalogue: RunningHub) -> None:
    me = catalogue.owner
    ordered = names(catalogue, owner=me, sort_by="name", sort_order="asc")
    assert ordered == [f"{me}/alpha-maths", f"{me}/beta-code", f"{me}/gamma-games"]
    assert names(catalogue, owner=me, sort_by="name", sort_order="desc") == ordered[::-1]
    assert names(catalogue, owner=me, sort_by="created_at", sort_order="asc") == ordered
    assert names(catalogue, owner=me, sort_by="name", sort_order="asc", limit=1, offset=1) == ordered[1:2]
    refused = catalogue.client().get("/environmentshub/", params={"sort_by": "owner_id"})
    assert refused.status_code == 422 and "use name, created_at, updated_at" in refused.json()["detail"]


def test_wrong_tokens_get_nothing_rather_than_less(catalogue: RunningHub) -> None:
    refused = catalogue.client("prime_wrong").get("/environmentshub/")
    assert refused.status_code == 401 and "prime login" in refused.json()["detail"]


def test_inspect(catalogue: RunningHub) -> None:
    one = push(catalogue.api, "looked-into", files={"data/deep/rows.csv": b"1\n2\n", "data/b.txt": b"x" * 300})
    base = f"/environmentshub/{catalogue.owner}/looked-into/@0.1.0/inspect"
    top = catalogue.client().get(base).json()["data"]
    assert [entry["name"] for entry in top["entries"]] == ["data", "README.md", "looked_into.py", "pyproject.toml"]
    assert top["entries"][0] == {"name": "data", "path": "data", "is_directory": True, "size": None}
    folder = catalogue.client().get(base, params={"path": "data"}).json()["data"]
    assert [entry["path"] for entry in folder["entries"]] == ["data/deep", "data/b.txt"]
    file = catalogue.client().get(base, params={"path": "data/b.txt", "max_bytes": 100}).json()["data"]
    assert file == {
        "kind": "file",
        "path": "data/b.txt",
        "content": "x" * 100,
        "truncated": True,
        "total_bytes": 300,
    }
    readme = catalogue.client().get(base, params={"path": "README.md"}).json()["data"]
    assert readme["content"].encode() == one.files["README.md"]
    missing = catalogue.client().get(base, params={"path": "nope"})
    assert missing.status_code == 404 and "'nope'" in missing.json()["detail"]


def test_the_official_command_is_told_of_no_wheel_of_a_private_environment(catalogue: RunningHub) -> None:
    address = f"/environmentshub/{catalogue.owner}/delta-secret/@latest"
    ours = catalogue.api.get(address).json()["data"]
    official = catalogue.api.get(address, headers={"User-Agent": "prime-cli/0.18.0 python/3.11.7"}).json()["data"]
    assert ours["wheel_url"] and ours["simple_index_url"]
    assert official["wheel_url"] is None and official["simple_index_url"] is None
    assert official["install_index_url"] is None and official["package_url"]


def test_our_own_distributions(start_hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.hub.pushing import make_wheel

    wheel = make_wheel("verifiers", "0.1.100")
    (tmp_path / "verifiers-0.1.100-py3-none-any.whl").write_bytes(wheel)
    (tmp_path / "notes.txt").write_text("not a wheel")
    monkeypatch.setenv("PRIME_HUB_WHEELS", str(tmp_path))
    hub = start_hub()
    rows = hub.client().get("/distributions").json()["distributions"]
    assert [(row["name"], row["version"], row["filename"]) for row in rows] == [
        ("verifiers", "0.1.100", "verifiers-0.1.100-py3-none-any.whl")
    ]
    assert hub.client().get(rows[0]["url"]).content == wheel
    missing = hub.client().get("/distributions/..%2f..%2fsecret.key")
    assert missing.status_code == 404


def test_hostile_archives_are_refused(module_hub: RunningHub) -> None:
    import gzip
    import io
    import tarfile

    from tests.hub.pushing import Push

    def with_link() -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            link = tarfile.TarInfo("README.md")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        return buffer.getvalue()

    def bomb() -> bytes:
        member = tarfile.TarInfo("zeros.bin")
        member.size = 2 << 30
        return gzip.compress(member.tobuf() + bytes(1 << 20))

    hostile = {
        "climbs": (make_archive({"../../evil.py": b"x"}), "outside its folder"),
        "absolute": (make_archive({"/etc/evil": b"x"}), "outside its folder"),
        "links": (with_link(), "is a link"),
        "noise": (b"not an archive at all", "not a complete .tar.gz"),
        "bomb": (bomb(), "unpacks to more than"),
        "crowd": (make_archive({f"{number}.py": b"" for number in range(20_001)}), "more than 20000 entries"),
    }
    for name, (archive, words) in hostile.items():
        one = Push(module_hub.api, f"hostile-{name}", archive=archive)
        one.run(until=6)
        refused = one.finalize_version()
        assert refused.status_code == 422 and words in refused.json()["detail"], (name, refused.text)
        assert "\n" not in refused.json()["detail"]
        assert module_hub.api.get(f"/environmentshub/{module_hub.owner}/{one.name}/@latest").status_code == 404
