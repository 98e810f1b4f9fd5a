"""Templates."""

from __future__ import annotations

import functools
import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse

from prime_hub import __version__
from prime_hub.db.types import now
from prime_hub.web import middleware
from prime_hub.web.scores import FILTERS
from prime_hub.web.shown import size

if TYPE_CHECKING:  # loaded with the first page, not with the Hub
    import jinja2

# A page runs our own script besides, which only copies what it is told to; never one that is written into it. What
# strangers sent is never served as a script: it is plain text, and browsers are told not to guess.
POLICY = {"Content-Security-Policy": f"{middleware.POLICY}; script-src 'self'"}
FOLDER = Path(__file__).parent


@functools.cache
def static(name: str) -> tuple[bytes, str]:
    """A file that pages load, and the part of its address that changes with it."""
    data = (FOLDER / "static" / name).read_bytes()
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
    environment.filters["bytes"] = size
    environment.filters.update(FILTERS)
    return environment


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template. Values are escaped unless they are `Markup`.

    Every template knows `visitor` (`visitors.Visitor`; None where nobody asked who looks), and `local`: where runs are looked
    for, without a Hub; empty on one.
    """
    local = getattr(request.app.state, "places", "")
    values.setdefault("house", "prime eval view" if local else "Environments Hub")
    values.setdefault("local", local)
    values.setdefault("search", "")
    values.setdefault("search_kept", [])
    visitor = getattr(request.state, "visitor", None)
    text = rendered(
        name, css=static("hub.css")[1], script=static("hub.js")[1], program=__version__, visitor=visitor, **values
    )
    kept = "private, no-store" if local or (visitor is not None and visitor.account is not None) else "no-cache"
    return HTMLResponse(
        text, status_code=status, headers={"Cache-Control": kept, "Vary": "Authorization, Cookie", **POLICY}
    )


def prepare(*names: str) -> None:
    """Compile templates before they are asked for."""
    for name in names:
        _templates().get_template(name)


def rendered(name: str, **values: Any) -> str:
    """A template with values, which are escaped unless they are `Markup`."""
    return _templates().get_template(name).render(**values)


def error_page(
    request: Request, status: int, sentence: str, way: tuple[str, str] | None = None, sign_in: str | None = None
) -> HTMLResponse:
    """An error as a page: `way` leads on, `sign_in` to what may be there for somebody who is signed in."""
    title = {401: "Sign in first", 403: "Not allowed", 404: "Not found", 429: "Too often", 507: "Storage full"}.get(
        status, "That failed"
    )
    return page(request, "error.html", status, title=title, sentence=sentence, code=status, way=way, sign_in=sign_in)


def ago(moment: datetime) -> str:
    """`3 days ago`."""
    seconds = max(0, int((now() - moment).total_seconds()))
    for name, length in (("year", 31557600), ("month", 2629800), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def is_web_address(url: str) -> bool:
    """Whether a browser may be sent there."""
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # `http://[`
        return False
