"""The pages, read as a browser reads them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest

from tests.conftest import RunningHub
from tests.hub.pushing import make_wheel, push

HOSTILE = """# Title & more

<script>alert(1)</script>
<img src=x onerror=alert(2)>
<iframe src="https://evil.example"></iframe>
<a href="javascript:alert(3)" onclick="alert(4)">click</a>

[link](javascript:alert(5)) [data](data:text/html;base64,PHNjcmlwdD4=) [good](https://example.org/a?b=1&c=2)
![picture](https://evil.example/track.png) ![inline](data:image/svg+xml;base64,AAAA)
![broken](<http://[>) ![broken](http://[x) ![](http://[::1/y.png)
<form action="https://evil.example"><input name=x></form>
<style>body { display: none }</style>
<div style="position:fixed" class="top" id="content">unclosed <b>bold

| a | b |
|---|---|
| 1 | `2 < 3` |

```python
print("<b>&</b>")
```
"""


class Page(HTMLParser):
    """What is on a page: elements with their attributes, and its text."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def browse(hub: RunningHub, path: str, token: str | None = None) -> Page:
    headers = {"Accept": "text/html,application/xhtml+xml"}
    answer = hub.client(token).get(f"{hub.url}{path}", headers=headers)
    page = Page(answer)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    # Nothing is loaded from elsewhere, and nothing runs but our own script.
    assert [(one["src"] or "").partition("?")[0] for one in page.named("script")] == ["/static/hub.js"]
    assert not page.named("img") and not page.named("iframe")
    assert [
        link["href"] for link in page.named("link") if not (link["href"] or "").startswith(("/static/", "data:,"))
    ] == []
    assert not any(name.startswith("on") or name == "style" for _, attributes in page.elements for name in attributes)
    return page


@pytest.fixture(scope="module")
def site(module_hub: RunningHub) -> RunningHub:
    push(
        module_hub.api,
        "shown-env",
        metadata={
            "description": "Shown <b>here</b>",
            "tags": ["math", "a&b"],
            "urls": {"Homepage": "https://example.org/home", "Bad": "javascript:alert(1)", "Broken": "http://["},
            "license": {"text": "MIT"},
        },
    )
    push(module_hub.api, "shown-env", "0.2.0", files={"README.md": HOSTILE.encode()})
    push(module_hub.api, "hidden-env", visibility="PRIVATE")
    return module_hub


def test_an_environment_page(site: RunningHub) -> None:
    page = browse(site, f"/dashboard/environments/{site.owner}/shown-env?version=0.1.0")
    assert page.answer.status_code == 200
    for words in (
        "A test environment",
        "Shown <b>here</b>",
        "v0.1.0",
        "0.2.0",
        f"prime env install {site.owner}/shown-env@0.1.0",
        "a&b",
        "MIT",
        "This is not the newest version",
        f'url = "{site.url}/{site.owner}/simple/"',
        'shown-env = { index = "',
    ):
        assert words in page.text, words
    links = [link["href"] for link in page.named("a")]
    assert "https://example.org/home" in links and "/?tag=a%26b" in links
    assert not any((link or "").startswith("javascript") for link in links)


def test_a_candidate_is_not_called_old(site: RunningHub) -> None:
    for version in ("0.2.0", "0.2.1rc0", "0.1.0"):
        push(site.api, "coming", version)
    base = f"/dashboard/environments/{site.owner}/coming"
    assert "This is a candidate; the newest release is 0.2.0." in browse(site, f"{base}?version=0.2.1rc0").text
    assert "This is not the newest version, which is 0.2.0." in browse(site, f"{base}?version=0.1.0").text
    assert "the newest" not in browse(site, base).text


def test_who_wrote_it_and_what_it_needs(site: RunningHub) -> None:
    said = (
        "Author: Ada Lovelace\nAuthor-email: Bob <bob@example.org>, Ada Lovelace <ada@example.org>, c@example.org\n"
        "License-Expression: Apache-2.0\nRequires-Dist: httpx>=0.27\nRequires-Dist: pytest; extra == 'dev'\n"
    )
    wheel = make_wheel("signed", "0.1.0", headers=said)
    push(site.api, "signed", wheel=wheel)
    page = browse(site, f"/dashboard/environments/{site.owner}/signed")
    words = " ".join(page.text.split())
    assert "Ada Lovelace, Bob, c@example.org" in words and "Apache-2.0" in words and "httpx>=0.27" in words
    assert "pytest" not in words and "bob@" not in words
    assert f"prime fork {site.owner}/signed@0.1.0" in words and "prime eval run signed -m baseline/random -n 5" in words
    usage = browse(site, f"/dashboard/environments/{site.owner}/signed/usage")
    assert f"Usage · {site.owner}/signed" in usage.text


def test_the_newest_version_is_shown_first(site: RunningHub) -> None:
    page = browse(site, f"/dashboard/environments/{site.owner}/Shown_Env")
    assert f"prime env install {site.owner}/shown-env\n" in page.text.replace(" \n", "\n") + "\n"
    assert "This is not the newest version" not in page.text
    versions = re.findall(r"\?version=([\d.]+)", page.answer.text)
    assert versions == ["0.2.0", "0.1.0"]


def test_a_hostile_readme_is_harmless_and_readable(site: RunningHub) -> None:
    page = browse(site, f"/dashboard/environments/{site.owner}/shown-env")
    assert "Title & more" in page.text and "2 < 3" in page.text and 'print("<b>&</b>")' in page.text
    assert "alert(1)" not in page.text and "display: none" not in page.text
    links = [link.get("href") or "" for link in page.named("a")]
    assert "https://example.org/a?b=1&c=2" in links and "https://evil.example/track.png" in links
    assert not any(link.startswith(("javascript", "data:")) for link in links)
    assert len(page.named("form")) == 1 and len(page.named("input")) == 1, "only the page's own search"
    assert len([one for _, one in page.elements if one.get("id") == "content"]) == 1
    assert len(page.named("h1")) == 1


def test_home_lists_and_searches(site: RunningHub) -> None:
    page = browse(site, "/")
    assert "shown-env" in page.text and "hidden-env" not in page.text
    assert "hidden-env" in browse(site, "/", site.token).text
    assert "shown-env" not in browse(site, "/?q=no-such-thing").text
    assert "Nothing here matches" in browse(site, "/?q=%3Cscrapt%3E").text
    assert "shown-env" in browse(site, "/?tag=math").text
    assert "shown-env" in browse(site, f"/?owner={site.owner}").text
    answer = site.client().get(f"{site.url}/dashboard/environments", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (307, "/")


def test_what_is_not_there_is_a_page_too(site: RunningHub) -> None:
    unknown = browse(site, f"/dashboard/environments/{site.owner}/no-such")
    private = browse(site, f"/dashboard/environments/{site.owner}/hidden-env")
    for page in (unknown, private, browse(site, "/no/such/page"), browse(site, "/?page=0")):
        assert page.answer.status_code in (404, 422) and "All environments" in page.text
    assert unknown.text.replace("no-such", "hidden-env") == private.text
    assert browse(site, f"/dashboard/environments/{site.owner}/hidden-env", site.token).answer.status_code == 200
    version = browse(site, f"/dashboard/environments/{site.owner}/shown-env?version=7.7.7")
    assert version.answer.status_code == 404 and "7.7.7" in version.text


def test_an_empty_hub_says_what_to_do(hub: RunningHub) -> None:
    page = browse(hub, "/")
    assert "Nothing has been published yet" in page.text and "prime env push" in page.text


def test_the_stylesheet(site: RunningHub) -> None:
    address = next(link["href"] for link in browse(site, "/").named("link") if "/static/" in (link["href"] or ""))
    answer = site.client().get(f"{site.url}{address}")
    assert answer.headers["content-type"].startswith("text/css") and "immutable" in answer.headers["cache-control"]
    assert "prefers-color-scheme: dark" in answer.text
    assert "url(" not in answer.text and "@import" not in answer.text
