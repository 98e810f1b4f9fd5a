"""Templates, and READMEs made harmless."""

from __future__ import annotations

import functools
import hashlib
import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse

from prime_hub import __version__
from prime_hub.db.types import now

if TYPE_CHECKING:  # loaded with the first page, not with the Hub
    import jinja2
    from markdown_it import MarkdownIt
    from markdown_it.renderer import RendererHTML
    from markdown_it.token import Token
    from markdown_it.utils import OptionsDict

FOLDER = Path(__file__).parent
README_CHARACTERS = 500_000

ALLOWED = """
    a abbr b blockquote br code del details div em h1 h2 h3 h4 h5 h6 hr i kbd li ol p pre s span strong sub summary sup
    table tbody td th thead tr ul
"""
TAGS = set(ALLOWED.split())
ATTRIBUTES = {"a": {"href", "title"}, "th": {"align"}, "td": {"align"}, "ol": {"start"}, "abbr": {"title"}}


@functools.cache
def stylesheet() -> tuple[bytes, str]:
    """The stylesheet, and the part of its address that changes with it."""
    data = (FOLDER / "static" / "hub.css").read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:12]


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ago"] = ago
    return environment


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template. Values are escaped unless they come from `readme_html`.

    Every template knows `visitor` (`visitors.Visitor`; None where nobody asked who looks).
    """
    values.setdefault("search", "")
    visitor = getattr(request.state, "visitor", None)
    text = _templates().get_template(name).render(css=stylesheet()[1], program=__version__, visitor=visitor, **values)
    kept = "no-cache" if visitor is None or visitor.account is None else "private, no-store"
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": kept, "Vary": "Authorization, Cookie"})


def error_page(request: Request, status: int, sentence: str) -> HTMLResponse:
    """An error as a page."""
    title = {401: "Log in first", 403: "Not allowed", 404: "Not found", 429: "Too often", 507: "Storage full"}.get(
        status, "That failed"
    )
    return page(request, "error.html", status, title=title, sentence=sentence, code=status)


def ago(moment: datetime) -> str:
    """`3 days ago`."""
    seconds = max(0, int((now() - moment).total_seconds()))
    for name, size in (("year", 31557600), ("month", 2629800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def is_web_address(url: str) -> bool:
    """Whether a browser may be sent there."""
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # `http://[`
        return False


def readme_html(text: str) -> str:
    """Markdown as HTML that can only be read: no script, style, form, frame, picture or odd address scheme."""
    import nh3

    shown = text[:README_CHARACTERS]
    rendered = _markdown().render(shown)
    clean = nh3.clean(
        rendered,
        tags=TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow noopener noreferrer",
        clean_content_tags={"script", "style", "template", "iframe", "object", "noscript"},
    )
    if len(text) > README_CHARACTERS:
        clean += "<p><em>The README is longer than this page shows; pull the environment to read the rest.</em></p>"
    return clean


@functools.cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("heading_open", _heading)
    markdown.add_render_rule("heading_close", _heading)
    return markdown


def _image(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    # A picture from elsewhere would tell its host who reads this page, so it becomes a link to it.
    token = tokens[index]
    source = str(token.attrGet("src") or "")
    label = html.escape(token.content or Path(source.partition("?")[0]).name or "picture")
    if is_web_address(source):
        return f'<a href="{html.escape(source)}">{label}</a>'
    return f"<em>{label}</em>"


def _heading(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, environment: dict[str, Any]
) -> str:
    # The page has its own h1; the README's begin one level below.
    token = tokens[index]
    level = min(int(token.tag[1]) + 1, 6)
    return f"<h{level}>" if token.nesting == 1 else f"</h{level}>\n"
