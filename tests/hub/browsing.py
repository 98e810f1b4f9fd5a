"""A browser, as far as the Hub's pages need one: cookies, links, and forms that are sent as the page has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import httpx

from tests.conftest import RunningHub
from tests.support.databases import everything

PASSWORD = "correct horse battery staple"


@dataclass
class Form:
    """A form of a page: where it goes, and what is filled in already."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What is on a page; on every one, an id is given once, and what refers to one finds it."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.status = answer.status_code
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._text = ""
        self._form: Form | None = None
        self._select = ""
        self._ids: list[str] = []
        self._referred: set[str] = set()
        self.feed(answer.text)
        assert len(self._ids) == len(set(self._ids)), f"an id is there twice: {sorted(self._ids)}"
        assert self._referred <= set(self._ids), f"not there: {self._referred - set(self._ids)}"

    @property
    def text(self) -> str:
        """Its words, with single spaces."""
        return " ".join(self._text.split())

    def form(self, action: str, **having: str) -> Form:
        """The form that goes there, and has these values."""
        for one in self.forms:
            if one.action == action and having.items() <= one.fields.items():
                return one
        raise AssertionError(f"no form goes to {action} with {having}: {[one.action for one in self.forms]}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._ids += [given["id"]] if "id" in given else []
        self._referred |= {given[name] for name in ("for", "aria-describedby", "aria-labelledby") if name in given}
        if tag == "a":
            self.links.append(given.get("href", ""))
        if tag == "form":
            self._form = Form(given["action"], given.get("method", "get"))
            self.forms.append(self._form)
        if self._form is None:
            return
        name = given.get("name", "")
        if tag == "input" and name and (given.get("type") != "radio" or "checked" in given):
            self._form.fields[name] = given.get("value", "")
        if tag == "select":
            self._select = name
        if tag == "option" and ("selected" in given or self._select not in self._form.fields):
            self._form.fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        if tag in ("dt", "dd", "p", "li", "td"):
            self._text += " "

    def handle_data(self, data: str) -> None:
        self._text += data


class Browser:
    """One browser at one Hub. Redirects are followed, as browsers do."""

    def __init__(self, hub: RunningHub, **headers: str) -> None:
        self.hub = hub
        self.client = hub.client()
        self.client.headers.update({"Accept": "text/html", "User-Agent": "Test browser", **headers})
        self.client.follow_redirects = True

    def get(self, path: str) -> Page:
        """Open a page."""
        return Page(self.client.get(f"{self.hub.url}{path}"))

    def post(self, path: str, **fields: Any) -> Page:
        """Send fields to an address, whatever page they are from."""
        return Page(self.client.post(f"{self.hub.url}{path}", data=fields))

    def submit(self, page: str | Page, action: str, having: dict[str, str] | None = None, **fields: Any) -> Page:
        """Open a page, fill its form in, send it."""
        shown = self.get(page) if isinstance(page, str) else page
        form = shown.form(action, **(having or {}))
        assert form.method == "post"
        return self.post(action, **{**form.fields, **fields})

    def sign_up(self, slug: str, password: str = PASSWORD, **fields: str) -> Page:
        """Make an account by the page."""
        return self.submit("/dashboard/sign-up", "/dashboard/sign-up", slug=slug, password=password, **fields)

    def sign_in(self, slug: str, password: str = PASSWORD, target: str = "/") -> Page:
        """Sign in by the page."""
        return self.submit(f"/dashboard/sign-in?next={target}", "/dashboard/sign-in", slug=slug, password=password)

    @property
    def signed_in(self) -> bool:
        """Whether pages know who looks."""
        return "Sign out" in self.get("/").text

    @property
    def proof(self) -> str:
        """What a form of this browser carries."""
        return self.get("/dashboard/account").form("/dashboard/account/profile").fields["proof"]


def moment(days: float = 0) -> str:
    """A moment so many days from now, as both databases read it in a statement; quoted."""
    return f"'{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}'"


def dump(hub: RunningHub) -> str:
    """Everything that the database holds."""
    return everything(hub.data_dir)
