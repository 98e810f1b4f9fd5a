"""The lists of environments as pages: searches, filters, orders and pages that keep each other, and what helps who finds nothing."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from prime_hub.services.passages import passage
from prime_hub.services.suggesting import slips
from tests.conftest import HubFactory, RunningHub
from tests.hub.browsing import Browser, Page
from tests.hub.pushing import push

README = b"""# Reading

Long texts. More and more of them, so that a passage is cut at both of its ends, as it should be for a list of them.

> [!NOTE]
> The **hippopotamus** of chapter `three` is [described](https://example.org/animals/hippopotamus.html) at length,
> and so are all of the other animals that live beside the river and are asked for in the questions.
"""


@pytest.fixture(scope="module")
def shelf(module_hub: RunningHub) -> RunningHub:
    """Thirty environments of `lena`, one of which is about something, and a private one."""
    lena = module_hub.client(module_hub.add_user("lena"))
    push(lena, "animals", metadata={"tags": ["reasoning", "zoo"]}, files={"README.md": README})
    push(lena, "secret-rhinoceros", visibility="PRIVATE")
    for number in range(28):
        push(lena, f"board-{number}", metadata={"tags": ["games", "hard"], "description": "Puzzles on a board"})
    module_hub.client(module_hub.add_user("quiet-one"))
    return module_hub


def query(href: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(href).query)


def look(hub: RunningHub, path: str) -> Page:
    return Browser(hub).get(path)


def test_a_page_that_there_is_not_says_how_many_there_are(shelf: RunningHub) -> None:
    for path in ("/?page=99", "/?q=board&page=99", "/dashboard/owners/lena?page=99"):
        shown = look(shelf, path)
        assert "There are only 2 pages." in shown.text and "Nothing has been published" not in shown.text, path
        there = next(link for link in shown.links if ("page", "2") in query(link))
        assert "Page 2 of 2" in look(shelf, there).text
    assert "There is only one page." in look(shelf, "/?q=animals&page=2").text


@pytest.mark.parametrize(
    ("search", "meant"),
    [
        ("hipopotamus", "hippopotamus"),
        ("hippopotamsu", "hippopotamus"),
        ("hippopotamuss", "hippopotamus"),
        ("xippopotamus", "hippopotamus"),
        ("anmals", "animals"),
        ("anmals zoo", "animals zoo"),
        ("lnea boards", "lena boards"),
    ],
)
def test_one_slip_is_put_right(shelf: RunningHub, search: str, meant: str) -> None:
    shown = look(shelf, f"/?q={search}")
    assert "Nothing here matches" in shown.text and f"Did you mean {meant}?" in shown.text
    assert "recommended tags" not in shown.text
    assert look(shelf, next(link for link in shown.links if ("q", meant) in query(link))).text.count("environment")


def test_nothing_is_suggested_that_is_not_there_to_be_seen(shelf: RunningHub) -> None:
    for search in ("secret-rinoceros", "rinoceros", "hippopotamus zebra", "hipo", "xyzzyx", "%"):
        assert "Did you mean" not in look(shelf, f"/?q={search}").text, search
    # Within the filters: it is suggested where it is found.
    assert "Did you mean" not in look(shelf, "/?q=hipopotamus&tag=games").text
    assert "Did you mean" in look(shelf, "/?q=hipopotamus&tag=zoo").text


def test_slips_are_few() -> None:
    assert "prime" in slips("rime") and "rime" in slips("prime") and "rime" not in slips("rime")
    assert max(len(slips("a" * length)) for length in range(4, 21)) < 1_600


def test_why_a_readme_is_found_is_said(shelf: RunningHub) -> None:
    shown = look(shelf, "/?q=hippopotamus")
    assert "In the README:" in shown.text and "The hippopotamus of chapter three is described at length" in shown.text
    assert "<mark>hippopotamus</mark>" in shown.answer.text
    for search in ("animals", "zoo", ""):
        assert "In the README" not in look(shelf, f"/?q={search}").text, search
    assert "In the README:" in look(shelf, "/?q=animals+chapter").text


def test_passages() -> None:
    assert passage("Every wordGame is [one](http://x).", ["game"]).word == "wordGame"
    assert passage("In [a link](http://x/zebra) only", ["zebra"]).word == "zebra"
    assert passage("a Caf\u00e9", ["cafe"]).word == "", "found without its accent, which the text has"
    listed = passage("> [!NOTE]\n> Some[^1] here\n\n- [x] done\n- more\n\n[^1]: end", ["here"])
    assert (listed.before.strip(), listed.after.split()) == ("Some", ["done", "more", "end"])
    long = passage("word " * 500 + "here" + " word" * 500, ["here"])
    assert long.before.startswith("… word") and long.after.endswith("word …") and len(long.before) < 70


def test_filters_order_and_search_keep_each_other(shelf: RunningHub) -> None:
    shown = look(shelf, "/?q=board&sort=name&tag=games")
    tags = [query(link) for link in shown.links if ("tag", "hard") in query(link)]
    wanted = [("q", "board"), ("tag", "games"), ("tag", "hard"), ("sort", "name")]
    assert tags and all(one == wanted for one in tags), "on cards and beside the list"
    assert shown.form("/").fields == {"q": "board", "tag": "games", "sort": "name"}
    again = look(shelf, "/?q=puzzles&tag=games&sort=name")
    assert again.form("/").fields["tag"] == "games"
    # Each filter can be taken away by itself, before the list.
    head = again.answer.text.partition('class="cards"')[0]
    assert '<ul class="chosen"' in head and 'href="/?q=puzzles&amp;sort=name"' in head


def test_a_search_is_not_cut_without_a_word(shelf: RunningHub) -> None:
    assert "maxlength" not in look(shelf, "/").answer.text
    for length, words in ((300, "it has 300 characters; it may have 200"), (5000, "it has 5,000 characters")):
        shown = look(shelf, "/?q=" + "a" * length)
        assert shown.status == 422 and "This search is too long: " in shown.text and words in shown.text
        assert "Nothing has been published" not in shown.text
    nine = "one two three four five six seven eight nine"
    assert "these were left out: nine" in look(shelf, f"/?q={nine}").text


def test_an_address_that_is_wrong_says_which_part(shelf: RunningHub) -> None:
    refused = look(shelf, "/?page=0")
    assert refused.status == 422 and "'page'" in refused.text and "greater than or equal to 1" in refused.text
    order = look(shelf, "/?sort=bogus")
    assert order.status == 422 and "no order 'bogus'" in order.text and "created_at" not in order.text


def test_a_name_leads_to_its_owner(shelf: RunningHub) -> None:
    signed_in, nobody = Browser(shelf), Browser(shelf)
    link = shelf.client(shelf.add_user("looker")).post("/user/sign-in-link").json()["data"]
    signed_in.get(f"{link['path']}?code={link['code']}")
    found = signed_in.get("/?q=quiet-one")
    assert "There is an account quiet-one" in found.text and "/dashboard/owners/quiet-one" in found.links
    assert "There is an account" not in nobody.get("/?q=quiet-one").text, "who is nobody here cannot try out names"
    assert "There is an account" not in signed_in.get("/?q=nobody-at-all").text


def test_an_owners_page_is_searched_sorted_and_turned_as_the_first_one(shelf: RunningHub) -> None:
    base = "/dashboard/owners/lena"
    shown = look(shelf, base)
    assert "Page 1 of 2" in shown.text and "29 environments" in shown.text
    found = look(shelf, f"{base}?q=hippopotamus")
    assert "lena" in found.text and "/dashboard/environments/lena/animals" in found.links
    assert not [link for link in found.links if "board-" in link] and "29 environments" in found.text
    by_name = look(shelf, f"{base}?sort=name&tag=games")
    names = [link.rpartition("/")[2] for link in by_name.links if "/dashboard/environments/" in link]
    assert names == sorted(names) and len(names) == 24
    assert by_name.form(base).fields == {"q": "", "tag": "games", "sort": "name"}
    assert all(link.startswith(base) for link in by_name.links if "tag=" in link or "page=" in link)
    assert "Did you mean animals?" in look(shelf, f"{base}?q=anmals").text


def test_the_first_page_says_what_this_is(shelf: RunningHub) -> None:
    shown = look(shelf, "/")
    assert "let a model play" in shown.text and "/dashboard/start" in shown.links
    start = look(shelf, "/dashboard/start")
    for words in (
        f"prime login --base-url {shelf.url}",
        "prime env push my-env",
        "prime eval run NAME -m baseline/random -n 5",
    ):
        assert words in start.answer.text


def test_who_has_just_signed_up_is_told_what_comes_next(start_hub: HubFactory) -> None:
    hub = start_hub("--sign-up", "open")
    browser = Browser(hub)
    done = browser.sign_up("newcomer")
    assert done.answer.url.path == "/dashboard/start" and "Welcome, newcomer" in done.text
    assert f"prime login --base-url {hub.url}" in done.text
    # Who wanted to go somewhere goes there.
    other = Browser(hub)
    page = other.get("/dashboard/sign-up?next=/dashboard/teams")
    gone = other.submit(page, "/dashboard/sign-up", slug="newcomer-2", password="several words that nobody guesses")
    assert gone.answer.url.path == "/dashboard/teams"
    assert "Welcome" not in Browser(hub).get("/dashboard/start?new=yes").text
