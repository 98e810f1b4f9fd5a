"""Addresses in messages and records."""

from __future__ import annotations

import re

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")


def shown_url(url: str) -> str:
    """An address without user, password, query and fragment, where keys may stand."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    shown = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in shown and not _HOST.fullmatch(authority):  # a password with one of these characters in it
        shown = re.split(r"[?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return scheme + separator + shown.rpartition("@")[2]
