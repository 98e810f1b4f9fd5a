"""Addresses in messages and records."""

from __future__ import annotations


def shown_url(url: str) -> str:
    """An address without user, password and query, where keys may stand."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2].split("?")[0]
