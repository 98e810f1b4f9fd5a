"""The way into the pages of this machine's own Hub for its owner, who needs no password."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from prime_cli import browser
from prime_cli.output import out
from prime_core.errors import LocalHubError

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Environments Hub</title>
<meta http-equiv="refresh" content="0;url={address}"><p><a href="{address}">Go on to your Hub</a></p>
"""


def signed_in(data_dir: Path, path: str, print_only: bool) -> None:
    """Open a browser that is signed in as the owner of the Hub in `data_dir`, started when needed; or print the link.

    Raises LocalHubError, APIError.
    """
    from prime_core import local_hub
    from prime_core.api import APIClient
    from prime_core.files import write_atomic

    address = local_hub.ensure_running(data_dir, announce=out.note)
    token = local_hub.owner_token(data_dir)
    if token is None:
        raise LocalHubError(
            f"The owner's token cannot be read from {data_dir / 'owner.token'}.",
            "Run it as the user who started that Hub, or sign in on its page with a password.",
        )
    with APIClient(address.url, token) as client:
        link = f"{client.post('/user/sign-in-link')['data']['url']}&next={quote(path, safe='')}"
    if print_only or not browser.there_is_one():
        out.data(link)
        out.note("It works once, on this machine, within a minute.")
        return
    # Other users of the machine see a program's arguments, so the browser is given a file of which only the owner reads.
    page = data_dir / "open.html"
    write_atomic(page, PAGE.format(address=html.escape(link)), mode=0o600)
    browser.show(page.as_uri())
    out.note(f"Opening {address.url} in your browser. If nothing opens: prime hub open --print")
