"""Search within the index: what ranks first, pages, privacy in the counts, and documents that follow every change."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.conftest import HubFactory, RunningHub
from tests.hub.pushing import push


def look(client: httpx.Client, search: str = "", **query: Any) -> tuple[list[str], int]:
    """The names that are found, in their order, and how many there are."""
    answer = client.get("/environmentshub/", params={"search": search, **query})
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    return [f"{row['owner']['name']}/{row['name']}" for row in rows["data"]], rows["total_count"]


@pytest.fixture(scope="module")
def library(module_hub: RunningHub) -> RunningHub:
    """Environments of an account `lib` and their texts."""
    lib = module_hub.client(module_hub.add_user("lib"))
    push(
        lib,
        "chess",
        metadata={"description": "A board game", "tags": ["games", "hard"]},
        files={"README.md": b"# Chess\n\nCastling."},
    )
    push(lib, "chess-puzzles", metadata={"description": "Mate in two", "tags": ["Games"]})
    push(lib, "openings", metadata={"description": "For chessplayers", "tags": ["train"]})
    push(
        lib,
        "endings",
        metadata={"description": "Late positions"},
        files={"README.md": b"Better at chess in 30 days.\n\nZugzwang!"},
    )
    push(lib, "hidden-chess", visibility="PRIVATE", metadata={"tags": ["games"]})
    return module_hub


def test_the_name_first_then_what_is_said_of_it_then_the_readme(library: RunningHub) -> None:
    nobody = library.client()
    ranked = ["lib/chess-puzzles", "lib/chess", "lib/openings", "lib/endings"]
    assert look(nobody, "chess", owner="lib") == (ranked, 4)
    for size in (1, 2, 3):
        pages = [look(nobody, "chess", owner="lib", limit=size, offset=start) for start in range(0, 6, size)]
        assert [name for names, _ in pages for name in names] == ranked
        assert {total for _, total in pages} == {4}
    assert look(nobody, "zugzw")[0] == look(nobody, "DAYS chess zugzwang")[0] == ["lib/endings"]
    assert look(nobody, "lib castling")[0] == ["lib/chess"]
    assert look(nobody, "chesspuzzles")[0] == look(nobody, "chesspuz")[0] == ["lib/chess-puzzles"]
    assert look(nobody, "chess castling zugzwang") == ([], 0)


def test_orders_with_a_search(library: RunningHub) -> None:
    nobody = library.client()
    by_name = ["lib/chess", "lib/chess-puzzles", "lib/endings", "lib/openings"]
    assert look(nobody, "chess", sort_by="name", sort_order="asc")[0] == by_name
    assert look(nobody, "chess", sort_by="updated_at")[0] == [
        "lib/endings",
        "lib/openings",
        "lib/chess-puzzles",
        "lib/chess",
    ]
    assert look(nobody, "chess", sort_by="updated_at", sort_order="asc", limit=2)[0] == [
        "lib/chess",
        "lib/chess-puzzles",
    ]
    stan = library.client(library.add_user("stan"))
    assert stan.put("/environmentshub/lib/endings/star").is_success
    assert look(stan, "chess", sort_by="stars", limit=1)[0] == ["lib/endings"]
    assert look(stan, "chess", starred_only=True) == (["lib/endings"], 1)


def test_tags_and_facets(library: RunningHub) -> None:
    nobody = library.client()
    assert look(nobody, tags=["GAMES"], owner="lib") == (["lib/chess-puzzles", "lib/chess"], 2)
    assert look(nobody, "board", tags=["games", "hard"]) == (["lib/chess"], 1)

    def facets(client: httpx.Client, **query: Any) -> dict[str, int]:
        groups = client.get("/environmentshub/facets", params={"owner": "lib", **query}).json()["data"]
        assert [group["group"] for group in groups] == ["Domain", "Use case", "Difficulty", "Format"]
        return {one["tag"]: one["count"] for group in groups for one in group["tags"]}

    assert facets(nobody) == {"math": 1, "games": 2, "train": 1, "eval": 1, "hard": 1}
    assert facets(nobody, tags=["games"]) == {"games": 2, "hard": 1}
    assert facets(nobody, search="castling") == {"games": 1, "hard": 1}
    assert facets(nobody, search="%") == {}


@pytest.mark.parametrize(
    ("search", "found"),
    [
        *[(signs, 0) for signs in ('"', "'", "\\", "()", "&!", "=public", "NOT", "NEAR(chess openings)", "t0 & !")],
        *[("chess'", 4), ("chess*", 4), ('chess" OR "castling', 0), ("{name}:chess", 0), ("chess AND castling", 0)],
        *[("chess -castling", 1), ("^chess castling", 1)],
    ],
)
def test_signs_are_no_question_to_the_database(library: RunningHub, search: str, found: int) -> None:
    assert look(library.client(), search, owner="lib")[1] == found


@pytest.mark.parametrize(
    ("search", "found"), [("puzzle", 1), ("puzzl", 1), ("positions position", 1), ("gam", 2), ("c o", 0)]
)
def test_beginnings_and_plurals(library: RunningHub, search: str, found: int) -> None:
    assert look(library.client(), search, owner="lib")[1] == found


def test_the_order_of_a_list_without_a_search(library: RunningHub) -> None:
    newest_first = look(library.client(), owner="lib")[0]
    assert look(library.client(), owner="lib", sort_order="asc")[0] == newest_first[::-1]
    assert look(library.client(), owner="lib", visibility="")[0] == newest_first


@pytest.mark.parametrize("visibility", ['x") OR ("private', "public' | '=private", '"', "'", "none", "PRIVATE"])
def test_no_filter_widens_what_is_seen(library: RunningHub, visibility: str) -> None:
    for order in ("relevance", "name"):
        assert look(library.client(), "chess", visibility=visibility, sort_by=order) == ([], 0)


def test_each_change_of_who_may_see_is_in_the_next_search(hub: RunningHub) -> None:
    owner, nobody = hub.client(hub.add_user("olga")), hub.client()
    friend = hub.client(hub.add_user("fred"))
    push(owner, "glider", metadata={"tags": ["web"]}, files={"README.md": b"A quokka."})

    def seen(*clients: httpx.Client) -> list[int]:
        return [look(client, "quokka")[1] for client in clients]

    assert seen(nobody, friend, owner) == [1, 1, 1]
    owner.patch("/environmentshub/olga/glider", json={"visibility": "PRIVATE"}).raise_for_status()
    assert seen(nobody, friend, owner) == [0, 0, 1]
    assert nobody.get("/environmentshub/facets", params={"search": "quokka"}).json()["data"][0]["tags"] == []
    assert look(owner, "quokka", mine_only=True)[1] == 1 and look(friend, "quokka", mine_only=True)[1] == 0
    team = owner.post("/teams", json={"slug": "gliders"}).json()["data"]
    owner.post("/environmentshub/olga/glider/transfer", json={"to": "gliders"}).raise_for_status()
    assert seen(nobody, friend, owner) == [0, 0, 1]
    owner.post(f"/teams/{team['teamId']}/members", json={"user": "fred", "role": "member"}).raise_for_status()
    assert seen(nobody, friend, owner) == [0, 1, 1]
    assert look(friend, "gliders")[1] == 1 and look(friend, "olga")[1] == 0
    owner.delete(f"/teams/{team['teamId']}/members/fred").raise_for_status()
    assert seen(nobody, friend, owner) == [0, 0, 1]
    push(owner, "glider", "0.2.0", team="gliders", files={"README.md": b"A wombat."})
    assert look(owner, "quokka")[1] == 0 and look(owner, "wombat")[1] == 1
    owner.put("/environmentshub/gliders/glider/@0.2.0/yank", json={}).raise_for_status()
    assert look(owner, "quokka")[1] == 1 and look(owner, "wombat")[1] == 0
    owner.delete("/environmentshub/gliders/glider").raise_for_status()
    assert seen(nobody, friend, owner) == [0, 0, 0]


def test_only_a_publication_brings_an_environment_to_the_top(hub: RunningHub) -> None:
    owner, nobody = hub.client(hub.add_user("otto")), hub.client()
    team = owner.post("/teams", json={"slug": "ottos"}).json()["data"]["slug"]
    for name, version in (("first", "0.1.0"), ("first", "0.2.0"), ("second", "0.1.0"), ("third", "0.1.0")):
        push(owner, name, version, files={"README.md": f"Of {name} {version.replace('.', 'x')}.".encode()})
    base = "/environmentshub/otto/first"
    moment = nobody.get(base + "/@latest").json()["data"]

    def listed() -> tuple[list[str], str]:
        rows = nobody.get("/environmentshub/").json()["data"]
        return [row["name"] for row in rows], next(row["updated_at"] for row in rows if row["name"] == "first")

    names, updated = listed()
    assert names == ["third", "second", "first"] and moment
    for method, path, body in (
        ("PUT", f"{base}/@0.1.0/yank", {}),
        ("PUT", f"{base}/@0.2.0/yank", {}),
        ("DELETE", f"{base}/@0.2.0/yank", None),
        ("DELETE", f"{base}/@0.2.0", None),
        ("PATCH", base, {"visibility": "PRIVATE"}),
        ("PATCH", base, {"visibility": "PUBLIC"}),
        ("POST", f"{base}/transfer", {"to": team}),
    ):
        answer = owner.request(method, path, json=body)
        assert answer.is_success, answer.text
        if (body or {}).get("visibility") != "PRIVATE":
            assert listed() == (names, updated), (method, path)
    assert look(nobody, "0x1x0")[1] == 3 and look(nobody, "0x2x0")[1] == 0, "what is found of it follows all the same"
    push(owner, "first", "0.3.0", team=team)
    assert listed()[0] == ["first", "third", "second"]


def test_an_owners_new_name_is_searched_for(hub: RunningHub) -> None:
    owner = hub.client(hub.add_user("before"))
    push(owner, "kite")
    owner.patch("/user/slug", json={"slug": "after"}).raise_for_status()
    assert look(owner, "after")[0] == ["after/kite"] and look(owner, "before") == ([], 0)


def test_a_hub_that_opens_writes_what_is_missing(start_hub: HubFactory) -> None:
    hub = start_hub()
    push(hub.api, "kite", files={"README.md": b"Flies."})
    push(hub.api, "boat", files={"README.md": b"Swims."})
    hub.stop()
    hub.sql("DELETE FROM search_documents")
    hub.start()
    assert [look(hub.api, word)[1] for word in ("fly", "flies", "swims", "kite")] == [1, 1, 1, 1]
    hub.stop()
    hub.sql("UPDATE meta SET value = 'old' WHERE key = 'search'")
    hub.sql("UPDATE search_documents SET readme = 'outdated'")
    hub.start()
    assert look(hub.api, "outdated")[1] == 0 and look(hub.api, "swims")[1] == 1
